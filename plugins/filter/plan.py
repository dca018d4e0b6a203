"""The address plan: who is where, with which address, on which card. One source for filters, lab and tests (``import plan``).

A plan is the dict of group_vars/all/plan.yml: ``domain``, ``prefix``, ``sites`` (name: ``prefix``, ``networks``, ``hosts``), ``links``, and
the ``classes`` of traffic on these, most urgent first (``name``, ``dscp``, ``share`` in percent of a link's rate, ``default`` for one of
them). A host is {network: index}; an index counts from the network's address, so that index 21 of 10.64.18.0/24 is 10.64.18.21. A host's
primary network is its only ordinary one, the others being ``long_haul``, ``isolated`` or on a ``card`` of their own: no rule rests on the
order in which keys are written, because ansible-inventory and AWX do not keep it. Every error is a ValueError that says what is wrong, what
is allowed and what to edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netaddr import IPAddress, IPNetwork

PLAN_FILE = "inventories/production/group_vars/all/plan.yml"
# The gateway, and below it the machine that drives the lab.
RESERVED = 2
PRIMARY = "lsst-svc"
# The standard names of what a packet's header can say about it, with the number that it says.
DSCP = (
    {f"cs{row}": 8 * row for row in range(1, 8)}
    | {f"af{row}{loss}": 8 * row + 2 * loss for row in range(1, 5) for loss in range(1, 4)}
    | {"ef": 46}
)
# A shaper of Linux (HTB) tells so many apart.
MOST_CLASSES = 8

Plan = Mapping[str, Any]


class PlanError(ValueError):
    """Wrong value, what is allowed, the file to edit."""

    def __init__(self, wrong: str, allowed: str, edit: str = PLAN_FILE) -> None:
        super().__init__(f"{wrong}. Allowed: {allowed}. Edit: {edit}")


def listed(names: Iterable[Any]) -> str:
    """Names for a message, sorted; "none" when there are none."""
    return ", ".join(sorted(map(str, names))) or "none"


def sites_of(host: str, plan: Plan) -> list[str]:
    """The sites in whose table ``host`` stands; one, in a plan without faults."""
    return [name for name, site in plan["sites"].items() if host in site["hosts"]]


def site_of(host: str, plan: Plan) -> str:
    """The site of ``host``."""
    found = sites_of(host, plan)
    if not found:
        raise PlanError(f"host {host!r} has no place in the plan", f"a host under one of the sites {listed(plan['sites'])}")
    if len(found) > 1:
        raise PlanError(f"host {host!r} stands under {' and '.join(found)}", "one site for a host")
    return found[0]


def fqdn(host: str, plan: Plan, network_name: str | None = None) -> str:
    """The full name, such as base-dtn01.base.lsst.internal, of the host or of its card in another network than the primary one."""
    name = host if network_name is None else card_name(host, network(host, plan, network_name)["name"])
    return f"{name}.{zone_of(site_of(host, plan), plan)}"


def card_name(host: str, network_name: str) -> str:
    """The name of a card that is not the host's primary one, without its zone."""
    return f"{host}-{network_name}"


def zone_of(site: str, plan: Plan) -> str:
    """The name of the site's zone, such as base.lsst.internal."""
    return f"{site_in(site, plan)}.{plan['domain']}"


def site_in(site: str, plan: Plan) -> str:
    """``site``, if the plan has it."""
    if site not in plan["sites"]:
        raise PlanError(f"there is no site {site!r} in the plan", listed(plan["sites"]))
    return site


def hosts_of(site: str, plan: Plan) -> list[str]:
    """The hosts of ``site``, sorted."""
    return sorted(plan["sites"][site_in(site, plan)]["hosts"])


def network_in(site: str, name: str, plan: Plan) -> dict[str, Any]:
    """The network ``name`` of ``site`` as in the plan, with its ``name`` and ``site``."""
    networks = plan["sites"][site_in(site, plan)]["networks"]
    if name not in networks:
        raise PlanError(f"there is no network {name!r} at {site}", listed(networks))
    return {"name": name, "site": site, **networks[name]}


def network(host: str, plan: Plan, name: str | None = None) -> dict[str, Any]:
    """The network ``name`` that ``host`` is on, its primary one by default, as network_in gives it."""
    site = site_of(host, plan)
    own = plan["sites"][site]["hosts"][host] or {}
    if name is None:
        primary = [net for net in (network_in(site, name, plan) for name in own) if card_in(net) == PRIMARY]
        if len(primary) == 1:
            return primary[0]
        ordinary = [net["name"] for net in routed_networks(site, plan) if card_in(net) == PRIMARY]
        wrong = f"host {host!r} has as its primary network: {listed(net['name'] for net in primary)}"
        raise PlanError(wrong, f"one of {listed(ordinary)}")
    if name not in own:
        raise PlanError(f"host {host!r} is not on the network {name!r}", listed(own))
    return network_in(site, name, plan)


