"""shaping, by the clock: what goes to a slow destination takes its time, what goes elsewhere does not."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

import pytest

from conftest import changed, restart

PORT = 47000
# Swallows what comes on one connection after the other and says when it has all of it; it is there when systemd-run returns.
SINK = f"""
import os, signal, socket
server = socket.create_server(("0.0.0.0", {PORT}))
if os.fork():
    os._exit(0)
signal.alarm(60)
while True:
    connection = server.accept()[0]
    while connection.recv(1 << 20):
        pass
    connection.sendall(b"!")
    connection.close()
"""
# Prints the seconds that so many bytes take.
SOURCE = f"""
import socket, sys, time
with socket.create_connection((sys.argv[1], {PORT}), 30) as sender:
    began = time.monotonic()
    sender.sendall(bytes(int(sys.argv[2])))
    sender.shutdown(socket.SHUT_WR)
    assert sender.recv(1) == b"!"
    print(time.monotonic() - began)
"""


@contextmanager
def sink(at):
    """Something that takes in what is sent to ``at``."""
    try:
        command = "systemd-run --quiet --collect --unit=lsst-shaping-test --service-type=forking"
        at.check_output(f"{command} python3 -c {shlex.quote(SINK)}")
        yield
    finally:
        at.run("systemctl stop lsst-shaping-test")


def measured(host, to, address: str, size: int) -> float:
    """At how many Mbit/s ``size`` bytes go from ``host`` to ``address`` of ``to``."""
    with sink(to):
        return size * 8e-6 / float(host.check_output(f"python3 -c {shlex.quote(SOURCE)} {address} {size}"))


def rates(host, interface: str) -> dict[str, tuple[float, float]]:
    """What each class of a card is sure of and what it may have at most, in Mbit/s, by tc's number for it."""
    classes = json.loads(host.check_output(f"tc -json class show dev {interface}"))
    return {entry["handle"]: (entry["rate"] * 8e-6, entry["ceil"] * 8e-6) for entry in classes}


def state(host, interface: str) -> str:
    """The card's shaping, without what counts up."""
    shown = f"tc qdisc show dev {interface} root; tc class show dev {interface} | sort; tc filter show dev {interface}"
    return re.sub(r"direct_packets_stat \d+", "", host.check_output(shown))


@pytest.mark.reads
def test_the_card_has_the_rates(host, settings):
    """The running kernel's, not the file's: the card's, those of the destinations, and the rest's."""
    whole, slow = settings["shaping_rate_mbit"], [row["rate_mbit"] for row in settings["shaping_classes"]]
    found = rates(host, settings["shaping_interface"])
    assert found.pop("1:1") == pytest.approx((whole, whole))
    assert found.pop("1:2") == pytest.approx((whole - sum(slow), whole))
    assert [found[f"1:{number}"] for number in range(3, 3 + len(slow))] == [pytest.approx((rate, rate)) for rate in slow]
    assert len(found) == len(slow)


@pytest.mark.reads
def test_every_destination_has_its_class(host, settings):
    filters = host.check_output(f"tc filter show dev {settings['shaping_interface']}")
    for number, row in enumerate(settings["shaping_classes"], 3):
        network = IPv4Network(row["destination"])
        match = f"match {int(network.network_address):08x}/{int(network.netmask):08x} at 16"
        assert f"flowid 1:{number} " in filters and match in filters


@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.writes
def test_who_is_to_get_little_gets_little_and_the_others_more(host, others, settings):
    """Ten times as much by the plan; the machine may be busy, so three times is enough. Nobody gets more than the card's rate."""
    slow = settings["shaping_classes"][0]
    found = {}
    for other in others:
        address = other.check_output("hostname --all-ip-addresses").split()[0]
        is_slow = IPv4Address(address) in IPv4Network(slow["destination"])
        found[is_slow] = measured(host, other, address, size=4_000_000 if is_slow else 20_000_000)
    assert 0.5 * slow["rate_mbit"] < found[True] < 1.3 * slow["rate_mbit"]
    assert 3 * found[True] < found[False] < 1.3 * settings["shaping_rate_mbit"]


@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.disturbs
def test_a_restart_of_the_unit_makes_it_as_it_was(host, settings):
    """And what it begins with is what is there: none, twice the same, or somebody else's."""
    interface = settings["shaping_interface"]
    before = state(host, interface)
    for command in ("true", f"tc qdisc delete dev {interface} root", f"tc qdisc replace dev {interface} root pfifo"):
        host.check_output(f"{command} && systemctl restart shaping")
        assert state(host, interface) == before
    assert "htb" in before


@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.once
@pytest.mark.disturbs
def test_the_shaping_comes_back_with_the_machine(machine, host, settings):
    before = state(host, settings["shaping_interface"])
    assert "htb" in before
    restart(machine)
    assert state(host, settings["shaping_interface"]) == before


@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.once
@pytest.mark.disturbs
def test_a_stopped_unit_is_seen_and_started(host, apply):
    try:
        host.check_output("systemctl stop shaping && systemctl cat shaping")
        assert changed(apply("--check"))
        assert changed(apply())
        assert host.check_output("systemctl is-active shaping") == "active"
    finally:
        host.run("systemctl start shaping")


@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.once
@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shaping_rate_mbit": 16}, "the rates sum up to 96 Mbit/s. Allowed: less than shaping_rate_mbit together, which is 16. Edit"),
        (
            {"shaping_interface": "lsst lh"},
            "'lsst lh' is no name of one. Allowed: up to 15 letters, digits, and _.-, such as lsst-lh. Edit",
        ),
        ({"shaping_rate_mbit": "much"}, "shaping_rate_mbit"),
    ],
)
def test_a_value_that_is_wrong_changes_nothing(host, apply, settings, wrong, words):
    before = state(host, settings["shaping_interface"])
    assert "htb" in before
    done = apply(**wrong)
    assert done.returncode != 0
    assert words in " ".join(done.stdout.split())
    assert state(host, settings["shaping_interface"]) == before
