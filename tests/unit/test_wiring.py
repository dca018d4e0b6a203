"""Who serves whom, on a small facility: base has everything, tucson falls back to ncsa for some."""

from __future__ import annotations

from typing import Any

import pytest

import wiring
from wiring import Facility

PLAN: dict[str, Any] = {
    "domain": "lsst.internal",
    "sites": {
        "base": {
            "prefix": "10.64.16.0/20",
            "networks": {
                "core": {"subnet": "10.64.16.0/27"},
                "service": {"subnet": "10.64.18.0/24"},
                "lhn": {"subnet": "10.64.31.0/24", "long_haul": True},
                "daq": {"subnet": "192.168.100.0/24", "isolated": "base"},
            },
            "hosts": {
                "base-nameserver01": {"core": 11},
                "base-nameserver02": {"core": 12},
                "base-bastion01": {"core": 15},
                "base-dtn01": {"service": 21, "lhn": 21},
                "base-forwarder01": {"service": 31, "lhn": 31, "daq": 11},
                "base-daq-mgt01": {"service": 36, "daq": 1},
            },
        },
        "tucson": {
            "prefix": "10.64.48.0/20",
            "networks": {"core": {"subnet": "10.64.48.0/27"}},
            "hosts": {"tucson-nameserver01": {"core": 11}, "tucson-storage01": {"core": 21}},
        },
        "ncsa": {
            "prefix": "10.64.32.0/20",
            "networks": {"core": {"subnet": "10.64.38.0/27"}},
            "hosts": {"ncsa-nameserver01": {"core": 11}, "ncsa-identity01": {"core": 13}, "ncsa-bastion01": {"core": 15}},
        },
    },
    "classes": [{"name": "prompt", "dscp": "af41", "share": 60}, {"name": "bulk", "dscp": "cs1", "share": 40, "default": True}],
}
SITES = {site: list(body["hosts"]) for site, body in PLAN["sites"].items()}
GROUPS = {
    **SITES,
    "site": [host for hosts in SITES.values() for host in hosts],
    "partner": ["slac"],
    "nameserver": ["base-nameserver02", "base-nameserver01", "tucson-nameserver01", "ncsa-nameserver01"],
    "identity": ["ncsa-identity01"],
    "bastion": ["base-bastion01", "ncsa-bastion01"],
    "dtn": ["base-dtn01", "slac"],
    "daq_client": ["base-forwarder01"],
    "daq_mgt": ["base-daq-mgt01"],
    "kafka": [],
}
FALLBACK = {"tucson": {"identity": "ncsa", "bastion": "ncsa"}}


def connection(source: str, target: str, port: int | str, scope: str = "site", proto: str = "tcp", **more: str) -> dict[str, Any]:
    return {"from": source, "to": target, "port": port, "proto": proto, "scope": scope, **more}


def inbound(host: str, *connections: dict[str, Any]) -> list[dict[str, Any]]:
    return wiring.inbound(connections, host, GROUPS, PLAN, FALLBACK)


def test_a_site_is_served_by_its_own_hosts():
    assert wiring.all_at(GROUPS, "nameserver", "base-dtn01", PLAN, FALLBACK) == ["base-nameserver01", "base-nameserver02"]
    assert wiring.one_at(GROUPS, "nameserver", "base-dtn01", PLAN, FALLBACK) == "base-nameserver01"


def test_a_site_without_falls_back():
    assert wiring.all_at(GROUPS, "identity", "tucson-storage01", PLAN, FALLBACK) == ["ncsa-identity01"]


@pytest.mark.parametrize(("host", "site"), [("base-dtn01", "base"), ("ncsa-bastion01", "ncsa")])
def test_nobody_is_an_error_in_three_parts(host, site):
    with pytest.raises(ValueError, match=f"nobody serves {site} as kafka") as caught:
        wiring.all_at(GROUPS, "kafka", host, PLAN, FALLBACK)
    assert f"Allowed: a host of kafka at {site}, or another site" in str(caught.value)
    assert f"Edit: inventories/production/{site}.yml, or fallback in {wiring.CONNECTIONS_FILE}" in str(caught.value)


