"""daq_mgt, asked by those in a camera's DAQ: who gets which address, what a crate reads, who runs; and nothing of it anywhere else."""

from __future__ import annotations

import json
import os
import shlex
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from conftest import changed, restart, wait_for

in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)
with_services = pytest.mark.where(lambda machine: "daq-sdk" in [row["name"] for row in machine.settings["daq_mgt"]["daq_mgt_sdk"]])

MEDIA = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "")) / "secrets/media.json"
# Asks the DHCP server itself.
KEA = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect("/run/kea/kea4-ctrl-socket")
    caller.sendall(json.dumps({"command": sys.argv[1]}).encode())
    answer = b""
    while part := caller.recv(1 << 16):
        answer += part
print(answer.decode())
"""
# Asks once by BOOTP and prints the address that it gets. Crates begin so.
BOOTP = """
import fcntl, socket, struct
caller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
caller.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
caller.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
caller.bind(("0.0.0.0", 68))
caller.settimeout(5)
mac = fcntl.ioctl(caller, 0x8927, struct.pack("256s", b"eth0"))[18:24]
ask = struct.pack("!BBBBIHH16x16s192x64s", 1, 1, 6, 0, 7, 0, 0x8000, mac, bytes([99, 130, 83, 99, 255]))
caller.sendto(ask, ("255.255.255.255", 67))
answer = caller.recv(2000)
assert answer[0] == 2 and answer[4:8] == ask[4:8]
print(socket.inet_ntoa(answer[16:20]))
"""
# Asks once for the time and prints the mode and the stratum of the answer.
SNTP = """
import socket, sys
caller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
caller.settimeout(5)
caller.sendto(bytes([0x23]) + bytes(47), (sys.argv[1], 123))
answer = caller.recv(100)
print(answer[0] & 7, answer[1])
"""
STANDIN = """
import socket, sys
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect(sys.argv[1])
    print(caller.recv(9999).decode())
