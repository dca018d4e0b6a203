"""The address plan on a small example: what is computed, and what is refused with which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import plan as address_plan

PLAN: dict[str, Any] = {
    "domain": "lsst.internal",
    "prefix": "10.64.0.0/14",
    "sites": {
        "base": {
            "prefix": "10.64.16.0/20",
            "networks": {
                "core": {"subnet": "10.64.16.0/27"},
                "dds": {"subnet": "10.64.20.0/25", "card": "lsst-dds"},
                "lhn": {"subnet": "10.64.31.0/24", "long_haul": True, "mtu": 9000},
                "daq-comcam": {"subnet": "192.168.100.0/24", "isolated": "base-comcam", "mtu": 9000},
                "service": {"subnet": "10.64.18.0/24"},
            },
            "hosts": {
                # In the order that JSON gives them, not in the one that people do.
                "base-forwarder01": {"daq-comcam": 11, "dds": 3, "lhn": 31, "service": 31},
                "base-nameserver01": {"core": 11},
            },
        },
        "ncsa": {
            "prefix": "10.64.32.0/20",
            "networks": {
                "compute": {"subnet": "10.64.32.0/22"},
                "daq-comcam": {"subnet": "192.168.100.0/24", "isolated": "ncsa-comcam"},
            },
            "hosts": {"ncsa-slurm-node01": {"compute": 300}},
        },
    },
    "links": [{"name": "base-ncsa", "sites": ["base", "ncsa"], "rate_mbit": 320, "rtt_ms": 200}],
    "classes": [{"name": "prompt", "dscp": "af41", "share": 60}, {"name": "rest", "dscp": "cs2", "share": 40, "default": True}],
}
PROMPT, REST = PLAN["classes"]


def changed(*path: str, value: Any) -> dict[str, Any]:
    """PLAN with one value changed."""
    plan = copy.deepcopy(PLAN)
    part = plan
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return plan


@pytest.mark.parametrize(
    ("host", "network", "address"),
    [
        ("base-forwarder01", None, "10.64.18.31"),
        ("base-forwarder01", "lhn", "10.64.31.31"),
        ("base-forwarder01", "daq-comcam", "192.168.100.11"),
        ("base-nameserver01", None, "10.64.16.11"),
        ("ncsa-slurm-node01", None, "10.64.33.44"),
    ],
)
def test_address(host, network, address):
    assert address_plan.address(host, PLAN, network) == address


def test_names_sites_and_gateways():
    assert address_plan.site_of("base-forwarder01", PLAN) == "base"
    assert address_plan.fqdn("base-forwarder01", PLAN) == "base-forwarder01.base.lsst.internal"
    assert address_plan.interface("base-nameserver01", PLAN) == "10.64.16.11/27"
    assert address_plan.gateway(address_plan.network("base-nameserver01", PLAN)) == "10.64.16.30"
    assert address_plan.hosts_of("base", PLAN) == ["base-forwarder01", "base-nameserver01"]
    assert [net["name"] for net in address_plan.routed_networks("base", PLAN)] == ["core", "dds", "lhn", "service"]


def test_nics_are_named_by_purpose_and_the_primary_one_is_first():
    assert address_plan.nics("base-forwarder01", PLAN) == [
        {"nic": "lsst-svc", "network": "service", "address": "10.64.18.31", "prefixlen": 24, "mtu": 1500, "gateway": "10.64.18.254"},
        {"nic": "lsst-daq", "network": "daq-comcam", "address": "192.168.100.11", "prefixlen": 24, "mtu": 9000, "gateway": None},
        {"nic": "lsst-dds", "network": "dds", "address": "10.64.20.3", "prefixlen": 25, "mtu": 1500, "gateway": "10.64.20.126"},
        {"nic": "lsst-lh", "network": "lhn", "address": "10.64.31.31", "prefixlen": 24, "mtu": 9000, "gateway": "10.64.31.254"},
    ]
    assert address_plan.routed_addresses("base-forwarder01", PLAN) == ["10.64.18.31", "10.64.20.3", "10.64.31.31"]


def test_neighbours_share_a_card_s_network():
    assert address_plan.neighbours("base-forwarder01", PLAN, "lsst-svc") == []
    plan = changed("sites", "base", "hosts", "base-daq-mgt01", value={"service": 36, "daq-comcam": 1})
    assert address_plan.neighbours("base-daq-mgt01", plan, "lsst-daq") == [{"name": "base-forwarder01", "address": "192.168.100.11"}]
    with pytest.raises(address_plan.PlanError, match=r"base-daq-mgt01 has no card 'lsst-lh'\. Allowed: lsst-daq, lsst-svc"):
        address_plan.neighbours("base-daq-mgt01", plan, "lsst-lh")


def test_a_sound_plan_has_no_problems():
    assert address_plan.problems(PLAN) == []


BASE = ("sites", "base")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        pytest.param(
            changed(*BASE, "hosts", "base-spare01", value={"core": 11}),
            "base-nameserver01 and base-spare01 both have 10.64.16.11 on base's core. Allowed: an index of its own",
            id="two hosts with one address",
        ),
        pytest.param(
            changed(*BASE, "hosts", "base-nameserver01", value={"core": 29}),
            "'base-nameserver01' has the index 29 on base's core (10.64.16.0/27). Allowed: 1 to 28",
            id="the address of the machine that drives the lab",
        ),
        pytest.param(
            changed(*BASE, "hosts", "base-nameserver01", value={"core": "11"}), "has the index '11' on base's core", id="no number"
        ),
        pytest.param(
            changed(*BASE, "hosts", "base-nameserver01", value={"cor": 11}),
            "there is no network 'cor' at base. Allowed: core, daq-comcam, dds, lhn, service",
            id="typo in a network",
        ),
        pytest.param(
            changed(*BASE, "hosts", "base-nameserver01", value={"core": 11, "service": 11}),
            "has as its primary network: core, service. Allowed: one of core, service",
            id="two primary networks",
        ),
        pytest.param(
            changed(*BASE, "hosts", "base-nameserver01", value={"lhn": 11}),
            "has as its primary network: none. Allowed: one of core, service",
            id="no primary network",
        ),
        pytest.param(
            changed("sites", "ncsa", "hosts", "base-nameserver01", value={"compute": 11}),
            "host 'base-nameserver01' stands under base and ncsa. Allowed: one site",
            id="host in two sites",
        ),
        pytest.param(
            changed(*BASE, "networks", "dds", "subnet", value="10.64.18.128/25"),
            "base's service (10.64.18.0/24) overlaps base's dds (10.64.18.128/25)",
            id="networks overlap",
        ),
        pytest.param(
            changed(*BASE, "networks", "core", "subnet", value="10.64.32.0/27"),
            "base's core is 10.64.32.0/27. Allowed: a part of base's prefix 10.64.16.0/20",
            id="network of another site",
        ),
        pytest.param(
            changed(*BASE, "networks", "core", "subnet", value="10.64.16.1/27"),
            "base's core is 10.64.16.1/27. Allowed: the network's own address: 10.64.16.0/27",
            id="host bits in a network",
        ),
        pytest.param(changed(*BASE, "prefix", value="10.64.32.0/19"), "the prefixes of base and ncsa overlap", id="sites overlap"),
        pytest.param(changed("prefix", value="10.64.0.0/19"), "ncsa has the prefix 10.64.32.0/20. Allowed: a part of", id="outside"),
        pytest.param(
            changed("sites", "ncsa", "networks", "daq-comcam", "isolated", value="base-comcam"),
            "two networks are isolated as 'base-comcam'. Allowed: a name for each",
            id="one DAQ twice",
        ),
        pytest.param(
            changed("links", value=[PLAN["links"][0] | {"sites": ["base", "tucson"]}]),
            "link base-ncsa joins base, tucson. Allowed: two of base, ncsa",
            id="link to nowhere",
        ),
        pytest.param(changed("links", value=[PLAN["links"][0] | {"rtt_ms": 0}]), "has rtt_ms: 0. Allowed: more than 0", id="no distance"),
        pytest.param(
            changed("classes", value=[PROMPT | {"share": 70}, REST]),
            "the shares of the classes sum up to 110 percent. Allowed: 100 together",
            id="more than all of a link",
        ),
        pytest.param(
            changed("classes", value=[PROMPT | {"share": 0}, REST]), "prompt has the share 0. Allowed: 1 to 100 (percent", id="no share"
        ),
        pytest.param(
            changed("classes", value=[PROMPT | {"dscp": "af44"}, REST]),
            "prompt has the dscp 'af44'. Allowed: af11, af12,",
            id="no such mark",
        ),
        pytest.param(
            changed("classes", value=[PROMPT | {"dscp": "cs2"}, REST]), "two classes have the dscp 'cs2'. Allowed: one", id="one mark"
        ),
        pytest.param(changed("classes", value=[PROMPT | {"name": "rest"}, REST]), "two classes have the name 'rest'", id="one name"),
        pytest.param(changed("classes", value=[PROMPT]), "default is: none. Allowed: default: true for one class", id="no default class"),
        pytest.param(changed("classes", value=[PROMPT | {"default": True}, REST]), "default is: prompt, rest. Allowed", id="two defaults"),
        pytest.param(
            changed("classes", value=[PROMPT | {"rate": 3}, {"name": "rest"}]),
            "classes[0]: missing none, unknown rate. Allowed: dscp, name, share and, for one of them, default",
            id="column that is none",
        ),
    ],
)
def test_problems(plan, words):
    found = address_plan.problems(plan)
    assert any(words in problem for problem in found), found
    assert all(problem.endswith(f". Edit: {address_plan.PLAN_FILE}") for problem in found)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: address_plan.address("base-dtn01", PLAN), "host 'base-dtn01' has no place in the plan. Allowed: a host under one of"),
        (lambda: address_plan.address("base-nameserver01", PLAN, "lhn"), "is not on the network 'lhn'. Allowed: core"),
        (lambda: address_plan.class_in("promt", PLAN), "there is no class of traffic 'promt'. Allowed: prompt, rest"),
        (lambda: address_plan.hosts_of("tuscon", PLAN), "there is no site 'tuscon' in the plan. Allowed: base, ncsa"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match="Edit: inventories") as caught:
        call()
    assert words in str(caught.value)
