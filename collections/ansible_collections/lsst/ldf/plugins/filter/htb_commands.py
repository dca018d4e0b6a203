"""Rates of a network card as commands of tc."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: htb_commands
short_description: Rates of a network card as commands of tc
version_added: 0.1.0
description:
  - Turns the rate of a card and the lower rates of some destinations into commands of tc, which make an HTB of it.
  - Refuses what cannot be meant, naming the entry, what is allowed and the file to edit.
positional: _input, interface, rate_mbit, burst_mbit
options:
  _input:
    description: >-
      The destinations that get less. Each has a V(name), its V(destination) (an IPv4 network; no two share an address), its V(rate_mbit),
      and perhaps a V(burst_mbit). Together they leave something of the card's rate for everything else.
    type: list
    elements: dict
    required: true
  interface:
    description: The card.
    type: str
    required: true
  rate_mbit:
    description: The card's rate in Mbit/s.
    type: int
    required: true
  burst_mbit:
    description: How much may leave at once, in Mbit.
    type: int
    required: true
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
commands: "{{ [{'name': 'ncsa', 'destination': '10.64.32.0/20', 'rate_mbit': 2500}] | lsst.ldf.htb_commands('lsst-lh', 10000, 40) }}"
"""

RETURN = r"""
_value:
  description: The arguments of one tc after the other, for a card without a queueing discipline.
  type: list
  elements: str
"""

EDIT = "Edit inventories/production/group_vars/shaping/shaping.yml, or the file that sets {name}."
# The whole card, what is in no class, and the first class.
WHOLE = 1
REST = 2
FIRST = 3
# What classes that borrow take turns with, in bytes. The kernel's own guess is out of its own bounds at 10 Gbit/s.
QUANTUM = 100_000


def htb_commands(classes: Iterable[Mapping[str, Any]], interface: str, rate_mbit: int, burst_mbit: int) -> list[str]:
    """The commands. See DOCUMENTATION for the shapes. Raises AnsibleFilterError, in three parts, for the first wrong value."""
    classes = list(classes)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", str(interface)):
        raise refusal("shaping_interface", f"{interface!r} is no name of one. Allowed: up to 15 letters, digits, and _.-, such as lsst-lh.")
    for name, value in (("shaping_rate_mbit", rate_mbit), ("shaping_burst_mbit", burst_mbit)):
        if not is_positive(value):
            raise refusal(name, f"{value!r} is none. Allowed: a whole number above 0.")
    networks = destinations(classes)
    rest = rate_mbit - sum(row["rate_mbit"] for row in classes)
    if rest < 1:
        wrong = f"the rates sum up to {rate_mbit - rest} Mbit/s. Allowed: less than shaping_rate_mbit together, which is {rate_mbit}."
        raise refusal("shaping_classes", wrong)
    dev = f"dev {interface}"
    commands = [
        f"qdisc add {dev} root handle 1: htb default {REST}",
        f"class add {dev} parent 1: classid 1:{WHOLE} htb {limits(rate_mbit, rate_mbit, burst_mbit)}",
        f"class add {dev} parent 1:{WHOLE} classid 1:{REST} htb {limits(rest, rate_mbit, burst_mbit)}",
    ]
    for number, (row, network) in enumerate(zip(classes, networks, strict=True), FIRST):
        rate, burst = row["rate_mbit"], row.get("burst_mbit", burst_mbit)
        commands += [
            f"class add {dev} parent 1:{WHOLE} classid 1:{number} htb {limits(rate, rate, burst)}",
            f"filter add {dev} parent 1: protocol ip prio 1 u32 match ip dst {network} flowid 1:{number}",
        ]
    return commands


def limits(rate: int, ceiling: int, burst: int) -> str:
    """What a class is sure of, what it may borrow up to, and how much of both at once."""
    return f"rate {rate}mbit ceil {ceiling}mbit burst {burst}mbit cburst {burst}mbit quantum {QUANTUM}"


def destinations(classes: list[Mapping[str, Any]]) -> list[ipaddress.IPv4Network]:
    """The networks of ``classes``, whose other values are right, too."""
    found: list[ipaddress.IPv4Network] = []
    for number, row in enumerate(classes):
        entry = f"shaping_classes[{number}]"
        for key in ("rate_mbit", "burst_mbit"):
            if (key in row or key == "rate_mbit") and not is_positive(row.get(key)):
                raise refusal("shaping_classes", f"{key} {row.get(key)!r} is none. Allowed: a whole number above 0.", entry)
        try:
            network = ipaddress.IPv4Network(str(row.get("destination")))
        except ValueError as error:
            wrong = f"destination {row.get('destination')!r} is no network ({error}). Allowed: one such as 10.64.32.0/20."
            raise refusal("shaping_classes", wrong, entry) from None
        for other in found:
            if network.overlaps(other):
                raise refusal("shaping_classes", f"destination {network} overlaps {other}. Allowed: networks that share no address.", entry)
        found.append(network)
    return found


def is_positive(value: Any) -> bool:
    """Whether it is a whole number above 0; YAML's `yes` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def refusal(name: str, message: str, entry: str | None = None) -> AnsibleFilterError:
    return AnsibleFilterError(f"{entry or name}: {message} {EDIT.format(name=name)}")


class FilterModule:
    """What Ansible looks for."""

    def filters(self):
        """The filters of this file by name."""
        return {"htb_commands": htb_commands}
