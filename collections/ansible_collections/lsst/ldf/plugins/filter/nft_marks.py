"""Classes of traffic as rules of nftables."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.lsst.ldf.plugins.filter.nft_rules import EDIT, EVERYBODY, parse_network, parse_port, parse_proto

DOCUMENTATION = r"""
name: nft_marks
short_description: Classes of traffic as rules of nftables
version_added: 0.1.0
description:
  - Turns a list of connections and their DSCP into the text of nftables rules that write it into the packets which leave.
  - Refuses an entry that cannot be meant, naming it, what is allowed and the file to edit.
positional: _input
options:
  _input:
    description: >-
      The connections. Each has the V(name) of its class, the class's V(dscp) (V(cs1) to V(cs7), V(af11) to V(af43), V(ef)), the V(end) of
      the connection that the host is (V(client) or V(server)), its V(proto), its V(port) (V(22) or V(5000-5050)), and the V(peers) at the
      other end (IPv4 addresses, networks, or the one word V(any)).
    type: list
    elements: dict
    required: true
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
# ["ip daddr { 10.64.38.85 } tcp dport 1094 ip dscp set cs1"]
rules: "{{ marks | lsst.ldf.nft_marks }}"
vars:
  marks:
    - {name: bulk, dscp: cs1, end: client, proto: tcp, port: "1094", peers: [10.64.38.85]}
"""

RETURN = r"""
_value:
  description: The rules, to be put into a chain, in the order of the list.
  type: list
  elements: str
"""

# The side of the connection on which its port is, as seen from a packet that leaves.
PORTS = {"client": "dport", "server": "sport"}
DSCP = re.compile("cs[1-7]|af[1-4][1-3]|ef")


def nft_marks(marks: Iterable[Mapping[str, Any]]) -> list[str]:
    """One rule for each of ``marks``; see DOCUMENTATION for the shapes. Raises AnsibleFilterError, in three parts, for a wrong one."""
    rules = []
    for number, entry in enumerate(marks):
        try:
            rules.append(rule(entry))
        except ValueError as error:
            raise AnsibleFilterError(f"firewall_marks[{number}]: {error} {EDIT.format(name='firewall_marks')}") from None
    return rules


def rule(entry: Mapping[str, Any]) -> str:
    """The rule for one connection."""
    if entry.get("end") not in PORTS:
        raise ValueError(f"end {entry.get('end')!r} is none. Allowed: {', '.join(PORTS)}.")
    if not DSCP.fullmatch(str(entry.get("dscp"))):
        raise ValueError(f"dscp {entry.get('dscp')!r} is none. Allowed: cs1 to cs7, af11 to af43, ef.")
    match = f"{parse_proto(entry.get('proto'))} {PORTS[entry['end']]} {parse_port(entry.get('port'))}"
    return f"{to_peers(entry.get('peers'))}{match} ip dscp set {entry['dscp']}"


def to_peers(value: Any) -> str:
    """The part of a rule that says where to; empty for everybody."""
    allowed = f"Allowed: IPv4 addresses, networks such as 10.64.16.0/24, or the word {EVERYBODY}."
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"peers {value!r} are none. {allowed}")
    if EVERYBODY in value:
        return ""
    networks = ipaddress.collapse_addresses(ipaddress.IPv4Network(parse_network(peer, allowed)) for peer in value)
    return f"ip daddr {{ {', '.join(str(n.network_address) if n.prefixlen == 32 else str(n) for n in networks)} }} "


class FilterModule:
    """What Ansible looks for."""

    def filters(self):
        """The filters of this file by name."""
        return {"nft_marks": nft_marks}
