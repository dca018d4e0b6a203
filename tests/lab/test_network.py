"""Distances, rates and cuts of the links, and that all of it outlives a restart."""

import re
import subprocess
import time

import pytest
from driving import lab, on_network, ssh

from runs import PLAN, TOP, on, podman, until

LINK = next(link for link in PLAN["links"] if link["name"] == "base-ncsa")
STATE = """
ip -4 route show table all | sort
ip rule
ip -4 -br address | sed 's/@if[0-9]*//' | awk '{print $1, $3, $4}' | sort
sysctl net.ipv4.ip_forward
for device in $(ls /sys/class/net | grep ^w-); do tc qdisc show dev $device; tc class show dev $device; tc filter show dev $device; done
"""
# Counts at the card, before any firewall.
RECEIVE = """
import socket, sys, time
source = socket.inet_aton(sys.argv[1])
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as receiver:
    receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
    receiver.bind(("lsst-lh", 0x0800))
    print("ready", flush=True)
    receiver.settimeout(10)
    arrived, first, last = 0, None, None
    try:
        while True:
            packet = receiver.recv(9216)
            if packet[12:16] != source or packet[9] != socket.IPPROTO_UDP:
                continue
            last = time.monotonic()
            first = first or last
            arrived += len(packet)
            receiver.settimeout(1)
    except TimeoutError:
        print(arrived / (last - first))
"""
SEND = """
import contextlib, socket, sys, time
rate, seconds = float(sys.argv[3]), 4.0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind((sys.argv[1], 0))
    sender.connect((sys.argv[2], 9))
    packet, sent, began = bytes(8900), 0, time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        if sent > elapsed * rate:
            time.sleep(0.001)
            continue
        # The far end answers that nobody listens.
        with contextlib.suppress(ConnectionRefusedError):
            sent += sender.send(packet)
"""


def round_trip(host: str, target: str, count: int = 3) -> float | None:
    """The shortest of some pings in ms; None when none came back."""
    text = on(host, f"ping -n -q -c {count} -i 0.3 -W 2 {target}", check=False)
    found = re.search(r"min/avg/max/mdev = ([\d.]+)/", text)
    return float(found[1]) if found else None


@pytest.mark.parametrize("network", ["service", "lhn"])
def test_distance(near, far, network):
    """As far as the plan says, for both ways of a host that has two."""
    assert round_trip(near, on_network(far, network)) == pytest.approx(LINK["rtt_ms"], rel=0.05)


def test_inside_a_site_there_is_no_distance(near, victim):
    assert round_trip(near, on_network(victim, "core")) < 20


def test_rate(near, far):
    """Twice what the link carries is offered; what arrives is what it carries. A busy machine is late, so half of it is enough."""
    link = LINK["rate_mbit"] * 1e6 / 8
    here, there = on_network(near, "lhn"), on_network(far, "lhn")
    command = [str(TOP / "lab/podman"), "exec", far, "python3", "-c", RECEIVE, here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout.readline() == "ready\n"
        podman("exec", near, "python3", "-c", SEND, here, there, str(2 * link))
        rate = float(receiver.stdout.readline())
    assert 0.5 * link < rate < 1.05 * link


def test_cut_and_mend(near, far):
    """A cut link answers nothing, not even that it is cut; hosts on both sides stay in reach; a restart of a gateway mends nothing."""
    target = on_network(far, "service")
    lab("cut", LINK["name"])
    try:
        assert round_trip(near, target) is None
        assert ssh(near, "true").rc == ssh(far, "true").rc == 0
        podman("kill", "lab-gw-base")
        lab("start", "lab-gw-base")
        assert round_trip(near, target) is None
    finally:
        lab("mend", LINK["name"])
    assert round_trip(near, target) == pytest.approx(LINK["rtt_ms"], rel=0.05)


@pytest.mark.parametrize("name", ["lab-gw-base", "lab-gw-ncsa"])
def test_a_gateway_comes_back_as_it_was(near, far, name):
    before = on(name, STATE)
    podman("kill", name)
    podman("start", name)
    until(lambda: on(name, STATE, check=False) == before, 20, f"{name} is as before")
    assert before.count("htb") and "unreachable" in before
    assert until(lambda: round_trip(near, on_network(far, "service")), 20, "the link carries") == pytest.approx(LINK["rtt_ms"], rel=0.05)


def test_a_host_comes_back_as_it_was(victim):
    """Routes, names and the key by which it is known; without a pause for the neighbours to find it again."""
    names = "cat /etc/hosts /etc/resolv.conf /etc/hostname; hostname -f; cat /etc/ssh/ssh_host_ed25519_key.pub; " + STATE
    before = on(victim, names)
    podman("kill", victim)
    began = time.monotonic()
    podman("start", victim)
    until(lambda: ssh(victim, "true").rc == 0, 20, f"{victim} answers")
    assert time.monotonic() - began < 15
    assert on(victim, names) == before
    assert f"{victim}.base.{PLAN['domain']}" in before


def test_everything_at_once_comes_back(victim, near, far):
    """Hosts and gateways of both sites off, then on in the wrong order: the hosts first."""
    names = [victim, near, far, "lab-gw-base", "lab-gw-ncsa"]
    before = {name: on(name, STATE) for name in names}
    podman("kill", *names)
    for name in names:
        podman("start", name)
    for name in names:
        until(lambda name=name: on(name, STATE, check=False) == before[name], 20, f"{name} is as before")
    assert until(lambda: round_trip(near, on_network(far, "lhn")), 20, "the link carries") == pytest.approx(LINK["rtt_ms"], rel=0.05)
