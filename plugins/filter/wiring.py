"""Who serves whom: host names, addresses and rules from ``groups``, the plan, and the tables of connections.yml.

``groups`` is Ansible's own (group: hosts, those outside of a limit too), ``plan`` as plan.py has it. ``fallback`` says who serves a site
that has none of its own: {site: {group: the other site}}. ``connections`` is a list of {from, to, port, proto, scope[, interface][,
class]}, where ``from`` and ``to`` are groups or ``all``, scope ``site`` means the same site or the one that it falls back to, and ``class``
is one of the plan's classes of traffic. Nothing here reads hostvars: a run that is limited to one host knows all it needs. An empty answer
is an error that says what to edit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from netaddr import IPAddress, IPNetwork

# Ansible loads a filter file by its path; its neighbour has to be found the same way.
if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))

import plan as address_plan
from plan import Plan, PlanError, listed

GROUPS_FILE = "inventories/production/groups.yml"
CONNECTIONS_FILE = "inventories/production/group_vars/all/connections.yml"
EVERYBODY = "all"
# What stands in connections.yml for everybody is this group of groups: partners are in none of our sites.
SITES_GROUP = "site"

Groups = Mapping[str, Sequence[str]]
Fallback = Mapping[str, Mapping[str, str]]
Connection = Mapping[str, Any]


class Facility:
    """Who is where and who stands in for whom. Reads ``groups`` once: Ansible hands out every item of it through several layers."""

    def __init__(self, groups: Groups, plan: Plan, fallback: Fallback | None = None) -> None:
        self.groups, self.plan, self.fallback = groups, plan, fallback or {}
        self.sites = sorted(plan["sites"])
        self._site_of = {host: site for site in self.sites for host in groups.get(site, ())}
        self._members: dict[str, dict[str, list[str]]] = {}

    def site_of(self, host: str) -> str:
        return self._site_of.get(host) or address_plan.site_of(host, self.plan)

    def members(self, group: str, site: str | None = None) -> list[str]:
        """The hosts of ``group``, or of all sites, that are machines of ``site``, or of any site; sorted. The group itself must exist."""
        if group not in self._members:
            name = SITES_GROUP if group == EVERYBODY else group
            if name not in self.groups:
                raise PlanError(f"there is no group {group!r}", f"a group of {GROUPS_FILE}", f"the name, or {GROUPS_FILE}")
            places = [(host, self._site_of.get(host)) for host in self.groups[name]]
            self._members[group] = {here: sorted(host for host, its in places if its == here) for here in self.sites}
        by_site = self._members[group]
        return list(by_site.get(site, ())) if site else sorted(host for hosts in by_site.values() for host in hosts)

    def server_site(self, group: str, site: str) -> str | None:
        """The site whose ``group`` serves ``site``: its own, else the one it falls back to, else None."""
        if self.members(group, site):
            return site
        other = self.fallback.get(site, {}).get(group)
        return other if other and self.members(group, other) else None

    def reaches(self, connection: Connection, client_site: str, site: str) -> bool:
        """Whether ``connection`` leads from ``client_site`` to ``site``; with the scope site one of the two may stand in for the other."""
        if connection["scope"] == "any" or client_site == site:
            return True
        serves = connection["to"] != EVERYBODY and self.server_site(connection["to"], client_site) == site
        visits = connection["from"] != EVERYBODY and self.server_site(connection["from"], site) == client_site
        return serves or visits


def all_at(groups: Groups, group: str, host: str, plan: Plan, fallback: Fallback) -> list[str]:
    """The hosts of ``group`` that serve ``host``, sorted; never empty."""
    facility, site = Facility(groups, plan, fallback), address_plan.site_of(host, plan)
    serving = facility.server_site(group, site)
    if serving is None:
        raise PlanError(
            f"nobody serves {site} as {group}",
            f"a host of {group} at {site}, or another site of {listed(plan['sites'])} that has one as its fall-back",
            f"inventories/production/{site}.yml, or fallback in {CONNECTIONS_FILE}",
        )
    return facility.members(group, serving)


def one_at(groups: Groups, group: str, host: str, plan: Plan, fallback: Fallback) -> str:
    """The first host of ``group`` that serves ``host``."""
    return all_at(groups, group, host, plan, fallback)[0]


def at_site(groups: Groups, group: str, site: str, plan: Plan) -> list[str]:
    """The hosts of ``group`` at ``site``, sorted; may be empty."""
    return Facility(groups, plan).members(group, address_plan.site_in(site, plan))


def elsewhere(groups: Groups, group: str, host: str, plan: Plan) -> list[str]:
    """The hosts of ``group`` at other sites than ``host``'s; may be empty."""
    facility, here = Facility(groups, plan), address_plan.site_of(host, plan)
    return [name for name in facility.members(group) if facility.site_of(name) != here]


