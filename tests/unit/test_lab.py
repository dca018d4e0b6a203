"""The lab from the plan: routes, links, kinds, secrets; without a container."""

import json
import os
import stat
import subprocess
from datetime import timedelta
from ipaddress import ip_network

import pytest
from network.delay import Line

import containment
import engine
import keys
import topology

PLAN = {
    "domain": "lsst.test",
    "prefix": "10.0.0.0/8",
    "sites": {
        "shore": {
            "prefix": "10.0.0.0/24",
            "networks": {
                "core": {"subnet": "10.0.0.0/27"},
                "unused": {"subnet": "10.0.0.32/27"},
                "haul": {"subnet": "10.0.0.64/27", "long_haul": True, "mtu": 9000},
                "daq": {"subnet": "192.168.100.0/24", "isolated": "shore-daq"},
            },
            "hosts": {
                "shore-nameserver01": {"core": 1},
                "shore-nameserver02": {"core": 2},
                "shore-dtn01": {"core": 3, "haul": 3, "daq": 3},
                "shore-dtn02": {"core": 4, "haul": 4},
                "shore-depot01": {"core": 5},
            },
        },
        "peak": {
            "prefix": "10.0.1.0/24",
            "networks": {"core": {"subnet": "10.0.1.0/27"}, "haul": {"subnet": "10.0.1.64/27", "long_haul": True}},
            "hosts": {"peak-dtn01": {"core": 3, "haul": 3}},
        },
        "valley": {"prefix": "10.0.2.0/24", "networks": {"core": {"subnet": "10.0.2.0/27"}}, "hosts": {"valley-spare01": {"core": 3}}},
    },
    "links": [
        {"name": "peak-shore", "sites": ["peak", "shore"], "rate_mbit": 10000, "rtt_ms": 4},
        {"name": "shore-valley", "sites": ["shore", "valley"], "rate_mbit": 320, "rtt_ms": 200},
    ],
    "classes": [{"name": "urgent", "dscp": "af41", "share": 70}, {"name": "rest", "dscp": "cs2", "share": 20, "default": True}],
}
GROUPS = {
    "all": [host for site in PLAN["sites"].values() for host in site["hosts"]],
    "nameserver": ["shore-nameserver01", "shore-nameserver02"],
    "dtn": ["shore-dtn01", "shore-dtn02", "peak-dtn01"],
    "depot": ["shore-depot01"],
    "control": ["shore-depot01"],
    "auxtel": ["shore-dtn01"],
    "comcam": ["shore-dtn02"],
}
EVERYWHERE = ("peak", "shore", "valley")


def routes(machine: topology.Machine) -> dict[str, str]:
    """Destination -> rest of the line, of the routes that the machine's script sets in the main table."""
    lines = [line.removesuffix(" proto 76") for line in machine.network_script.splitlines() if line.endswith(" proto 76")]
    pairs = [line.removeprefix("route replace ").split(" ", 1) for line in lines if line.startswith("route replace ")]
    return {destination: way for destination, way in pairs}


@pytest.mark.parametrize(
    ("site", "sites", "hops"),
    [
        ("peak", EVERYWHERE, {"shore": "shore", "valley": "shore"}),
        ("shore", EVERYWHERE, {"peak": "peak", "valley": "valley"}),
        ("peak", ("peak",), {}),
        ("peak", ("peak", "valley"), {}),
    ],
)
def test_next_hops_go_over_sites_that_are_up(site, sites, hops):
    assert topology.next_hops(site, PLAN, sites) == hops


def test_a_link_has_addresses_of_its_own_inside_the_plan():
    subnets = [topology.link_subnet(number, PLAN) for number in range(2)]
    assert len(set(subnets)) == 2
    for subnet in subnets:
        assert subnet.subnet_of(ip_network(PLAN["prefix"]))
        assert not any(subnet.overlaps(ip_network(site["prefix"])) for site in PLAN["sites"].values())


def test_the_ends_of_a_link_point_at_each_other():
    near, far = topology.link_ends("peak", PLAN)[0], topology.link_ends("shore", PLAN)[0]
    assert (near.address, near.peer_address) == (far.peer_address, far.address)
    assert (near.peer, far.peer, near.delay) == ("shore", "peak", 0.002)


def test_every_network_that_a_machine_has_a_card_in_exists():
    lab = topology.lab(PLAN, GROUPS, EVERYWHERE)
    assert {leg.network for machine in lab.machines.values() for leg in machine.legs} == set(lab.networks)
    assert "lsst-lab-shore-unused" not in lab.networks


