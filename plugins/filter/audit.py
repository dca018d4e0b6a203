"""What is wrong with an inventory as a whole: the faults that no single value shows. Used by the tests and, as a filter, by plays.

Every function returns messages that say what is wrong, what is allowed and what to edit; an empty list means sound.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import yaml

# Ansible loads a filter file by its path; its neighbours have to be found the same way.
if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))

import plan as address_plan
from plan import Plan, PlanError, listed
from wiring import CONNECTIONS_FILE, EVERYBODY, GROUPS_FILE, Connection, Facility, Fallback, Groups

INVENTORY = "inventories/production"
# Groups of depth 1 that hold other groups; all others are services.
TREES = ("place", "camera")
PARTNERS = "partner"
# Members of these stand in for each other, at one site and for one purpose.
REDUNDANT = ("nameserver", "identity", "kafka", "oracle", "storage", "object_store", "dtn", "kubernetes")
TIERS = range(1, 6)
SECRET = re.compile(r"_(key|password|secret|token)$")
PRIVATE_KEY = "PRIVATE KEY-----"
# Files of group_vars that are not a role's: one for everybody, and how hosts are reached, which a site may decide for itself.
TABLES = ("plan", "connections", "connection")
ANYWHERE = "connection"


@dataclass(frozen=True)
class Layer:
    """A group as far as precedence goes: the deeper one wins; between two of one depth the alphabet decides, which nobody means."""

    name: str
    depth: int
    children: frozenset[str]
    hosts: frozenset[str]
    keys: frozenset[str]


def inventory_problems(groups: Groups, plan: Plan, connections: Iterable[Connection], fallback: Fallback) -> list[str]:
    """Everything that can be seen without reading a file: usable in a play, with Ansible's own ``groups``."""
    facility = Facility(groups, plan, fallback)
    return [
        *address_plan.problems(plan),
        *place_problems(groups, plan),
        *name_problems(groups, plan),
        *fallback_problems(facility),
        *connection_problems(connections, facility),
    ]


def place_problems(groups: Groups, plan: Plan) -> list[str]:
    """Every host in one site, the same in inventory and plan; only partners are in none."""
    found = []
    for site in sorted(set(plan["sites"]) - set(groups)):
        found.append(PlanError(f"the plan's site {site} is no group", listed(groups), f"{GROUPS_FILE} and {site}.yml"))
    planned_hosts = {host for site in plan["sites"] for host in address_plan.hosts_of(site, plan)}
    own_hosts = {host for name, members in groups.items() if name not in ("all", PARTNERS) for host in members} - set(
        groups.get(PARTNERS, ())
    )
    for host in sorted(own_hosts | planned_hosts):
        stands, planned = [site for site in plan["sites"] if host in groups.get(site, ())], address_plan.sites_of(host, plan)
        files = " and ".join(f"{INVENTORY}/{site}.yml" for site in stands or planned or plan["sites"])
        if len(stands) > 1:
            found.append(PlanError(f"host {host!r} is in the sites {' and '.join(stands)}", "one site for a host", files))
        elif not stands:
            found.append(PlanError(f"host {host!r} is in no site", f"a line under {' or '.join(planned or plan['sites'])}", files))
        elif not planned:
            found.append(PlanError(f"host {host!r} of {stands[0]} is not in the plan", "an index in a network"))
        elif stands != planned:
            wrong = f"host {host!r} is in {stands[0]}, but stands in the plan under {' and '.join(planned)}"
            found.append(PlanError(wrong, "the same site"))
    return [str(error) for error in found]