def peers(groups: Groups, group: str, host: str, plan: Plan, network: str) -> list[dict[str, str]]:
    """The other hosts of ``group`` at any site: {name, host, address}, where host is the full name and address that of its card there."""
    others = [name for name in Facility(groups, plan).members(group) if name != host]
    return [
        {
            "name": name,
            "host": address_plan.fqdn(name, plan),
            "address": address_plan.fqdn(name, plan, network),
        }
        for name in others
    ]


def senders(names: Iterable[str], plan: Plan, relay: bool = False) -> list[dict[str, Any]]:
    """A row {name, host, addresses} for each of ``names``, where host is the full name and addresses are all that it may come from.

    ``relay``: they are collectors, which pass on what the hosts of their sites sent: with ``relays``, these hosts' names.
    """
    return [
        {"name": name, "host": address_plan.fqdn(name, plan), "addresses": address_plan.routed_addresses(name, plan)}
        | ({"relays": address_plan.hosts_of(address_plan.site_of(name, plan), plan)} if relay else {})
        for name in names
    ]


def inbound(connections: Iterable[Connection], host: str, groups: Groups, plan: Plan, fallback: Fallback) -> list[dict[str, Any]]:
    """What ``host`` accepts: {port, proto, sources[, interface]}, one for each port, by protocol and port.

    Sources are the addresses of single hosts, or a site's whole prefix where everybody of a site may connect.
    """
    facility, site = Facility(groups, plan, fallback), address_plan.site_of(host, plan)
    found: dict[tuple[str, str, str], set[str]] = {}
    for connection in connections:
        if sources := clients_of(host, site, connection, facility):
            found.setdefault((connection["proto"], str(connection["port"]), connection.get("interface", "")), set()).update(sources)
    return [
        {"port": port, "proto": proto, "sources": without_contained(sources)} | ({"interface": card} if card else {})
        for (proto, port, card), sources in sorted(found.items(), key=lambda item: (item[0][0], int(item[0][1].split("-")[0]), item[0]))
    ]


def marks(connections: Iterable[Connection], host: str, groups: Groups, plan: Plan, fallback: Fallback) -> list[dict[str, Any]]:
    """What leaves ``host`` in a class of traffic: {name, dscp, end, proto, port, peers}, one for each class, end, protocol and port.

    ``end``: whether the host is the connection's client, whose packets go to the port, or its server, whose packets come from it.
    ``peers``: who is at the other end, like the sources of ``inbound``.
    """
    facility, site = Facility(groups, plan, fallback), address_plan.site_of(host, plan)
    found: dict[tuple[str, str, str, str], set[str]] = {}
    for connection in (row for row in connections if "class" in row):
        for end, peers in (
            ("client", servers_of(host, site, connection, facility)),
            ("server", clients_of(host, site, connection, facility)),
        ):
            if peers:
                found.setdefault((connection["class"], end, connection["proto"], str(connection["port"])), set()).update(peers)
    return [
        {
            "name": name,
            "dscp": address_plan.class_in(name, plan)["dscp"],
            "end": end,
            "proto": proto,
            "port": port,
            "peers": without_contained(peers),
        }
        for (name, end, proto, port), peers in sorted(
            found.items(), key=lambda item: (*item[0][:3], int(item[0][3].split("-")[0]), item[0])
        )
    ]


def clients_of(host: str, site: str, connection: Connection, facility: Facility) -> set[str]:
    """Where those come from that ``connection`` lets in at ``host`` of ``site``; empty when the host is not its server."""
    if host not in facility.members(connection["to"], site):
        return set()
    near = [client_site for client_site in facility.sites if facility.reaches(connection, client_site, site)]
    return {source for client_site in near for source in sources_at(client_site, connection, host, facility)}


def servers_of(host: str, site: str, connection: Connection, facility: Facility) -> set[str]:
    """Where those are whom ``connection`` lets ``host`` of ``site`` call; empty when the host is not its client."""
    if host not in facility.members(connection["from"], site):
        return set()
    near = [other for other in facility.sites if facility.reaches(connection, site, other)]
    if connection["to"] == EVERYBODY:
        return {facility.plan["sites"][other]["prefix"] for other in near}
    servers = [server for other in near for server in facility.members(connection["to"], other) if server != host]
    return {address for server in servers for address in address_plan.routed_addresses(server, facility.plan)}