def routed_networks(site: str, plan: Plan) -> list[dict[str, Any]]:
    """The networks of ``site`` that the gateway knows: all but the isolated ones, by name."""
    found = (network_in(site, name, plan) for name in sorted(plan["sites"][site_in(site, plan)]["networks"]))
    return [net for net in found if "isolated" not in net]


def gateway(net: Mapping[str, Any]) -> str:
    """The gateway of a routed network: its last usable address."""
    return str(IPNetwork(net["subnet"])[-2])


def machine_in(net: Mapping[str, Any]) -> str:
    """The address of the machine that drives the lab in a routed network: the one below the gateway's."""
    return str(IPNetwork(net["subnet"])[-1 - RESERVED])


def lab_machine(host: str, plan: Plan) -> str:
    """The address from which the machine that drives the lab reaches ``host``."""
    return machine_in(network(host, plan))


def address(host: str, plan: Plan, network_name: str | None = None) -> str:
    """The address of ``host`` on one of its networks, by default the primary one."""
    net = network(host, plan, network_name)
    index = plan["sites"][net["site"]]["hosts"][host][net["name"]]
    subnet = IPNetwork(net["subnet"])
    highest = subnet.size - 2 - (0 if "isolated" in net else RESERVED)
    if isinstance(index, bool) or not isinstance(index, int) or not 1 <= index <= highest:
        raise PlanError(f"host {host!r} has the index {index!r} on {net['site']}'s {net['name']} ({subnet})", f"1 to {highest}")
    return str(subnet[index])


def prefixlen(net: Mapping[str, Any]) -> int:
    return IPNetwork(net["subnet"]).prefixlen


def interface(host: str, plan: Plan, network_name: str | None = None) -> str:
    """Address and length, such as 10.64.18.21/24."""
    return f"{address(host, plan, network_name)}/{prefixlen(network(host, plan, network_name))}"


def nics(host: str, plan: Plan) -> list[dict[str, Any]]:
    """The host's cards, the primary one first: nic, network, address, prefixlen, mtu, gateway (None where nothing is routed)."""
    primary = network(host, plan)["name"]
    networks = [network(host, plan, name) for name in plan["sites"][site_of(host, plan)]["hosts"][host]]
    return [
        {
            "nic": card_in(net),
            "network": net["name"],
            "address": address(host, plan, net["name"]),
            "prefixlen": prefixlen(net),
            "mtu": int(net.get("mtu", 1500)),
            "gateway": None if "isolated" in net else gateway(net),
        }
        for net in sorted(networks, key=lambda net: (net["name"] != primary, card_in(net)))
    ]


def neighbours(host: str, plan: Plan, nic: str) -> list[dict[str, str]]:
    """The other hosts in the network that the host's card ``nic`` is in, sorted by name: name, address."""
    found = [card["network"] for card in nics(host, plan) if card["nic"] == nic]
    if not found:
        raise PlanError(f"{host} has no card {nic!r}", listed(card["nic"] for card in nics(host, plan)))
    hosts = plan["sites"][site_of(host, plan)]["hosts"]
    return [{"name": name, "address": address(name, plan, found[0])} for name in sorted(hosts) if found[0] in hosts[name] and name != host]


def card_in(net: Mapping[str, Any]) -> str:
    """The name of a host's card in ``net``: by purpose, so that a role finds it whatever the hardware."""
    if "isolated" in net:
        return "lsst-daq"
    return "lsst-lh" if net.get("long_haul") else net.get("card", PRIMARY)


def routed_addresses(host: str, plan: Plan) -> list[str]:
    """Every address under which others can see ``host``: those of its routed networks, the primary one first."""
    return [card["address"] for card in nics(host, plan) if card["gateway"]]


def class_in(name: str, plan: Plan) -> dict[str, Any]:
    """The class of traffic ``name`` as in the plan."""
    found = [dict(row) for row in plan["classes"] if row["name"] == name]
    if not found:
        raise PlanError(f"there is no class of traffic {name!r}", listed(row["name"] for row in plan["classes"]))
    return found[0]


def problems(plan: Plan) -> list[str]:
    """Everything that is wrong with the plan itself, each as a message of three parts; empty when it is sound."""
    return [*_wrong_networks(plan), *_wrong_hosts(plan), *_wrong_links(plan), *_wrong_classes(plan)]


