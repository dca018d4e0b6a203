"""firewall, asked by those who knock: who gets in, who is refused at once, and what brings the rules back."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from itertools import product

import pytest

from conftest import changed, restart

# Answers every caller of a port; it is there when systemd-run returns, and ends by itself.
LISTENER = """
import os, signal, socket, sys
proto, port = sys.argv[1], int(sys.argv[2])
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", port))
if proto == "tcp":
    server.listen()
if os.fork():
    os._exit(0)
signal.alarm(60)
while True:
    if proto == "tcp":
        server.accept()[0].sendall(b"lsst")
    else:
        server.sendto(b"lsst", server.recvfrom(9)[1])
"""
CALLER = """
import socket, sys
proto, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
caller.settimeout(3)
try:
    caller.connect((address, port))
    # TCP has answered by now; whatever service it is need not understand the question.
    if proto == "udp":
        caller.send(b"?")
        caller.recv(9)
    print("answered")
except ConnectionRefusedError:
    print("refused")
except OSError as error:
    print(error)
"""
# Counts what comes in by one rule, and what of it has a mark, before any other table sees it.
COUNTERS = (
    "table inet {table} {{ chain seen {{ type filter hook prerouting priority raw; {what} counter; {what} ip dscp {dscp} counter; }}; }}"
)
# The rules that run are those that the file makes in an empty network namespace.
RULES = "nft --stateless list table inet lsst"
AS_WRITTEN = f"unshare --net sh -c 'nft --file /etc/nftables.conf && {RULES}'"


def addresses(host) -> list[str]:
    """The addresses of a machine."""
    return host.check_output("hostname --all-ip-addresses").split()


@pytest.fixture
def target(machine, host) -> str:
    """The address by which others reach the machine under test."""
    return addresses(host)[0] if machine.in_molecule else machine.connection["ansible_host"]


def call(caller, proto: str, address: str, port: int, prefix: str = "") -> str:
    """``answered``, ``refused`` or the error that ``caller`` gets from a port of ``address``."""
    return caller.check_output(f"{prefix}python3 -c {shlex.quote(CALLER)} {proto} {address} {port}")


def served(host, proto: str, port: int) -> bool:
    """Whether something has the port on any address of ``host``."""
    return bool(host.check_output(f"ss --no-header --listening --numeric --{proto} 'sport = {port}'"))


@contextmanager
def listening(host, proto: str, port: int):
    """Something answers on a port of ``host``: what is there already, or a listener for the time being."""
    if served(host, proto, port):
        yield
        return
    unit = f"lsst-firewall-test-{proto}-{port}"
    try:
        run = f"systemd-run --quiet --collect --unit={unit} --service-type=forking"
        host.check_output(f"{run} python3 -c {shlex.quote(LISTENER)} {proto} {port}")
        yield
    finally:
        host.run(f"systemctl stop {unit}")


def rules(settings: dict) -> list[dict]:
    """What this machine accepts, by its options; what belongs to one interface left out."""
    control = [{"port": str(port), "proto": "tcp", "sources": settings["firewall_control"]} for port in settings["firewall_control_ports"]]
    return control + [rule for rule in settings["firewall_accept"] if not rule.get("interface")]


def sources(settings: dict, proto: str, port: int) -> list[IPv4Network]:
    """Who may call a port of this machine, by its options."""
    found = []
    for rule in rules(settings):
        low, _, high = str(rule["port"]).partition("-")
        if rule["proto"] == proto and int(low) <= port <= int(high or low):
            found += ["0.0.0.0/0" if source == "any" else source for source in rule["sources"]]
    return [IPv4Network(source) for source in found]


def declared(settings: dict, proto: str) -> list[int]:
    """The first port of every rule for this machine."""
    return sorted({int(str(rule["port"]).split("-")[0]) for rule in rules(settings) if rule["proto"] == proto})


def source(caller, target: str) -> IPv4Address:
    """The address by which ``caller`` calls ``target``; a depot has one more, that of its way out."""
    return IPv4Address(json.loads(caller.check_output(f"ip -json route get {target}"))[0]["prefsrc"])


def refused(host) -> int:
    """How many packets the firewall has refused."""
    return int(re.search(r"packets (\d+)", host.check_output("nft list counter inet lsst refused"))[1])


def seen(at, what: str, dscp: str, send: Callable[[], object]) -> tuple[int, int]:
    """How many packets ``at`` gets of ``what``, a match of nftables, and how many of them have the mark ``dscp``, while ``send`` runs."""
    # Tests of other machines may be looking there at the same time.
    table = f"lsst-test-{os.getpid()}"
    try:
        at.check_output(f"nft {shlex.quote(COUNTERS.format(table=table, what=what, dscp=dscp))}")
        send()
        every, marked = re.findall(r"packets (\d+)", at.check_output(f"nft list table inet {table}"))
        return int(every), int(marked)
    finally:
        at.run(f"nft destroy table inet {table}")


@pytest.mark.reads
def test_the_written_rules_run(host):
    assert host.check_output(RULES) == host.check_output(AS_WRITTEN)


@pytest.mark.reads
def test_default_is_to_drop(host):
    """What comes in and what would pass through; what goes out is free."""
    hooks = re.findall(r"hook (\w+) priority filter; policy (\w+);", host.check_output(RULES))
    assert sorted(hooks) == [("forward", "drop"), ("input", "drop")]


@pytest.mark.writes
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_only_the_declared_get_in(host, target, others, settings, proto):
    """One port: who is declared is answered, who is not is refused. A port that nobody of the others may call only refuses."""
    # A service of its own that has a UDP port may not answer a question mark.
    ports = [port for port in declared(settings, proto) if proto == "tcp" or not served(host, proto, port)]
    tried = set()
    for port, caller in product(ports, others):
        address = source(caller, target)
        expected = "answered" if any(address in network for network in sources(settings, proto, port)) else "refused"
        # One pair of each kind is enough, where there is one.
        if expected not in tried:
            with listening(host, proto, port):
                assert call(caller, proto, target, port) == expected, f"{proto} {port} from {address}"
            tried.add(expected)
        if len(tried) == 2:
            break
    assert proto == "udp" or "refused" in tried


@pytest.mark.writes
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_an_undeclared_port_is_refused_and_counted(host, target, others, settings, proto):
    """Although something listens there, and answers on the loopback interface."""
    port = next(port for port in range(47000, 48000) if not sources(settings, proto, port))
    with listening(host, proto, port):
        assert call(host, proto, "127.0.0.1", port) == "answered"
        before = refused(host)
        assert call(others[0], proto, target, port) == "refused"
        assert refused(host) > before


@pytest.mark.where(lambda machine: machine.settings["firewall"]["firewall_marks"])
@pytest.mark.writes
def test_what_leaves_has_the_mark_of_its_class(machine, host, target, others, settings):
    """Seen by those who get it: a declared connection's packets to a declared peer; none of another port, or to another host."""
    tried = set()
    for mark, other in product(settings["firewall_marks"], others):
        there, proto, end = str(source(other, target)), mark["proto"], mark["end"]
        if end == "server" and proto == "udp":
            # Who listens may not answer, and the refusal of a datagram is none.
            continue
        to_peer = any(IPv4Address(there) in IPv4Network(peer) for peer in mark["peers"])
        for port, expected in ((int(mark["port"].split("-")[0]), to_peer), (47000, False)):
            # One of each kind is enough, where there is one.
            if (end, proto, port, expected) in tried:
                continue
            if end == "client":
                what, way = f"ip saddr {source(host, there)} {proto} dport {port}", (host, proto, there, port)
            else:
                what, way = f"ip saddr {target} {proto} sport {port}", (other, proto, target, port)
            packets, marked = seen(other, what, mark["dscp"], partial(call, *way))
            assert packets > 0
            assert marked == (packets if expected else 0), f"{mark} to {there}, port {port}"
            tried.add((end, proto, port, expected))
    assert len({(end, proto, expected) for end, proto, _, expected in tried}) == 6 or not machine.in_molecule