def name_problems(groups: Groups, plan: Plan) -> list[str]:
    """Names are <site>-<service><nn>, and none can be taken for an ID by podman, which knows a container by the beginning of its ID."""
    found = []
    for host in sorted({host for members in groups.values() for host in members}):
        file = f"{INVENTORY}/*.yml"
        if re.fullmatch("[0-9a-f]+", host):
            found.append(PlanError(f"host {host!r} is a hexadecimal number, which podman takes for a container's ID", "another name", file))
        site = next((site for site in plan["sites"] if host in groups.get(site, ())), None)
        if site and not re.fullmatch(rf"{site}-[a-z]+(-[a-z]+)*[0-9]{{2}}", host):
            found.append(PlanError(f"host {host!r} of {site} is not called after it", f"{site}-<service><nn>", file))
    return [str(error) for error in found]


def fallback_problems(facility: Facility) -> list[str]:
    """The fall-back table names sites and groups that exist, only where they are needed and can help."""
    found, sites = [], facility.sites
    for site, group, other in ((site, group, other) for site, table in facility.fallback.items() for group, other in table.items()):
        row = f"fallback: {site} has {group} from {other}"
        if site not in sites or other not in sites:
            found.append(PlanError(f"{row}, and there is no such site", listed(sites), CONNECTIONS_FILE))
        elif group not in facility.groups:
            found.append(PlanError(f"{row}, and there is no such group", f"a group of {GROUPS_FILE}", CONNECTIONS_FILE))
        elif facility.members(group, site):
            found.append(PlanError(f"{row}, but has its own", "sites without a host of the group", CONNECTIONS_FILE))
        elif not facility.members(group, other):
            having = [name for name in sites if facility.members(group, name)]
            found.append(PlanError(f"{row}, which has none", listed(having), CONNECTIONS_FILE))
    return [str(error) for error in found]


def connection_problems(connections: Iterable[Connection], facility: Facility) -> list[str]:
    """Every connection is between groups that exist, well formed, and no site is left without the other end."""
    return [str(error) for connection in connections for error in _wrong_connection(connection, facility)]


def _wrong_connection(connection: Connection, facility: Facility) -> Iterator[PlanError]:
    row = "connection {from} to {to}, port {port}".format_map({"from": "?", "to": "?", "port": "?", **connection})
    needed, optional = {"from", "to", "port", "proto", "scope"}, {"interface", "class"}
    if not needed <= set(connection) <= needed | optional:
        wrong = f"{row}: missing {listed(needed - set(connection))}, unknown {listed(set(connection) - needed - optional)}"
        yield PlanError(wrong, f"{listed(needed)} and {listed(optional)}", CONNECTIONS_FILE)
        return
    for end in ("from", "to"):
        if connection[end] != EVERYBODY and connection[end] not in facility.groups:
            yield PlanError(f"{row}: there is no group {connection[end]!r}", f"all, or a group of {GROUPS_FILE}", CONNECTIONS_FILE)
            return
    if connection["from"] == connection["to"] == EVERYBODY:
        yield PlanError(f"{row}: from all to all", "a group at one end", CONNECTIONS_FILE)
    for key, allowed in (("proto", ("tcp", "udp")), ("scope", ("site", "any"))):
        if connection[key] not in allowed:
            yield PlanError(f"{row}: {key} is {connection[key]!r}", listed(allowed), CONNECTIONS_FILE)
    classes = [traffic["name"] for traffic in facility.plan["classes"]]
    if connection.get("class", classes[0]) not in classes:
        yield PlanError(f"{row}: class is {connection['class']!r}", listed(classes), f"{CONNECTIONS_FILE}, or {address_plan.PLAN_FILE}")
    if {"class", "interface"} <= set(connection):
        yield PlanError(
            f"{row}: a class on {connection['interface']}", "a class or an interface: no link has a DAQ's traffic", CONNECTIONS_FILE
        )
    numbers = [int(number) if number.isdigit() else 0 for number in str(connection["port"]).split("-", 1)]
    if not all(0 < number < 65536 for number in numbers) or numbers != sorted(numbers):
        yield PlanError(f"{row}: the port is {connection['port']!r}", '1 to 65535, or a range such as "5000-5050"', CONNECTIONS_FILE)
    if connection["scope"] == "site":
        yield from _nobody_there(connection, row, facility)


