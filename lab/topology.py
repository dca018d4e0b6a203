"""What the plan becomes in the lab: containers, the networks between them and what each does to its own network. Pure functions.

A host has one leg in each of its networks. A gateway `lab-gw-<site>` has one in every routed network of its site and one in the network
of each of the site's links. What is bound for another site enters the link's tun device there: shaped on the way in (HTB, by the plan's
classes of traffic), held for half the round trip (delay.py), and routed onto the link's wire by a rule on where it came from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from typing import Any

import plan as address_plan

PREFIX = "lsst-lab"
UPLINK = f"{PREFIX}-uplink"
# Only these reach the world outside: they fetch what the others install.
WITH_UPLINK = "depot"
# A table and a rule priority for each link of a gateway count from here.
FIRST_TABLE = 101
LINK_MTU = 9000
# The kernel shapes in ticks: at least one tick's worth must pass at once.
LEAST_BURST = 256 * 1024
LEAST_QUEUE = 2 * 1000 * 1000
QUEUE_SECONDS = 0.05
# How much the classes of one rank take turns with; they are of different ranks, but the kernel wants to know.
QUANTUM = 2 * LINK_MTU
METRIC = 9999
# Marks the routes that come from here, so that those of a site that is gone can be taken back.
PROTOCOL = 76

Plan = Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """A podman network. ``machine``: the address of the machine that drives the lab on it, None where it has none."""

    name: str
    subnet: str | None = None
    machine: str | None = None
    mtu: int = 1500
    way_out: bool = False


@dataclass(frozen=True)
class Leg:
    """A network card. ``address`` is None where podman gives it (uplink) or the host itself sets it (isolated).

    ``mac`` is fixed: with a new one after each restart, neighbours would go on sending to the old one for up to a minute.
    """

    nic: str
    network: str
    mac: str
    address: str | None = None


@dataclass(frozen=True)
class Machine:
    """A container: a host of the plan, or a site's gateway. ``network_script`` runs at every start."""

    name: str
    site: str
    legs: tuple[Leg, ...]
    network_script: str
    delays: tuple[tuple[str, float], ...] = ()
    is_gateway: bool = False


@dataclass(frozen=True)
class LinkEnd:
    """A link as one of its two gateways sees it. Addresses are those on the link's own network; times in seconds, rates in Mbit/s."""

    name: str
    peer: str
    address: str
    peer_address: str
    rate_mbit: float
    delay: float
    table: int

    @property
    def wire(self) -> str:
        return f"l-{self.peer}"

    @property
    def line(self) -> str:
        return f"w-{self.peer}"


@dataclass(frozen=True)
class Lab:
    """Everything that has to run for ``sites``; networks and machines by name."""

    sites: tuple[str, ...]
    networks: dict[str, Network] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)


def lab(plan: Plan, groups: Mapping[str, Iterable[str]], sites: Iterable[str], cut: Iterable[str] = ()) -> Lab:
    """The lab with all hosts of ``sites``; ``cut`` names the links that carry nothing."""
    chosen = tuple(sorted(set(sites)))
    with_uplink = set(groups.get(WITH_UPLINK, ()))
    result = Lab(chosen)
    for site in chosen:
        ends = link_ends(site, plan)
        gateway = gateway_of(site, plan, chosen, ends, set(cut))
        machines = [gateway, *(host_of(host, plan, chosen, host in with_uplink) for host in address_plan.hosts_of(site, plan))]
        result.machines.update({machine.name: machine for machine in machines})
        result.networks.update({network.name: network for network in networks_of(site, plan)})
    used = {leg.network for machine in result.machines.values() for leg in machine.legs}
    for number, link in enumerate(plan["links"]):
        result.networks[link_network(link["name"])] = Network(link_network(link["name"]), str(link_subnet(number, plan)), mtu=LINK_MTU)
    result.networks[UPLINK] = Network(UPLINK, way_out=True)
    for name in set(result.networks) - used:
        del result.networks[name]
    return result


def networks_of(site: str, plan: Plan) -> list[Network]:
    """The site's networks. The machine has an address on those by which hosts are reached, and only there."""
    found = []
    primary = {address_plan.network(host, plan)["name"] for host in address_plan.hosts_of(site, plan)}
    for name, net in plan["sites"][site]["networks"].items():
        mtu = int(net.get("mtu", 1500))
        if "isolated" in net:
            found.append(Network(network_name(site, name), mtu=mtu))
        else:
            machine = address_plan.machine_in(net) if name in primary else None
            found.append(Network(network_name(site, name), net["subnet"], machine, mtu))
    return found


def network_name(site: str, name: str) -> str:
    return f"{PREFIX}-{site}-{name}"


def link_network(link: str) -> str:
    return f"{PREFIX}-link-{link}"