"""
# What the interface and the servers behind it are made of.
SERVED = "cat /etc/kea/kea-dhcp4.conf /etc/ganesha/ganesha.conf; ip -brief address show dev lsst-daq; cat /sys/class/net/lsst-daq/ifindex"
ONE, TWO = "02:00:5e:10:00:01", "02:00:5e:10:00:02"


def python(host, program: str, *arguments: str, within: str = "") -> str:
    """What a program prints, ``within`` a network namespace or on the host."""
    prefix = f"ip netns exec {within} " if within else ""
    return host.check_output(f"{prefix}python3 -c {shlex.quote(program)} {' '.join(arguments)}")


def lease(host, mac: str = ONE, *arguments: str, client: str = "crate") -> dict[str, str]:
    """What a client with this hardware address is given, as udhcpc tells it; empty when nobody answers."""
    script = "/tmp/lsst-test-udhcpc"
    host.check_output(f"printf '#!/bin/sh\\n[ \"$1\" != bound ] || env\\n' >{script} && chmod 0755 {script}")
    host.check_output(f"cd / && for what in down 'address {mac}' up; do ip -n {client} link set eth0 $what; done")
    done = host.run(
        f"env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin ip netns exec {client}"
        f" busybox udhcpc -i eth0 -n -q -f -t 4 -T 1 -s {script} {' '.join(arguments)}"
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def nfs(host, client: str, command: str, *arguments: str):
    """A command of libnfs, by a client of the scenario or, with no name, by the host itself."""
    prefix = f"ip netns exec {client} " if client else ""
    return host.run(f"{prefix}timeout 20 nfs-{command} {' '.join(map(shlex.quote, arguments))}")


def at(settings, path: str) -> str:
    """Where the host exports it."""
    return f"nfs://{settings['daq_mgt_address']}/srv/nfs/{path}?version=3"


def words(done) -> str:
    return " ".join(done.stdout.split())


@pytest.fixture
def crate(host, settings):
    """A crate that has taken the address it was given; the name of its namespace."""
    given = lease(host)["ip"]
    host.check_output(f"ip -n crate address add {given}/24 dev eth0")
    yield "crate"
    host.run("ip -n crate address flush dev eth0")


@pytest.mark.reads
def test_the_interface_is_there(host, settings):
    host.check_output("systemctl is-active daq-interface")
    link = json.loads(host.check_output(f"ip -details -json address show dev {settings['daq_mgt_interface']}"))[0]
    assert settings["daq_mgt_address"] in [own["local"] for own in link["addr_info"]]
    if settings["daq_mgt_bridge_port"]:
        assert link["linkinfo"]["info_kind"] == "bridge" and link["linkinfo"]["info_data"]["stp_state"] == 0
        assert link["mtu"] == settings["daq_mgt_mtu"]


@pytest.mark.reads
def test_addresses_are_given_there_only(host, settings):
    """The running server says so, and listens at no other address."""
    assert json.loads(python(host, KEA, "status-get"))["arguments"]["sockets"]["status"] == "ready"
    config = json.loads(python(host, KEA, "config-get"))["arguments"]["Dhcp4"]
    assert config["interfaces-config"]["interfaces"] == [settings["daq_mgt_interface"]]
    assert config["authoritative"] and [row["subnet"] for row in config["subnet4"]] == [settings["daq_mgt_network"]]
    listening = host.check_output("ss --no-header --listening --udp --numeric 'sport = 67'").splitlines()
    assert {line.split()[3] for line in listening} == {f"{settings['daq_mgt_address']}:67"}


@in_molecule
@pytest.mark.writes
def test_a_crate_gets_an_address_for_ever(host, settings):
    """One of the pool, by DHCP or BOOTP, with neither router nor name server, which there are not."""
    given = lease(host)
    first, last = map(IPv4Address, settings["daq_mgt_pool"].split("-"))
    assert first <= IPv4Address(given["ip"]) <= last
    assert given["lease"] == "4294967295" and given["subnet"] == "255.255.255.0" and given["serverid"] == settings["daq_mgt_address"]
    assert not {"dns", "ntpsrv", "router", "domain"} & set(given)
    booted = python(host, BOOTP, within="crate")
    assert first <= IPv4Address(booted) <= last


@in_molecule
@pytest.mark.writes
def test_who_has_an_address_of_its_own_gets_it_and_nobody_else(host, settings):
    known, fixed = sorted(settings["daq_mgt_hosts"], key=lambda row: "mac" not in row)
    assert lease(host, known["mac"])["ip"] == known["address"]
    for row in (known, fixed):
        assert lease(host, TWO, "-r", row["address"])["ip"] not in (known["address"], fixed["address"])


@in_molecule
@pytest.mark.writes
def test_behind_another_card_nobody_gets_one(host):
    assert lease(host)
    try:
        assert lease(host, TWO, client="stranger") == {}
    finally:
        # It went with the card.
        host.check_output("ip -n stranger route replace 192.168.100.0/24 via 192.0.2.1")


@pytest.mark.reads
def test_the_trees_are_exported(host, settings):
    """Asked by the host itself, which is one of the network; under both of the published paths."""
    assert wait_for(lambda: nfs(host, "", "ls", at(settings, "dsl")).rc == 0, 10, "rpt-sdk is exported")
    listed = nfs(host, "", "ls", at(settings, "lsst-daq"))
    assert {"daq-sdk", "rpt-sdk"} <= {line.split()[-1] for line in listed.stdout.splitlines()}


@in_molecule
@pytest.mark.writes
def test_a_crate_reads_the_trees_and_writes_nothing(host, settings, crate):
    """By TCP, and by UDP, as crates are used to; who is not in the network is refused, at whichever address it asks."""
    release = "/opt/lsst/daq-sdk/R0-V0.0/x86/bin"
    read = nfs(host, crate, "cat", at(settings, "lsst-daq/daq-sdk/R0-V0.0/x86/bin/dsid_startup"))
    assert read.stdout == host.file(f"{release}/dsid_startup").content_string
    for program in ("nfs", "mountd"):
        host.check_output(f"ip netns exec {crate} rpcinfo -T udp {settings['daq_mgt_address']} {program} 3")
    refused = nfs(host, crate, "cp", "/etc/hostname", at(settings, "lsst-daq/daq-sdk/lsst-test"))
    assert refused.rc and "NFS3ERR_ROFS" in refused.stdout + refused.stderr
    refused = nfs(host, "stranger", "ls", at(settings, "lsst-daq"))
    assert refused.rc and "MNT3ERR_ACCES" in refused.stdout + refused.stderr
    assert nfs(host, "stranger", "ls", at(settings, "lsst-daq").replace(settings["daq_mgt_address"], "192.0.2.1")).rc


@pytest.mark.reads
def test_version_2_is_not_served_and_says_so(host, settings):
    host.check_output(f"rpcinfo -T tcp {settings['daq_mgt_address']} nfs 3")
    asked = host.run(f"rpcinfo -T tcp {settings['daq_mgt_address']} nfs 2")
    assert asked.rc and "low version = 3, high version = 3" in asked.stdout + asked.stderr


@in_molecule
@pytest.mark.writes
def test_a_crate_gets_the_time(host, settings, crate):
    """From a server (mode 4) that knows it."""
    mode, stratum = map(int, python(host, SNTP, settings["daq_mgt_address"], within=crate).split())
    assert mode == 4 and 0 < stratum < 16


@with_services
@pytest.mark.reads
@pytest.mark.parametrize("unit", ["dsid", "rce"])
def test_the_services_run_as_their_users(host, unit):
    """In the group of the DAQ, before everything else (FIFO)."""
    number = host.check_output(f"systemctl is-active --quiet {unit} && systemctl show --property MainPID --value {unit}")
    assert host.check_output(f"ps -o user=,group=,cls= -p {number}").split() == [unit, "daq", "FF"]


@in_molecule
@pytest.mark.reads
def test_the_services_have_what_they_need(host, settings):
    """The stand-in tells what it was started with, and its command what both tell."""
    for name, places in (("dsid", []), ("dsm", settings["daq_mgt_virtual_rces"])):
        told = json.loads(python(host, STANDIN, f"/var/lib/vrce/{name}.socket"))
        assert told["interface"] == settings["daq_mgt_interface"] and told["places"] == places and told["fifo"]
    [partition] = json.loads(host.check_output("/opt/lsst/daq-sdk/current/x86/bin/daq_partitions /var/lib/vrce"))["partitions"]
    assert partition["servers"] == {"dsid": "up", "dsm": "up"}
    assert [source["place"] for source in partition["sources"]] == settings["daq_mgt_virtual_rces"]


@in_molecule
@pytest.mark.disturbs
def test_leases_outlive_a_kill(host):
    """The server comes back by itself and gives each what it had."""
    had = {mac: lease(host, mac)["ip"] for mac in (ONE, TWO)}
    assert len(set(had.values())) == 2
    host.check_output("systemctl kill --signal KILL kea-dhcp4-server")
    assert wait_for(lambda: lease(host, ONE), 30, "the server is back")["ip"] == had[ONE]
    assert lease(host, TWO)["ip"] == had[TWO]


@in_molecule
@pytest.mark.disturbs
@pytest.mark.parametrize("unit", ["rpcbind", "nfs-ganesha"])
def test_the_exports_outlive_a_kill(host, settings, unit):
    host.check_output(f"systemctl is-active {unit} && systemctl kill --signal KILL {unit}")
    wait_for(lambda: nfs(host, "", "ls", at(settings, "dsl")).rc == 0, 30, "the trees are exported")


@in_molecule
@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"daq_mgt_nfs_version": 2}, "daq_mgt_nfs_version is 2. Allowed: 3; the kernel and nfs-ganesha of Debian 13 have no version 2"),
        ({"daq_mgt_address": "lsst-daq"}, "daq_mgt_address lsst-daq, daq_mgt_network 192.168.100.0/24"),
        ({"daq_mgt_hosts": [{"name": "a", "mac": "nonsense", "address": "192.168.100.9"}]}, "a at 192.168.100.9, nonsense, or"),
        ({"daq_mgt_hosts": [{"name": "a", "address": "192.168.101.9"}]}, "is not within the IPv4 subnet '192.168.100.0/24'"),
        ({"daq_mgt_bridge_port": "eth0"}, "daq_mgt_bridge_port is eth0, which has an address. Allowed: a port that has none. Edit"),
        ({"daq_mgt_bridge_port": "eth9"}, "daq_mgt_bridge_port is eth9, which is no interface of this host. Allowed: "),
        (
            {"daq_mgt_bridge_port": "", "daq_mgt_network": "192.168.100.0/25"},
            "lsst-daq has not the address 192.168.100.1/25. Allowed: one that has",
        ),
    ],
)
def test_what_is_wrong_is_told_and_nobody_gets_it(host, apply, wrong, told):
    before = host.check_output(SERVED)
    try:
        done = apply(**wrong)
        assert done.returncode != 0 and told in words(done), done.stdout
        assert host.check_output(SERVED) == before
    finally:
        # The interface's own unit has it already.
        if "daq_mgt_bridge_port" in wrong:
            apply()


@in_molecule
@pytest.mark.disturbs
def test_missing_media_are_told(host, apply):
    """In one message, and nothing but the services waits for them."""
    host.check_output("systemctl is-active kea-dhcp4-server")
    done = apply("--check", daq_mgt_sdk=[])
    assert changed(done) and words(done).count("dsid and rce are not started: daq-mgt-host has no release of daq-sdk. Allowed: ") == 1


@in_molecule
@pytest.mark.disturbs
def test_a_further_release_lies_beside_and_is_not_taken_into_use(host, apply, settings):
    """Wherever it stands in the list; the services go on as they are."""
    state = "readlink /opt/lsst/daq-sdk/current && systemctl show --property MainPID dsid rce"
    before = host.check_output(state)
    # The scenario's second one, which its other tests do without.
    further = [row for row in json.loads(MEDIA.read_text()) if row["version"] == "R0-V0.1"]
    try:
        assert changed(apply(daq_mgt_sdk=further + settings["daq_mgt_sdk"]))
        assert host.file("/opt/lsst/daq-sdk/R0-V0.1/x86/bin/dsid_startup").exists
        assert host.check_output(state) == before and before.startswith("R0-V0.0\n")
    finally:
        host.run("rm -rf /opt/lsst/daq-sdk/R0-V0.1 /opt/lsst/daq-sdk/dl/R0-V0.1.tgz")


@in_molecule
@pytest.mark.disturbs
def test_an_interface_that_is_there_is_left_alone(host, apply):
    """With no port named, whoever made it."""
    before = host.check_output(SERVED)
    try:
        assert changed(apply(daq_mgt_bridge_port=""))
        host.check_output("systemctl is-active daq-interface")
        assert host.check_output(SERVED) == before
    finally:
        apply()


@in_molecule
@pytest.mark.disturbs
def test_everything_comes_back_with_the_machine(machine, host, settings):
    had = lease(host)["ip"]
    restart(machine)
    # Its cards come late.
    host.check_output("sh -c %s", (Path(__file__).parent / "prepare.sh").read_text())
    assert wait_for(lambda: lease(host), 60, "addresses are given")["ip"] == had
    wait_for(lambda: nfs(host, "", "ls", at(settings, "dsl")).rc == 0, 60, "the trees are exported")
    # They are started once, and their interface was not there.
    host.check_output("systemctl start dsid rce")
