"""Which builds of the camera's DAQ would meet that do not work together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: daq_incompatible
short_description: Which builds of the camera's DAQ would meet that do not work together
version_added: 0.3.0
description:
  - A server works with the clients that its row of the matrix names; a build works with itself. What no row names does not work together.
positional: _input, clients, servers
options:
  _input:
    description: The matrix, rows with a V(server) and its V(clients), all of them builds.
    type: list
    elements: dict
    required: true
  clients:
    description: Builds of clients.
    type: list
    elements: str
    required: true
  servers:
    description: Builds of servers that they would meet.
    type: list
    elements: str
    required: true
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
problems: "{{ daq_client_compatible | lsst.ldf.daq_incompatible(['R5-V12.0'], ['R5-V11.3', 'R5-V12.0']) }}"
"""

RETURN = r"""
_value:
  description: Each pair that does not work together, such as V(clients of R5-V12.0 with a server of R5-V11.3).
  type: list
  elements: str
"""


def daq_incompatible(matrix: Iterable[Mapping[str, Any]], clients: Iterable[str], servers: Iterable[str]) -> list[str]:
    """The pairs of builds that do not work together; see ``DOCUMENTATION``."""
    together = {(client, row["server"]) for row in matrix for client in row["clients"]}
    pairs = sorted({(client, server) for client in clients for server in servers if client != server})
    return [f"clients of {client} with a server of {server}" for client, server in pairs if (client, server) not in together]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"daq_incompatible": daq_incompatible}