def test_a_group_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match=r"there is no group 'namserver'\. Allowed: a group of inventories/production/groups\.yml"):
        wiring.all_at(GROUPS, "namserver", "base-dtn01", PLAN, FALLBACK)


def test_elsewhere_and_at_site():
    assert wiring.elsewhere(GROUPS, "nameserver", "base-dtn01", PLAN) == ["ncsa-nameserver01", "tucson-nameserver01"]
    assert wiring.at_site(GROUPS, "dtn", "base", PLAN) == ["base-dtn01"]


def test_peers_are_the_others_at_all_sites_by_one_network():
    groups = GROUPS | {"dtn": ["base-dtn01", "base-forwarder01"]}
    assert wiring.peers(groups, "dtn", "base-forwarder01", PLAN, "lhn") == [
        {"name": "base-dtn01", "host": "base-dtn01.base.lsst.internal", "address": "base-dtn01-lhn.base.lsst.internal"}
    ]


def test_who_sends_logs_and_for_whom():
    assert wiring.senders(["base-dtn01"], PLAN) == [
        {"name": "base-dtn01", "host": "base-dtn01.base.lsst.internal", "addresses": ["10.64.18.21", "10.64.31.21"]}
    ]
    [relay] = wiring.senders(["tucson-storage01"], PLAN, relay=True)
    assert relay["relays"] == ["tucson-nameserver01", "tucson-storage01"]


@pytest.mark.parametrize(
    ("host", "row", "sources"),
    [
        pytest.param("base-nameserver01", connection("all", "nameserver", 53), ["10.64.16.0/20"], id="everybody of the site"),
        pytest.param("base-nameserver01", connection("dtn", "nameserver", 53), ["10.64.18.21", "10.64.31.21"], id="all its addresses"),
        pytest.param(
            "base-nameserver01",
            connection("nameserver", "nameserver", 53, "any"),
            ["10.64.16.12", "10.64.38.11", "10.64.48.11"],
            id="any site, not itself",
        ),
        pytest.param("ncsa-identity01", connection("all", "identity", 88), ["10.64.32.0/20", "10.64.48.0/20"], id="who falls back to it"),
        pytest.param("tucson-storage01", connection("bastion", "all", 22), ["10.64.38.15"], id="visited by its fall-back"),
        pytest.param("base-dtn01", connection("bastion", "all", 22), ["10.64.16.15"], id="visited by its own"),
        pytest.param(
            "base-daq-mgt01", connection("daq_client", "daq_mgt", 2049, interface="lsst-daq"), ["192.168.100.0/24"], id="on the DAQ only"
        ),
        pytest.param("base-daq-mgt01", connection("daq_client", "daq_mgt", 9), ["10.64.18.31", "10.64.31.31"], id="never by the DAQ"),
    ],
)
def test_sources(host, row, sources):
    expected = {"port": str(row["port"]), "proto": "tcp", "sources": sources}
    expected |= {"interface": row["interface"]} if "interface" in row else {}
    assert inbound(host, row) == [expected]


def test_who_is_not_addressed_accepts_nothing():
    assert inbound("base-dtn01", connection("all", "nameserver", 53)) == []
    assert inbound("base-dtn01", connection("kafka", "all", 9)) == []


def test_rules_are_merged_and_sorted():
    rows = [
        connection("all", "dtn", "5000-5050"),
        connection("bastion", "all", 22),
        connection("nameserver", "dtn", 22),
        connection("bastion", "dtn", 22, proto="udp"),
    ]
    assert [(rule["proto"], rule["port"], rule["sources"]) for rule in inbound("base-dtn01", *rows)] == [
        ("tcp", "22", ["10.64.16.11", "10.64.16.12", "10.64.16.15"]),
        ("tcp", "5000-5050", ["10.64.16.0/20"]),
        ("udp", "22", ["10.64.16.15"]),
    ]
    assert wiring.sources(inbound("base-dtn01", *rows), 22, "udp") == ["10.64.16.15"]
    assert wiring.sources(inbound("base-dtn01", *rows), 23, "tcp") == []