def sources_at(site: str, connection: Connection, host: str, facility: Facility) -> list[str]:
    """Where the clients at ``site`` come from: their addresses, or the isolated network of ``interface``; never ``host`` itself."""
    plan, clients = facility.plan, [client for client in facility.members(connection["from"], site) if client != host]
    if "interface" in connection:
        cards = [card for card in address_plan.nics(host, plan) if card["nic"] == connection["interface"]]
        return [address_plan.network(host, plan, card["network"])["subnet"] for card in cards if clients]
    if connection["from"] == EVERYBODY:
        return [plan["sites"][site]["prefix"]] if clients else []
    return [address for client in clients for address in address_plan.routed_addresses(client, plan)]


def without_contained(sources: Iterable[str]) -> list[str]:
    """Addresses and networks in order, without those that another one holds already: a set of nftables takes no overlaps."""
    kept: list[IPNetwork] = []
    for net in sorted({IPNetwork(source) for source in sources}):
        if not any(net in other for other in kept):
            kept.append(net)
    return [str(net.ip) if net.size == 1 else str(net) for net in kept]


def sources(rules: Iterable[Mapping[str, Any]], port: int | str, proto: str) -> list[str]:
    """Who may come to one port, of what ``inbound`` returned; empty when nobody may."""
    return next((list(rule["sources"]) for rule in rules if rule["port"] == str(port) and rule["proto"] == proto), [])


def zones(plan: Plan, site: str, servers: Iterable[str], services: Mapping[str, Iterable[str]] | None = None) -> list[dict[str, Any]]:
    """The zones of ``site``, forward first, as nameserver_zones wants them. ``servers``: its name servers, the first is the first;
    ``services``: a service's name -> the hosts whose addresses it has.

    A host has its own name for the primary address and <host>-<network> for each other routed one. There is a reverse zone for every /24
    that somebody has an address in. A DAQ network is in no zone.
    """
    zone = address_plan.zone_of(site, plan)
    forward, reverse = [], {}
    for host in address_plan.hosts_of(site, plan):
        for number, card in enumerate(card for card in address_plan.nics(host, plan) if card["gateway"]):
            name = host if number == 0 else address_plan.card_name(host, card["network"])
            forward.append({"name": name, "type": "A", "value": card["address"]})
            last, rest = reversed_address(card["address"])
            reverse.setdefault(rest, []).append((int(last), {"name": last, "type": "PTR", "value": f"{name}.{zone}."}))
    for name, hosts in sorted((services or {}).items()):
        forward += [{"name": name, "type": "A", "value": address_plan.address(host, plan)} for host in hosts]
    servers_records = [{"name": "@", "type": "NS", "value": f"{server}.{zone}."} for server in servers]
    found = [{"name": zone, "records": servers_records + forward}]
    for name in sorted(reverse, key=lambda name: int(name.split(".")[0])):
        found.append({"name": name, "records": servers_records + [record for _, record in sorted(reverse[name], key=lambda pair: pair[0])]})
    return found


def reversed_address(address: str) -> tuple[str, str]:
    """The last number of an address and the name of its /24's reverse zone: 7 and 16.64.10.in-addr.arpa of 10.64.16.7."""
    last, _, rest = IPAddress(address).reverse_dns.rstrip(".").partition(".")
    return last, rest


def secondary_zones(plan: Plan, site: str, groups: Groups) -> list[dict[str, Any]]:
    """The zones of all other sites and the addresses to fetch them from, as nameserver_secondary_zones wants them."""
    facility, found = Facility(groups, plan), []
    for other in facility.sites:
        servers = facility.members("nameserver", other)
        if other != site and servers:
            primaries = [address_plan.address(server, plan) for server in servers]
            found += [{"name": zone["name"], "primaries": primaries} for zone in zones(plan, other, servers)]
    return found


def named(names: Iterable[str], **columns: Any) -> list[dict[str, Any]]:
    """A row {name, ...columns} for each of ``names``: the shape in which roles take their instances."""
    return [{"name": name, **columns} for name in names]


def of_groups(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> list[dict[str, Any]]:
    """The rows whose ``hosts`` holds one of ``names`` (a host's group_names), without that column; a row without it is for every host."""
    mine = set(names)
    return [{key: value for key, value in row.items() if key != "hosts"} for row in rows if "hosts" not in row or mine & set(row["hosts"])]


class FilterModule:
    """Filters for group_vars."""

    def filters(self) -> dict[str, Any]:
        return {
            "all_at": all_at,
            "one_at": one_at,
            "at_site": at_site,
            "elsewhere": elsewhere,
            "peers": peers,
            "named": named,
            "senders": senders,
            "inbound": inbound,
            "marks": marks,
            "sources": sources,
            "zones": zones,
            "secondary_zones": secondary_zones,
            "of_groups": of_groups,
        }