def _nobody_there(connection: Connection, row: str, facility: Facility) -> Iterator[PlanError]:
    """A client's site has to have a server; and where everybody is the server, each site has to have a client."""
    needing, wanted = ("to", "from") if connection["to"] == EVERYBODY else ("from", "to")
    group = connection[wanted]
    for site in (site for site in facility.sites if facility.members(connection[needing], site)):
        if not facility.server_site(group, site):
            wrong, where = f"{row}: {site} has no {group} and falls back to nobody", f"{INVENTORY}/{site}.yml, or {CONNECTIONS_FILE}"
            yield PlanError(wrong, f"a host of {group} at {site}, or a fall-back", where)


def placement_problems(hosts: Mapping[str, Mapping[str, Any]], facility: Facility) -> list[str]:
    """Every host says where it stands and when it goes down; redundant ones share neither rack nor hypervisor.

    ``hosts``: for each host of a site its ``placement`` {rack[, hypervisor]} and ``shutdown_tier``.
    """
    found = []
    for host, own in sorted(hosts.items()):
        file = f"{INVENTORY}/{facility.site_of(host)}.yml"
        place, tier = own.get("placement"), own.get("shutdown_tier")
        if not isinstance(place, Mapping) or not place.get("rack") or not set(place) <= {"rack", "pdu", "hypervisor"}:
            found.append(PlanError(f"host {host!r} has the placement {place!r}", "rack, and perhaps pdu and hypervisor", file))
        if isinstance(tier, bool) or tier not in TIERS:
            found.append(PlanError(f"host {host!r} has the shutdown_tier {tier!r}", f"{TIERS[0]} (first) to {TIERS[-1]} (last)", file))
    for group, site in product(REDUNDANT, facility.sites):
        for one, other in combinations(facility.members(group, site), 2):
            places = [hosts[name].get("placement") or {} for name in (one, other)]
            for key in ("rack", "hypervisor"):
                if places[0].get(key) and places[0].get(key) == places[1].get(key):
                    wrong = f"{one} and {other} are each other's reserve as {group} and share the {key} {places[0][key]}"
                    found.append(PlanError(wrong, "a rack and a hypervisor of its own for each", f"{INVENTORY}/{site}.yml"))
    return [str(error) for error in found]


def tier_problems(tiers: Mapping[str, int], connections: Iterable[Connection], facility: Facility) -> list[str]:
    """Nobody goes down before those that depend on it: a client's tier is not above its server's."""
    found = []
    for connection in connections:
        # Who visits everybody (a monitor, a bastion) needs nobody in particular.
        if connection["to"] == EVERYBODY or connection["from"] == connection["to"]:
            continue
        service = connection["to"]
        for server in facility.members(service):
            for client in facility.members(connection["from"]):
                near = facility.reaches(connection, facility.site_of(client), facility.site_of(server))
                if near and tiers[client] > tiers[server]:
                    wrong = (
                        f"{server} goes down in tier {tiers[server]}, before {client} in tier {tiers[client]}, which needs it as {service}"
                    )
                    where = f"shutdown_tier in {INVENTORY}/{facility.site_of(server)}.yml"
                    found.append(PlanError(wrong, "a server's tier at least its clients'", where))
    return list(dict.fromkeys(map(str, found)))


def layer_problems(layers: Iterable[Layer]) -> list[str]:
    """Services are flat, and for no host two groups of one depth set the same key."""
    layers, found = list(layers), []
    for layer in layers:
        if layer.depth == 1 and layer.children and layer.name not in TREES:
            wrong = f"the service group {layer.name} has children: {listed(layer.children)}"
            found.append(PlanError(wrong, f"children of {listed(TREES)} only: they change whose value counts", f"{INVENTORY}/*.yml"))
    for one, other in combinations(sorted(layers, key=lambda layer: layer.name), 2):
        both, keys = one.hosts & other.hosts, one.keys & other.keys
        if one.depth == other.depth and both and keys:
            wrong = f"{listed(keys)} is set by {one.name} and by {other.name}, both of depth {one.depth}, for {listed(both)}"
            where = f"{INVENTORY}/group_vars/{one.name} or {other.name}"
            found.append(PlanError(wrong, "one group of a depth for a key, or one variable for both", where))
    return [str(error) for error in found]


