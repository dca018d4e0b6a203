"""Nothing of the lab leaves the machine, and the machine stays as it was."""

import json
import subprocess
import time
from ipaddress import ip_network

import pytest
from driving import call

from containment import moved, recorded
from runs import PLAN, on, podman
from topology import isolated_subnets

# TEST-NET-2: nobody's, so that a packet to it on the uplink can only be ours.
OUTSIDE = "198.51.100.77"
CONNECT = """
import socket, sys, time
began = time.monotonic()
try:
    socket.create_connection((sys.argv[1], 9), 6, (sys.argv[2], 0) if sys.argv[2:] else None)
    print("connected", 0)
except OSError as error:
    print(type(error).__name__, time.monotonic() - began)
"""


def attempt(where: str | None, *arguments: str) -> tuple[str, float]:
    """How a connection from a container, or from the machine itself, ended, and after how many seconds."""
    python = ("python3", "-c", CONNECT, *arguments)
    text = podman("exec", where, *python) if where else call(*python).text
    kind, seconds = text.split()
    return kind, float(seconds)


@pytest.fixture
def uplink():
    """Watches the machine's way out for packets of the lab; the test calls it for what was seen."""
    device = json.loads(call("ip", "-json", "route", "show", "default").text)[0]["dev"]
    nets = " or ".join(f"net {net}" for net in [PLAN["prefix"], *isolated_subnets(PLAN), f"{OUTSIDE}/32"])
    command = ["tcpdump", "-Z", "root", "-l", "-n", "-i", device, nets]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watcher:
        assert "listening on" in watcher.stderr.readline() + watcher.stderr.readline()

        def seen() -> str:
            time.sleep(0.5)
            watcher.terminate()
            return watcher.stdout.read().strip()

        yield seen
        watcher.terminate()


def unused_subnet() -> str:
    """An address of the plan that belongs to no network."""
    site = PLAN["sites"]["base"]
    taken = [ip_network(net["subnet"]) for net in site["networks"].values()]
    free = (net for net in ip_network(site["prefix"]).subnets(new_prefix=28) if not any(map(net.overlaps, taken)))
    return str(next(free)[1])


def test_an_unused_address_fails_at_once_and_nothing_leaves(near, depot, uplink):
    """From the machine, a host, a host with a way out and a gateway: in no network of the plan, in the last /24 of it, in the DAQ's."""
    last = str(list(ip_network(PLAN["prefix"]).subnets(new_prefix=24))[-1][7])
    for where in (None, near, depot, "lab-gw-base"):
        for target in (unused_subnet(), last):
            kind, seconds = attempt(where, target)
            assert kind == "OSError" and seconds < 0.5, (where, target, kind, seconds)
    for where in (None, near, depot, "lab-gw-base"):
        kind, seconds = attempt(where, "192.168.100.250")
        assert kind == "OSError" and seconds < 0.5, (where, kind, seconds)
    assert uplink() == ""


def test_a_host_that_is_down_is_not_looked_for_outside(near, depot, uplink):
    """An unused address inside a network that exists: the kernel asks for it there, in vain."""
    subnet = ip_network(PLAN["sites"]["base"]["networks"]["core"]["subnet"])
    for where in (None, near, depot):
        assert attempt(where, str(subnet[2]))[0] != "connected"
    assert uplink() == ""


def test_a_host_has_no_way_out(near, uplink):
    kind, seconds = attempt(near, OUTSIDE)
    assert (kind, uplink()) == ("OSError", "")
    assert seconds < 0.5
    assert "default" not in on(near, "ip route")


def test_a_depot_has_a_way_out_for_itself_alone(depot, victim, uplink):
    """It neither forwards nor lets an address of the plan go out."""
    assert "default" in on(depot, "ip route")
    own = on(depot, "ip -4 -br address show lsst-svc").split()[2].split("/")[0]
    assert attempt(depot, OUTSIDE, own)[0] != "connected"
    on(victim, f"ip route add {OUTSIDE} via {own}")
    try:
        assert attempt(victim, OUTSIDE)[0] != "connected"
    finally:
        on(victim, f"ip route del {OUTSIDE}")
    assert uplink() == ""


def test_only_a_depot_knows_where_packages_come_from(near, depot):
    sources = on(depot, "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true")
    named = {word.split("/")[2] for word in sources.split() if word.startswith(("http://", "https://"))}
    names = named & set(on(depot, "cat /etc/hosts").split())
    assert names
    for name in names:
        assert attempt(depot, name)[0] != "gaierror"
        assert attempt(near, name)[0] == "gaierror"


@pytest.mark.parametrize("key", ["fs.file-max", "vm.swappiness", "kernel.panic"])
def test_a_host_cannot_set_what_belongs_to_the_machine(near, key):
    """Written back as it is, so that a lab without the protection comes to no harm either."""
    path = "/proc/sys/" + key.replace(".", "/")
    assert "Read-only file system" in call("lab/podman", "exec", near, "sh", "-c", f"cat {path} > {path}").text


def test_a_host_can_set_its_own_network(victim):
    on(victim, "p=/proc/sys/net/ipv4/tcp_keepalive_time; cat $p > $p")


def test_the_settings_of_the_machine_are_what_they_were():
    """All of vm, fs and kernel as before the first container, but for what the lab says that it raises."""
    assert recorded("untouched")
    assert moved() == {}