def link_subnet(number: int, plan: Plan) -> IPv4Network:
    """The /29 of the link with this index: inside the plan's prefix, so that it is contained, and outside of every site's."""
    taken = [ip_network(site["prefix"]) for site in plan["sites"].values()]
    free = (net for net in ip_network(plan["prefix"]).subnets(new_prefix=29) if not any(net.overlaps(site) for site in taken))
    for _ in range(number):
        next(free)
    return next(free)


def link_ends(site: str, plan: Plan) -> list[LinkEnd]:
    """The links of ``site``, seen from its gateway."""
    ends = []
    for number, link in enumerate(plan["links"]):
        if site not in link["sites"]:
            continue
        here = link["sites"].index(site)
        addresses = [str(address) for address in list(link_subnet(number, plan).hosts())[:2]]
        ends.append(
            LinkEnd(
                name=link["name"],
                peer=link["sites"][1 - here],
                address=addresses[here],
                peer_address=addresses[1 - here],
                rate_mbit=float(link["rate_mbit"]),
                delay=float(link["rtt_ms"]) / 2000,
                table=FIRST_TABLE + len(ends),
            )
        )
    return ends


def next_hops(site: str, plan: Plan, sites: Iterable[str]) -> dict[str, str]:
    """For every other site that can be reached over ``sites`` alone: the neighbour that leads there on the shortest way."""
    within = set(sites)
    neighbours = {
        name: [other for link in plan["links"] if name in link["sites"] for other in link["sites"] if other != name] for name in within
    }
    first: dict[str, str] = {site: site}
    queue = deque([site])
    while queue:
        at = queue.popleft()
        for neighbour in neighbours[at]:
            if neighbour in within and neighbour not in first:
                first[neighbour] = neighbour if at == site else first[at]
                queue.append(neighbour)
    del first[site]
    return first


def gateway_of(site: str, plan: Plan, sites: Iterable[str], ends: list[LinkEnd], cut: set[str]) -> Machine:
    """The site's gateway: the last usable address of every routed network that has hosts, and the ends of the links."""
    routed = used_networks(site, plan)
    legs = [Leg(net["name"], network_name(site, net["name"]), mac(way := address_plan.gateway(net)), way) for net in routed]
    legs += [Leg(end.wire, link_network(end.name), mac(end.address), end.address) for end in ends]
    own = address_plan.gateway(routed[0])
    by_peer = {end.peer: end for end in ends}
    lines = ["sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0"]
    # The gateway's own answers (no such host, packet too big) come back out of the line with an address of its own.
    lines += [f"[ -e /sys/class/net/{end.line} ] || ip tuntap add mode tun name {end.line}" for end in ends]
    lines += [f"sysctl -qw net.ipv4.conf.{end.line}.accept_local=1 net.ipv4.conf.{end.line}.rp_filter=0" for end in ends]
    for end in ends:
        lines += shaping(end, plan["classes"])
    commands = contained(plan)
    ways = []
    for end in ends:
        way = (
            f"blackhole default table {end.table}"
            if end.name in cut
            else f"default via {end.peer_address} dev {end.wire} table {end.table}"
        )
        commands.append(f"route replace {way}")
    for other, hop in sorted(next_hops(site, plan, sites).items()):
        ways += [f"{net['subnet']} dev {by_peer[hop].line} src {own}" for net in used_networks(other, plan)]
    lines += batch([*commands, *routes(ways)])
    for end in ends:
        rule = f"priority {end.table} iif {end.line} lookup {end.table}"
        lines.append(f"ip rule del priority {end.table} 2>/dev/null || true; ip rule add {rule}")
    return Machine(
        name=gateway_name(site),
        site=site,
        legs=tuple(legs),
        network_script=script(lines),
        delays=tuple((end.line, end.delay) for end in ends),
        is_gateway=True,
    )