def file_problems(directory: Path, groups: Iterable[str], sites: Iterable[str], roles: Iterable[str]) -> list[str]:
    """Every file of group_vars belongs to a group and a role, holds that role's variables only, and no secret is readable or out of place.

    ``directory``: the inventory; ``groups``, ``sites`` and ``roles``: the names there are.
    """
    found: list[PlanError] = []
    groups, sites, roles = set(groups), set(sites), set(roles)
    declared = set(_group_names(load(directory / "groups.yml")))
    for file in sorted(directory.glob("*.yml")):
        where = f"{INVENTORY}/{file.name}"
        strange = set(_group_names(load(file))) - declared
        found += [
            PlanError(f"{where} has the group {name!r}", f"one that {INVENTORY}/groups.yml declares", where) for name in sorted(strange)
        ]
        found += _wrong_secrets(file, where, site=None)
    for file in sorted(path for layer in ("group_vars", "host_vars") for path in directory.glob(f"{layer}/**/*.yml")):
        layer, name = file.relative_to(directory).parts[:2]
        where = f"{INVENTORY}/{file.relative_to(directory)}"
        if layer == "group_vars" and name not in groups:
            found.append(PlanError(f"{where} is for the group {name!r}, which is not there", listed(groups), where))
        if file.stem in roles:
            strange = [key for key in load(file) or {} if not key.removeprefix("__").startswith(f"{file.stem}_")]
            found += [PlanError(f"{where} sets {key}", f"variables of the role {file.stem}", where) for key in strange]
        elif file.stem != ANYWHERE and (name != "all" or file.stem not in TABLES):
            allowed = f"{listed(roles)}, {ANYWHERE}; for all also {listed(TABLES)}"
            found.append(PlanError(f"{where} is for the role {file.stem!r}, which is not there", allowed, where))
        found += _wrong_secrets(file, where, site=name if layer == "group_vars" and name in sites else None)
    return [str(error) for error in found]


class Sealed(str):
    """An inline vault value as it stands in the file."""

    @property
    def vault_id(self) -> str:
        return [*self.split("\n", 1)[0].strip().split(";"), "", "", ""][3]


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML with inline vault values, which are kept as they are."""


Loader.add_constructor("!vault", lambda loader, node: Sealed(loader.construct_scalar(node)))


def load(file: Path) -> Any:
    return yaml.load(file.read_text(), Loader)


def _group_names(tree: Any) -> Iterator[str]:
    for name, body in (tree or {}).items():
        yield name
        yield from _group_names((body or {}).get("children"))


def _scalars(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _scalars(part, str(name))
    elif isinstance(value, list):
        for part in value:
            yield from _scalars(part, key)
    elif isinstance(value, str):
        yield key, value


def _wrong_secrets(file: Path, where: str, site: str | None) -> Iterator[PlanError]:
    home = f"{INVENTORY}/group_vars/{site or '<site>'}/"
    for key, value in _scalars(load(file)):
        if isinstance(value, Sealed):
            if site is None or value.vault_id != site:
                wrong = f"{where} holds the secret {key} under the vault id {value.vault_id!r}"
                yield PlanError(wrong, "a site's secrets in its own directory, under its own id", home)
        elif PRIVATE_KEY in value or (SECRET.search(key) and value):
            yield PlanError(f"{where} holds the secret {key} in plain text", "an inline !vault value of a site", home)


class FilterModule:
    """Filters for plays."""

    def filters(self) -> dict[str, Any]:
        return {"inventory_problems": inventory_problems}