def test_the_machine_is_where_hosts_are_reached_and_nowhere_else():
    networks = topology.lab(PLAN, GROUPS, EVERYWHERE).networks
    assert networks["lsst-lab-shore-core"].machine == "10.0.0.29"
    assert {name for name, network in networks.items() if network.machine} == {f"lsst-lab-{site}-core" for site in EVERYWHERE}


def test_only_a_depot_has_a_way_out():
    machines = topology.lab(PLAN, GROUPS, EVERYWHERE).machines
    assert [name for name, machine in machines.items() if any(leg.network == topology.UPLINK for leg in machine.legs)] == ["shore-depot01"]


def test_a_link_of_a_site_that_is_not_up_exists_but_leads_nowhere():
    lab = topology.lab(PLAN, GROUPS, ["shore"])
    assert "lsst-lab-link-shore-valley" in lab.networks
    assert routes(lab.machines["lab-gw-shore"]) == {}


def test_a_host_knows_the_networks_that_exist_and_no_others():
    assert routes(topology.host_of("shore-depot01", PLAN, EVERYWHERE, with_uplink=True)) == {
        "10.0.0.64/27": "via 10.0.0.30",
        "10.0.1.0/27": "via 10.0.0.30",
        "10.0.1.64/27": "via 10.0.0.30",
        "10.0.2.0/27": "via 10.0.0.30",
    }


def test_long_haul_goes_to_long_haul_by_its_own_card():
    found = routes(topology.host_of("shore-dtn01", PLAN, EVERYWHERE, with_uplink=False))
    assert found["10.0.1.64/27"] == "via 10.0.0.94 dev lsst-lh"
    assert found["10.0.1.0/27"] == "via 10.0.0.30"
    assert "10.0.0.64/27" not in found


def test_an_isolated_card_gets_its_address_from_inside():
    dtn = topology.host_of("shore-dtn01", PLAN, EVERYWHERE, with_uplink=False)
    assert {leg.nic: leg.address for leg in dtn.legs} == {"lsst-svc": "10.0.0.3", "lsst-lh": "10.0.0.67", "lsst-daq": None}
    assert "address replace 192.168.100.3/24 dev lsst-daq" in dtn.network_script


@pytest.mark.parametrize("name", ["shore-dtn01", "shore-depot01", "lab-gw-shore"])
def test_every_machine_is_contained_before_it_has_a_route(name):
    lines = [line for line in topology.lab(PLAN, GROUPS, EVERYWHERE).machines[name].network_script.splitlines() if line.startswith("route")]
    assert lines[:2] == [f"route replace unreachable {net} metric 9999" for net in ("10.0.0.0/8", "192.168.100.0/24")]


def test_only_gateways_forward():
    for machine in topology.lab(PLAN, GROUPS, EVERYWHERE).machines.values():
        assert f"net.ipv4.ip_forward={int(machine.is_gateway)}" in machine.network_script


def test_a_gateway_sends_far_networks_into_the_line_and_from_there_onto_the_wire():
    gateway = topology.lab(PLAN, GROUPS, EVERYWHERE).machines["lab-gw-peak"]
    assert routes(gateway)["10.0.2.0/27"] == "dev w-shore src 10.0.1.30"
    assert "route replace default via 10.0.3.2 dev l-shore table 101" in gateway.network_script
    assert "ip rule add priority 101 iif w-shore lookup 101" in gateway.network_script
    assert gateway.delays == (("w-shore", 0.002),)


def test_a_cut_link_swallows_what_it_is_given():
    gateway = topology.lab(PLAN, GROUPS, EVERYWHERE, cut=["shore-valley"]).machines["lab-gw-shore"]
    assert "route replace blackhole default table 102" in gateway.network_script
    assert "route replace default via 10.0.3.1 dev l-peak table 101" in gateway.network_script


@pytest.mark.parametrize(("rate", "burst", "queue"), [(320, 262144, 2_000_000), (10000, 1_250_000, 62_500_000)])
def test_a_fast_link_may_send_more_at_once(rate, burst, queue):
    end = topology.LinkEnd("x", "peer", "10.0.3.1", "10.0.3.2", rate, 0.1, 101)
    text = "\n".join(topology.shaping(end, PLAN["classes"]))
    assert f"rate {rate}mbit ceil {rate}mbit burst {burst} " in text
    assert f"bfifo limit {queue}" in text