def test_an_address_inside_a_network_is_not_named_twice():
    rows = [connection("all", "nameserver", 53), connection("nameserver", "nameserver", 53, "any")]
    assert inbound("base-nameserver01", *rows)[0]["sources"] == ["10.64.16.0/20", "10.64.38.11", "10.64.48.11"]


@pytest.mark.parametrize(
    ("host", "row", "expected"),
    [
        pytest.param("base-dtn01", connection("dtn", "identity", 1094), [("client", ["10.64.38.13"])], id="who calls"),
        pytest.param(
            "ncsa-identity01", connection("dtn", "identity", 1094), [("server", ["10.64.18.21", "10.64.31.21"])], id="who answers"
        ),
        pytest.param(
            "base-nameserver01",
            connection("nameserver", "nameserver", 53),
            [("client", ["10.64.16.12"]), ("server", ["10.64.16.12"])],
            id="who does both, but not with itself",
        ),
        pytest.param(
            "ncsa-bastion01", connection("bastion", "all", 22), [("client", ["10.64.32.0/20", "10.64.48.0/20"])], id="everybody near"
        ),
        pytest.param("base-dtn01", connection("daq_client", "identity", 1094), [], id="who has nothing to do with it"),
    ],
)
def test_marks(host, row, expected):
    row = row | {"scope": "any"} if row["port"] == 1094 else row
    rows = [row | {"class": "bulk"}, connection("dtn", "nameserver", 53)]
    assert wiring.marks(rows, host, GROUPS, PLAN, FALLBACK) == [
        {"name": "bulk", "dscp": "cs1", "end": end, "proto": "tcp", "port": str(row["port"]), "peers": peers} for end, peers in expected
    ]


def test_zones():
    forward, *reverse = wiring.zones(PLAN, "base", ["base-nameserver01", "base-nameserver02"])
    servers = [{"name": "@", "type": "NS", "value": f"base-nameserver0{number}.base.lsst.internal."} for number in (1, 2)]
    assert forward["name"] == "base.lsst.internal"
    assert forward["records"][:2] == servers
    assert [record for record in forward["records"] if "forwarder" in record["name"]] == [
        {"name": "base-forwarder01", "type": "A", "value": "10.64.18.31"},
        {"name": "base-forwarder01-lhn", "type": "A", "value": "10.64.31.31"},
    ]
    assert [zone["name"] for zone in reverse] == ["16.64.10.in-addr.arpa", "18.64.10.in-addr.arpa", "31.64.10.in-addr.arpa"]
    assert reverse[2]["records"] == [
        *servers,
        {"name": "21", "type": "PTR", "value": "base-dtn01-lhn.base.lsst.internal."},
        {"name": "31", "type": "PTR", "value": "base-forwarder01-lhn.base.lsst.internal."},
    ]


def test_a_service_has_the_addresses_of_its_hosts():
    forward = wiring.zones(PLAN, "base", [], {"s3": ["base-forwarder01", "base-dtn01"]})[0]
    assert [record["value"] for record in forward["records"] if record["name"] == "s3"] == ["10.64.18.31", "10.64.18.21"]


def test_secondary_zones_are_those_of_the_others():
    assert wiring.secondary_zones(PLAN, "base", GROUPS) == [
        {"name": "ncsa.lsst.internal", "primaries": ["10.64.38.11"]},
        {"name": "38.64.10.in-addr.arpa", "primaries": ["10.64.38.11"]},
        {"name": "tucson.lsst.internal", "primaries": ["10.64.48.11"]},
        {"name": "48.64.10.in-addr.arpa", "primaries": ["10.64.48.11"]},
    ]


def test_tables():
    rows = [{"name": "iip", "uid": 61003, "hosts": ["forwarder"]}, {"name": "operator", "uid": 70001}, {"name": "rce", "hosts": ["daq"]}]
    assert wiring.of_groups(rows, ["forwarder", "base"]) == [{"name": "iip", "uid": 61003}, {"name": "operator", "uid": 70001}]
    assert wiring.named(["10.64.16.11"], kind="server") == [{"name": "10.64.16.11", "kind": "server"}]


def test_partners_are_in_no_site():
    assert Facility(GROUPS, PLAN).members("dtn") == ["base-dtn01"]