@pytest.fixture
def isolated(host, settings):
    """The beginning of a command that runs it behind an isolated interface of ``host`` (192.168.100.250), as a camera's DAQ would be."""
    name = settings["firewall_isolated"][0]
    try:
        host.check_output(
            f"ip netns add lsst-test && ip link add {name} type veth peer name inner netns lsst-test"
            f" && ip address add 192.168.100.249/30 dev {name} && ip link set {name} up"
            " && ip -n lsst-test address add 192.168.100.250/30 dev inner && ip -n lsst-test link set inner up"
            " && ip -n lsst-test route add default via 192.168.100.249"
        )
        yield "ip netns exec lsst-test "
    finally:
        host.run(f"ip link del {name}; ip netns del lsst-test")


# In the lab the interface leads to a real network, where there is one.
@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.writes
def test_an_isolated_interface_only_gets_what_names_it(host, target, settings, isolated):
    """From there no other port is reached, at whichever address of the host; sshd neither."""
    for port in (settings["firewall_control_ports"][0], 47000):
        with listening(host, "tcp", port):
            for address in ("192.168.100.249", target):
                assert call(host, "tcp", address, port, isolated) == "refused"
    for rule in settings["firewall_accept"]:
        if rule.get("interface") in settings["firewall_isolated"] and rule["proto"] == "tcp":
            with listening(host, "tcp", int(rule["port"])):
                assert call(host, "tcp", "192.168.100.249", int(rule["port"]), isolated) == "answered"


@pytest.mark.disturbs
def test_a_restart_keeps_the_rules_and_those_of_others(host):
    try:
        host.check_output(f"{RULES} && nft add table inet lsst-test && systemctl restart nftables && nft list table inet lsst-test")
        assert host.check_output(RULES) == host.check_output(AS_WRITTEN)
    finally:
        host.run("nft destroy table inet lsst-test")


@pytest.mark.once
@pytest.mark.disturbs
def test_what_was_changed_by_hand_is_seen_and_repaired(host, apply):
    """A check run sees it and leaves it alone; rules that are gone and rules that are too many alike."""
    try:
        host.check_output(f"{RULES} && nft flush ruleset")
        assert changed(apply("--check"))
        assert host.run(RULES).failed
        assert changed(apply())
        assert host.check_output(RULES) == host.check_output(AS_WRITTEN)
        host.check_output("nft insert rule inet lsst input tcp dport 47000 accept")
        assert changed(apply("--check"))
    finally:
        host.run("systemctl reload nftables")


@pytest.mark.once
@pytest.mark.disturbs
def test_a_rule_that_does_not_parse_changes_nothing(host, apply):
    """The run says what nft says, what is allowed, and where it is corrected."""
    was = host.check_output(RULES)
    done = apply(firewall_rules=["tcp dport 443 acept"])
    words = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "syntax error" in words and "tcp dport 443 acept" in words
    assert "allowed is what `nft --check --file /etc/nftables.conf` accepts" in words
    assert "Correct it in inventories/production/group_vars/all/connections.yml" in words
    assert host.check_output(RULES) == host.check_output(AS_WRITTEN) == was


@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.once
@pytest.mark.disturbs
def test_the_rules_come_back_with_the_machine(machine, host):
    """Before anything could be reached, because their unit comes before the network."""
    was = host.check_output(RULES)
    assert "network-pre.target" in host.check_output("systemctl show --property=Before --value nftables")
    restart(machine)
    assert host.check_output(RULES) == was
