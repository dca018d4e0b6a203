"""A file of 1 GB over the long-haul link's rate and distance; between two nodes of their own, beside the lab."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from runs import TOP

sys.path.append(str(TOP / "tests/benchmarks"))
import transfer

LINK_MB = transfer.RATE_MBIT / 8


@pytest.fixture(scope="module")
def far_apart() -> Iterator[None]:
    with transfer.nodes(1000):
        transfer.distance(200)
        yield


def test_one_file_fills_the_link_and_only_with_the_nodes_own_settings(far_apart):
    """Nine tenths of what it carries, headers included, once the connection has found its rate; with a plain host's less than half."""
    transfer.profile("dtn")
    assert transfer.measure(transfer.dtn_send(1)).steady >= 0.9 * LINK_MB
    transfer.profile("default")
    assert transfer.measure(transfer.dtn_send(1)).steady < 0.5 * LINK_MB