def shaping(end: LinkEnd, classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rate of a link and the classes of traffic on it, on the way into its line.

    Each class of the plan is sure of its share and borrows what the others leave, in the order of the plan, up to the whole link. A packet
    belongs to the class that its DSCP names. Every class has a queue of its own: what does not fit waits 50 ms at the whole link's rate,
    longer where the class has only its share, then it is lost.
    """
    burst = max(LEAST_BURST, int(end.rate_mbit * 125))
    queue = max(LEAST_QUEUE, int(end.rate_mbit * 125000 * QUEUE_SECONDS))
    limits = f"ceil {end.rate_mbit:g}mbit burst {burst} cburst {burst} quantum {QUANTUM}"
    numbers = {row["name"]: 10 * number for number, row in enumerate(classes, 1)}
    ordinary = next(numbers[row["name"]] for row in classes if row.get("default"))
    lines = [
        f"ip link set {end.line} up mtu {LINK_MTU} txqueuelen 10000",
        f"tc qdisc del dev {end.line} root 2>/dev/null || true",
        f"tc qdisc add dev {end.line} root handle 1: htb default {ordinary}",
        f"tc class add dev {end.line} parent 1: classid 1:1 htb rate {end.rate_mbit:g}mbit {limits}",
    ]
    for rank, row in enumerate(classes):
        number, rate = numbers[row["name"]], end.rate_mbit * row["share"] / 100
        # The DSCP is the upper six bits of its byte; the lower two are the connection's own.
        mark = f"match ip dsfield {address_plan.DSCP[row['dscp']] << 2:#x} 0xfc"
        lines += [
            f"tc class add dev {end.line} parent 1:1 classid 1:{number} htb rate {rate:g}mbit {limits} prio {rank}",
            f"tc qdisc add dev {end.line} parent 1:{number} handle {number}: bfifo limit {queue}",
            f"tc filter add dev {end.line} parent 1: protocol ip prio 1 u32 {mark} flowid 1:{number}",
        ]
    return lines


def host_of(host: str, plan: Plan, sites: Iterable[str], with_uplink: bool) -> Machine:
    """A host of the plan: its cards, and routes to the networks that exist, so that any other address of the plan fails at once."""
    site = address_plan.site_of(host, plan)
    cards = address_plan.nics(host, plan)
    declared = plan["sites"][site]["networks"]
    legs, commands, ways = [], contained(plan), []
    primary = address_plan.network(host, plan)
    mine = {card["network"] for card in cards}
    long_haul = next((card for card in cards if declared[card["network"]].get("long_haul")), None)
    for card in cards:
        isolated = "isolated" in declared[card["network"]]
        given = None if isolated else card["address"]
        legs.append(Leg(card["nic"], network_name(site, card["network"]), mac(card["address"]), given))
        if isolated:
            commands.append(f"address replace {card['address']}/{card['prefixlen']} dev {card['nic']}")
    way = address_plan.gateway(primary)
    for other in (site, *sorted(next_hops(site, plan, sites))):
        for net in used_networks(other, plan):
            if other == site and net["name"] in mine:
                continue
            # What was addressed to the long-haul card has to be answered by it: over the service card it would look like another host's.
            over_long_haul = long_haul and other != site and plan["sites"][other]["networks"][net["name"]].get("long_haul")
            via = f"{long_haul['gateway']} dev {long_haul['nic']}" if over_long_haul else way
            ways.append(f"{net['subnet']} via {via}")
    if with_uplink:
        legs.append(Leg("uplink", UPLINK, mac(cards[0]["address"], "02:4d")))
    # Containers inherit forwarding from the machine; a host that forwards is a way around the gateway, or out.
    # The filter for return paths is the host's own business (role sysctl).
    lines = ["sysctl -qw net.ipv4.ip_forward=0", *batch([*commands, *routes(ways)])]
    return Machine(name=host, site=site, legs=tuple(legs), network_script=script(lines))


def mac(address: str, prefix: str = "02:4c") -> str:
    """A locally administered hardware address for an IPv4 address."""
    return ":".join([prefix, *(f"{int(byte):02x}" for byte in address.split("."))])


def used_networks(site: str, plan: Plan) -> list[Mapping[str, Any]]:
    """The site's routed networks that some host is on."""
    used = {name for host in plan["sites"][site]["hosts"].values() for name in host}
    return [net for net in address_plan.routed_networks(site, plan) if net["name"] in used]


def gateway_name(site: str) -> str:
    return f"lab-gw-{site}"


def isolated_subnets(plan: Plan) -> list[str]:
    """The subnets of the isolated networks, each once."""
    return sorted({net["subnet"] for site in plan["sites"].values() for net in site["networks"].values() if "isolated" in net})


def contained(plan: Plan) -> list[str]:
    """What every container begins with: no address of the plan follows a default route."""
    return [f"route replace unreachable {net} metric {METRIC}" for net in (plan["prefix"], *isolated_subnets(plan))]


def routes(ways: list[str]) -> list[str]:
    """Commands that make ``ways`` the only routes from here."""
    return [f"route flush table main proto {PROTOCOL}", *(f"route replace {way} proto {PROTOCOL}" for way in ways)]


def batch(commands: list[str]) -> list[str]:
    """Lines of shell that give ``commands`` to one run of ip."""
    return ["ip -batch - <<'END'", *commands, "END"]


def script(lines: list[str]) -> str:
    return "\n".join(["# Written by lab.py from the plan; run at every start.", *lines, ""])


def kinds(hosts: Iterable[str], groups: Mapping[str, Iterable[str]], no_services: Iterable[str]) -> list[str]:
    """One host of each kind, the first by name, but both name servers of a site; a kind is a set of services at one site."""
    services = set(groups) - set(no_services)
    seen: set[frozenset[str]] = set()
    chosen = []
    for host in sorted(hosts):
        kind = frozenset(name for name in services if host in groups[name])
        if kind not in seen or "nameserver" in kind:
            chosen.append(host)
        seen.add(kind)
    return chosen