def test_a_class_is_sure_of_its_share_and_may_have_the_whole_link():
    end = topology.LinkEnd("x", "peer", "10.0.3.1", "10.0.3.2", 320, 0.1, 101)
    lines = topology.shaping(end, PLAN["classes"])
    assert "tc qdisc add dev w-peer root handle 1: htb default 20" in lines
    for number, rate, rank, mark in ((10, 224, 0, 0x88), (20, 64, 1, 0x40)):
        assert any(
            f"parent 1:1 classid 1:{number} htb rate {rate}mbit ceil 320mbit " in line and line.endswith(f"prio {rank}") for line in lines
        )
        assert any(line.endswith(f"match ip dsfield {mark:#x} 0xfc flowid 1:{number}") for line in lines)


def test_every_card_has_its_own_lasting_hardware_address():
    legs = [leg for machine in topology.lab(PLAN, GROUPS, EVERYWHERE).machines.values() for leg in machine.legs]
    assert topology.mac("10.64.18.21") == "02:4c:0a:40:12:15"
    for network in {leg.network for leg in legs}:
        macs = [leg.mac for leg in legs if leg.network == network]
        assert len(macs) == len(set(macs))


def test_names_fit_the_kernel():
    """A card's name has 15 characters at most."""
    assert all(len(leg.nic) <= 15 for machine in topology.lab(PLAN, GROUPS, EVERYWHERE).machines.values() for leg in machine.legs)


def test_one_host_of_each_kind_but_both_name_servers():
    chosen = topology.kinds(PLAN["sites"]["shore"]["hosts"], GROUPS, {"all", "auxtel", "comcam"})
    assert chosen == ["shore-depot01", "shore-dtn01", "shore-nameserver01", "shore-nameserver02"]


# == Containment ==


def test_rules_let_the_plan_talk_to_itself_first():
    assert containment.rules("10.0.0.0/8", ["192.168.100.0/24"]) == [
        "from 10.0.0.0/8 to 10.0.0.0/8 lookup main",
        "from 10.0.0.0/8 unreachable",
        "from 192.168.100.0/24 unreachable",
    ]


def test_a_machine_that_lives_in_the_plan_is_refused(monkeypatch):
    links = [{"ifname": "eth7", "addr_info": [{"local": "10.1.2.3", "prefixlen": 24}]}]
    monkeypatch.setattr(containment, "ip", lambda *arguments: json.dumps(links))
    with pytest.raises(containment.ContainmentError, match=r"(?s)eth7 .*10\.1\.2\.3.*Allowed: .*To fix: "):
        containment.refuse_overlap("10.0.0.0/8", [])
    containment.refuse_overlap("172.16.0.0/12", [])


def test_settings_are_remembered_once_and_put_back(monkeypatch, tmp_path):
    proc = tmp_path / "setting"
    proc.write_text("128\n")
    monkeypatch.setattr(containment, "RECORD", tmp_path / "record")
    monkeypatch.setattr(containment, "RAISED", {"a": 4096})
    monkeypatch.setattr(containment, "CHANGED_BY_PODMAN", ())
    monkeypatch.setattr(containment, "settings_of_the_machine", lambda: {"kernel.x": "1"})
    monkeypatch.setattr(containment, "setting", lambda key: proc)
    monkeypatch.setattr(containment, "ip", lambda *arguments, **options: "[]")
    containment.contain("10.0.0.0/8", [])
    containment.contain("10.0.0.0/8", [])
    assert proc.read_text() == "4096"
    assert containment.moved() == {}
    monkeypatch.setattr(containment, "settings_of_the_machine", lambda: {"kernel.x": "2"})
    assert containment.moved() == {"kernel.x": ("1", "2")}
    containment.release(keep_forwarding=False)
    assert proc.read_text() == "128"
    assert not containment.RECORD.exists()


# == podman ==


@pytest.mark.parametrize(
    ("state", "exists", "alive", "lost"), [("running", True, True, False), ("running", False, False, True), ("exited", False, False, False)]
)
def test_podman_is_not_believed_when_the_process_is_gone(monkeypatch, state, exists, alive, lost):
    monkeypatch.setattr(engine, "is_init", lambda process: exists)
    found = engine.container({"Names": ["x"], "Labels": {engine.RUN_LABEL: "1"}, "State": state, "Pid": 7, "Networks": None})
    assert (found.alive, found.lost, found.networks) == (alive, lost, ())


