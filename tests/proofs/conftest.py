"""Which hosts the proofs are about."""

from __future__ import annotations

import pytest

from runs import podman


@pytest.fixture(scope="session")
def base() -> list[str]:
    """The running hosts of the Base site."""
    names = podman("ps", "--format", "{{.Names}}", "--filter", "label=lsst.lab").split()
    found = sorted(name for name in names if name.startswith("base-"))
    assert found, "no Base host runs in the lab. Start it: make base, or lab/lab.py up base"
    return found


@pytest.fixture(scope="session")
def victim(base) -> str:
    """The host on which proofs break things: it serves nobody."""
    return next(name for name in base if "spare" in name)