def _wrong_networks(plan: Plan) -> list[str]:
    found, whole = [], IPNetwork(plan["prefix"])
    sites = {name: IPNetwork(site["prefix"]) for name, site in plan["sites"].items()}
    taken: list[tuple[str, IPNetwork]] = []
    for site, prefix in sites.items():
        if prefix not in whole:
            found.append(PlanError(f"{site} has the prefix {prefix}", f"a part of {whole}"))
        for other, its in sites.items():
            if other < site and (its in prefix or prefix in its):
                found.append(PlanError(f"the prefixes of {other} and {site} overlap: {its}, {prefix}", "a prefix of its own for each site"))
        for name, net in plan["sites"][site]["networks"].items():
            subnet = IPNetwork(net["subnet"])
            if subnet.ip != subnet.network:
                found.append(PlanError(f"{site}'s {name} is {net['subnet']}", f"the network's own address: {subnet.cidr}"))
            if "isolated" in net:
                if any(subnet in other or other in subnet for other in (whole, *sites.values())):
                    found.append(PlanError(f"{site}'s isolated {name} is {subnet}", f"anything outside of {whole}"))
                continue
            if subnet not in prefix:
                found.append(PlanError(f"{site}'s {name} is {subnet}", f"a part of {site}'s prefix {prefix}"))
            for other, its in taken:
                if its in subnet or subnet in its:
                    found.append(PlanError(f"{site}'s {name} ({subnet}) overlaps {other} ({its})", "networks that share no address"))
            taken.append((f"{site}'s {name}", subnet))
    isolated = [net["isolated"] for site in plan["sites"].values() for net in site["networks"].values() if "isolated" in net]
    twice = sorted({name for name in isolated if isolated.count(name) > 1})
    found += [PlanError(f"two networks are isolated as {name!r}", "a name for each") for name in twice]
    return [str(error) for error in found]


def _wrong_hosts(plan: Plan) -> list[str]:
    found = []
    holders: dict[tuple[str, str, IPAddress], str] = {}
    for site in plan["sites"]:
        for host, own in plan["sites"][site]["hosts"].items():
            try:
                site_of(host, plan)
                network(host, plan)
                for name in own:
                    key = (site, name, IPAddress(address(host, plan, name)))
                    other = holders.setdefault(key, host)
                    if other != host:
                        raise PlanError(f"{other} and {host} both have {key[2]} on {site}'s {name}", "an index of its own for each host")
                names = [card["nic"] for card in nics(host, plan)]
                if len(set(names)) < len(names):
                    raise PlanError(f"{host} has two cards of one name: {listed(names)}", "one long-haul and one isolated network at most")
            except ValueError as error:
                found.append(str(error))
    return list(dict.fromkeys(found))


def _wrong_links(plan: Plan) -> list[str]:
    found = []
    for link in plan["links"]:
        if len(set(link["sites"])) != 2 or not set(link["sites"]) <= set(plan["sites"]):
            found.append(PlanError(f"link {link['name']} joins {listed(link['sites'])}", f"two of {listed(plan['sites'])}"))
        wrong = [key for key in ("rate_mbit", "rtt_ms") if not link[key] > 0]
        found += [PlanError(f"link {link['name']} has {key}: {link[key]}", "more than 0") for key in wrong]
    return [str(error) for error in found]


def _wrong_classes(plan: Plan) -> list[str]:
    found: list[PlanError] = []
    classes = plan["classes"]
    needed, known = {"name", "dscp", "share"}, {"name", "dscp", "share", "default"}
    for number, row in enumerate(classes):
        if not needed <= set(row) <= known:
            wrong = f"classes[{number}]: missing {listed(needed - set(row))}, unknown {listed(set(row) - known)}"
            return [str(PlanError(wrong, f"{listed(needed)} and, for one of them, default"))]
        if row["dscp"] not in DSCP:
            found.append(PlanError(f"the class {row['name']} has the dscp {row['dscp']!r}", listed(DSCP)))
        if isinstance(row["share"], bool) or not isinstance(row["share"], int) or not 1 <= row["share"] <= 100:
            found.append(PlanError(f"the class {row['name']} has the share {row['share']!r}", "1 to 100 (percent of each link's rate)"))
    for key in ("name", "dscp"):
        values = [row[key] for row in classes]
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        found += [PlanError(f"two classes have the {key} {value!r}", "one of its own for each") for value in twice]
    if not 1 <= len(classes) <= MOST_CLASSES:
        found.append(PlanError(f"there are {len(classes)} classes", f"1 to {MOST_CLASSES}"))
    if (whole := sum(row["share"] for row in classes if isinstance(row["share"], int))) > 100:
        found.append(PlanError(f"the shares of the classes sum up to {whole} percent", "100 together: no link carries more"))
    ordinary = [row["name"] for row in classes if row.get("default")]
    if len(ordinary) != 1:
        found.append(PlanError(f"default is: {listed(ordinary)}", "default: true for one class, where packets without a mark belong"))
    return [str(error) for error in found]


class FilterModule:
    """Filters over the plan, for inventory and templates."""

    def filters(self) -> dict[str, Any]:
        return {
            "address": address,
            "interface": interface,
            "fqdn": fqdn,
            "site_of": site_of,
            "zone_of": zone_of,
            "nics": nics,
            "neighbours": neighbours,
            "gateway": gateway,
            "lab_machine": lab_machine,
        }
