"""A file of 1 GB from one site's transfer node to another's, over the real link's rate and distance, beside nobody else."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from driving import call, lab

from runs import PLAN, TOP, on, until

sys.path.append(str(TOP / "tests/benchmarks"))
import transfer

SENDER, RECEIVER = "base-dtn01", "ncsa-dtn01"
AROUND = f"{RECEIVER},ncsa-depot01,ncsa-nameserver01,ncsa-nameserver02"
LINK_MB = next(link for link in PLAN["links"] if link["name"] == "base-ncsa")["rate_mbit"] / 8
SIZE = 1_000_000_000
FILE, ARRIVED = "/var/tmp/lsst-test-file", f"/srv/dtn/incoming/{SENDER}"
SEND = f"dtn-send --tries 1 {FILE} {RECEIVER}"
CARD = "lsst-lh"


@pytest.fixture(scope="module")
def far_apart(running, far) -> Iterator[None]:
    """Both nodes converged, NCSA's with what it needs of its site, and a file at Base; afterwards their settings are as they were."""
    assert SENDER in running and far == RECEIVER
    lab("up", "ncsa", "--limit", AROUND)
    done = call("ansible-playbook", "site.yml", f"--limit={AROUND}", timeout=900)
    assert done.rc == 0, done.text[-5000:]
    on(SENDER, f"head -c {SIZE} /dev/urandom >{FILE}")
    yield
    transfer.profile("dtn", (SENDER, RECEIVER))
    on(SENDER, f"rm {FILE}")
    on(RECEIVER, f"rm --force {ARRIVED}/*lsst-test* {ARRIVED}/.*lsst-test*")


def rate() -> float:
    """MB/s of the file in the steady state; it has to arrive as it is."""
    steady = transfer.measure(SEND, (SENDER, RECEIVER), CARD, FILE, ARRIVED).steady
    assert checksum(RECEIVER, f"{ARRIVED}/lsst-test-file") == checksum(SENDER, FILE)
    return steady


def checksum(host: str, path: str) -> str:
    return on(host, f"sha256sum {path}").split()[0]


def test_one_file_fills_the_link_and_only_with_the_nodes_own_settings(far_apart):
    """Nine tenths of what it carries, headers included, once the connection has found its rate; with a plain host's less than half."""
    transfer.profile("dtn", (SENDER, RECEIVER))
    own = rate()
    transfer.profile("default", (SENDER, RECEIVER))
    plain = rate()
    print(f"{own:.1f} MB/s of {LINK_MB:g}, with a plain host's settings {plain:.1f}")
    assert own >= 0.9 * LINK_MB
    assert plain < 0.5 * LINK_MB


def test_a_sender_that_is_killed_half_way_goes_on_where_it_stood(far_apart):
    transfer.profile("dtn", (SENDER, RECEIVER))
    on(RECEIVER, f"rm --force {ARRIVED}/*lsst-test*")
    sent, part = f"cat /sys/class/net/{CARD}/statistics/tx_bytes", f"stat -c %s {ARRIVED}/.lsst-test-file.part"
    before = int(on(SENDER, sent))
    on(SENDER, f"systemd-run --quiet --collect --unit lsst-test-send {SEND}")
    until(lambda: int(on(RECEIVER, part, check=False) or 0) > SIZE / 2, 60, "half of it arrives")
    on(SENDER, "systemctl kill --signal KILL lsst-test-send")
    on(SENDER, SEND)
    assert checksum(RECEIVER, f"{ARRIVED}/lsst-test-file") == checksum(SENDER, FILE)
    assert SIZE < int(on(SENDER, sent)) - before < 1.15 * SIZE