# == Distance ==


def test_a_line_holds_packets_in_order(monkeypatch):
    arriving, left = [b"1", b"2"], []

    def read(device, size):
        if not arriving:
            raise BlockingIOError
        return arriving.pop(0)

    monkeypatch.setattr("network.delay.os.read", read)
    monkeypatch.setattr("network.delay.os.write", lambda device, packet: left.append(packet))
    line = Line(device=3, seconds=0.1)
    line.take(now=5.0)
    line.give(now=5.05)
    assert (left, line.wait(now=5.05)) == ([], pytest.approx(0.05))
    line.give(now=5.1)
    assert (left, line.wait(now=5.1)) == ([b"1", b"2"], None)


# == Secrets ==


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    directory = tmp_path_factory.mktemp("lab") / "secrets"
    keys.make(directory, PLAN["sites"], "operator", "lsst.test")
    return directory


def test_secrets_are_the_owners_alone(secrets):
    for path in [secrets, *secrets.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_secrets_are_made_once(secrets):
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    keys.make(secrets, PLAN["sites"], "operator", "lsst.test")
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
    assert {"ssh-user-ca", "ssh-host-ca.pub", "id", "id-cert.pub", "tsig", "known_hosts"} <= {path.name for path in before}


def test_the_login_certificate_is_named_and_short_lived(secrets):
    shown = subprocess.run(["ssh-keygen", "-L", "-f", str(secrets / "id-cert.pub")], capture_output=True, text=True, check=True).stdout
    assert 'Key ID: "lab-operator"' in shown
    assert "operator" in shown.split("Principals:")[1].split("Critical")[0]
    assert not keys.expires_soon(secrets / "id-cert.pub", timedelta(hours=23))
    assert keys.expires_soon(secrets / "id-cert.pub", timedelta(hours=25))


def test_a_control_hosts_certificate_is_good_from_its_address_only(secrets):
    """A key a site, whose certificate follows the address."""
    site, *others = PLAN["sites"]
    certificate = secrets / f"control-{site}-cert.pub"
    assert keys.sources(certificate) == []
    keys.make(secrets, PLAN["sites"], "operator", "lsst.test", {site: ["10.1.0.7", "10.1.0.8"]})
    assert keys.sources(certificate) == ["10.1.0.7", "10.1.0.8"]
    assert not keys.expires_soon(certificate, timedelta(days=364))
    assert [keys.sources(secrets / f"control-{other}-cert.pub") for other in others] == [[] for _ in others]


@pytest.mark.parametrize("content", [None, b"", b"ssh-ed25519-cert-v01@openssh.com AAAA"])
def test_a_certificate_that_cannot_be_read_is_made_again(tmp_path, content):
    path = tmp_path / "id-cert.pub"
    if content is not None:
        path.write_bytes(content)
    assert keys.expires_soon(path, timedelta(hours=1))


def test_sites_have_an_authority_each_below_the_root(secrets):
    tls = secrets / "tls"
    assert {path.stem for path in tls.glob("*.crt")} == {"root", *PLAN["sites"]}
    for site in PLAN["sites"]:
        assert keys.issued_by(tls / f"{site}.crt", tls / "root.crt")
    assert not keys.issued_by(tls / "peak.crt", tls / "shore.crt")


def test_a_networks_interface_keeps_its_link_address_whoever_comes():
    """A container's interface with a lower one than the bridge's: without more, the bridge takes it over."""
    name, low = f"lsst-t{os.getpid()}", "00:00:5e:00:53:01"

    def ip(*words: str) -> str:
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout

    def joined() -> str:
        """The bridge's address with a container in it."""
        ip("link", "add", f"{name}c", "address", low, "master", name, "type", "veth", "peer", "name", f"{name}p")
        shown = json.loads(ip("-json", "link", "show", name))[0]["address"]
        ip("link", "delete", f"{name}c")
        return shown

    ip("link", "add", name, "type", "bridge")
    try:
        assert joined() == low
        engine.keep_link_address(engine.Bridge("lsst-test", "", name))
        assert joined() == engine.LINK_ADDRESS
    finally:
        ip("link", "delete", name)
    with pytest.raises(engine.EngineError, match="lsst-test"):
        engine.keep_link_address(engine.Bridge("lsst-test", "", name))
