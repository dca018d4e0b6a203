"""Accepted connections as rules of nftables."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: nft_rules
short_description: Accepted connections as rules of nftables
version_added: 0.1.0
description:
  - Turns a list of accepted connections into the text of nftables rules, one a port, protocol and interface, with all its sources.
  - Refuses a port, protocol, source or interface that cannot be meant, naming the entry, what is allowed and the file to edit.
positional: _input
options:
  _input:
    description: >-
      The connections. Each has a V(port) (V(22) or V(5000-5050)), a V(proto), its V(sources) (IPv4 addresses, networks, or the one word
      V(any)) and perhaps the V(interface) that it comes in by.
    type: list
    elements: dict
    required: true
  inside:
    description: Only the rules for these interfaces.
    type: list
    elements: str
  outside:
    description: Only the rules for no interface or others than these.
    type: list
    elements: str
  name:
    description: The variable that holds the connections, for the messages.
    type: str
    default: firewall_accept
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
# ["ip saddr { 10.64.16.20/31 } tcp dport 5671 counter accept"]
rules: "{{ [{'port': '5671', 'proto': 'tcp', 'sources': ['10.64.16.20', '10.64.16.21']}] | lsst.ldf.nft_rules }}"
"""

RETURN = r"""
_value:
  description: The rules, to be put into a chain.
  type: list
  elements: str
"""

PROTOCOLS = ("tcp", "udp")
EVERYBODY = "any"
EDIT = "Edit inventories/production/group_vars/all/connections.yml, or the file that sets {name}."


def nft_rules(
    connections: Iterable[Mapping[str, Any]],
    inside: Iterable[str] | None = None,
    outside: Iterable[str] = (),
    name: str = "firewall_accept",
) -> list[str]:
    """The rules that accept ``connections``, sorted; equal port, protocol and interface make one rule. See DOCUMENTATION for the shapes.

    Raises AnsibleFilterError, in three parts, for the first entry that cannot be meant.
    """
    merged: dict[tuple[str, str, str], list[str]] = {}
    for number, entry in enumerate(connections):
        try:
            key = (parse_interface(entry.get("interface")), parse_proto(entry.get("proto")), parse_port(entry.get("port")))
            merged.setdefault(key, []).extend(parse_sources(entry.get("sources")))
        except ValueError as error:
            raise AnsibleFilterError(f"{name}[{number}]: {error} {EDIT.format(name=name)}") from None
    chosen = {key: sources for key, sources in merged.items() if key[0] not in outside and (inside is None or key[0] in inside)}
    return [rule(*key, sources) for key, sources in sorted(chosen.items(), key=order)]


def order(item: tuple[tuple[str, str, str], list[str]]) -> tuple[str, str, int]:
    """Ports as numbers: 22 comes before 443."""
    (interface, proto, port), _ = item
    return interface, proto, int(port.split("-")[0])


def rule(interface: str, proto: str, port: str, sources: list[str]) -> str:
    """One rule. Sources are collapsed, because nftables takes no set whose networks overlap."""
    parts = [f'iifname "{interface}"'] if interface else []
    if EVERYBODY not in sources:
        networks = ipaddress.collapse_addresses(ipaddress.IPv4Network(source) for source in sources)
        parts.append(f"ip saddr {{ {', '.join(str(n.network_address) if n.prefixlen == 32 else str(n) for n in networks)} }}")
    return " ".join([*parts, f"{proto} dport {port} counter accept"])


def parse_port(value: Any) -> str:
    """A port or a range of ports, as nftables writes it."""
    low, dash, high = str(value).partition("-")
    numbers = [low, high] if dash else [low]
    # bool: YAML's `yes` is no port.
    valid = not isinstance(value, bool) and all(re.fullmatch(r"[0-9]{1,5}", n) and 1 <= int(n) <= 65535 for n in numbers)
    if not valid or (dash and int(low) >= int(high)):
        raise ValueError(f"port {value!r} is none. Allowed: a number from 1 to 65535, or a range such as 5000-5050.")
    return "-".join(str(int(n)) for n in numbers)


def parse_proto(value: Any) -> str:
    """The protocol."""
    if value not in PROTOCOLS:
        raise ValueError(f"proto {value!r} is unknown. Allowed: {', '.join(PROTOCOLS)}.")
    return str(value)


def parse_interface(value: Any) -> str:
    """The name of a network interface; empty for any."""
    if value in (None, ""):
        return ""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", str(value)):
        raise ValueError(f"interface {value!r} is no name of one. Allowed: up to 15 letters, digits, and _.-, such as lsst-daq.")
    return str(value)


def parse_sources(value: Any) -> list[str]:
    """The sources as networks, or the word for everybody."""
    allowed = f"Allowed: IPv4 addresses, networks such as 10.64.16.0/24, or the word {EVERYBODY}."
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"sources {value!r} are none, so nobody could connect. {allowed}")
    return [EVERYBODY if source == EVERYBODY else parse_network(source, allowed) for source in value]


def parse_network(value: Any, allowed: str) -> str:
    """An IPv4 network in CIDR notation; host bits that are set are an error, because either they or the length are wrong."""
    try:
        network = ipaddress.IPv4Network(str(value))
    except ValueError as error:
        raise ValueError(f"source {value!r} is no IPv4 address or network ({error}). {allowed}") from None
    if network.prefixlen == 0:
        raise ValueError(f"source {value!r} is everybody. If that is meant, write the word {EVERYBODY}. {allowed}")
    return str(network)


class FilterModule:
    """What Ansible looks for."""

    def filters(self):
        """The filters of this file by name."""
        return {"nft_rules": nft_rules}
