"""The DAQ's partitions and their sources, as a command of the SDK tells them.

The command and its JSON are those of the stand-in, ``lab/standins/daq-sdk``: what the real SDK's commands print is not public.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from ansible_collections.lsst.ldf.plugins.module_utils.daq import DaqError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

STATES = ["up", "down"]
SOURCES = {"state": {"type": "str", "choices": STATES, "default": "up"}, "at_least": {"type": "int", "required": True}}
SPEC = {
    "command": {"type": "path", "default": "/opt/lsst/daq-sdk/current/x86/bin/daq_partitions"},
    "backing_dir": {"type": "path", "default": "/var/lib/vrce"},
    "wait_for": {
        "type": "dict",
        "options": {"partitions": {"type": "dict", "default": {}}, "sources": {"type": "dict", "options": SOURCES}},
    },
    "timeout": {"type": "float", "default": 60.0},
}
# Seconds that the command may take.
PATIENCE = 30


@dataclass(frozen=True)
class Source:
    """A source by its ``place`` in the crate, three numbers such as 16/3/2; ``state`` is one of ``STATES``."""

    place: str
    state: str


@dataclass(frozen=True)
class Partition:
    """A partition. ``interface``: the DAQ's, empty when it is down; ``servers``: daemon -> state; states are those of ``STATES``."""

    name: str
    state: str
    interface: str
    servers: Mapping[str, str]
    sources: list[Source]


def check(wait_for: Mapping[str, Any] | None) -> None:
    """DaqError for a state that no partition has."""
    for name, state in ((wait_for or {}).get("partitions") or {}).items():
        if state not in STATES:
            raise DaqError(f"wait_for.partitions has {name}: {state}.\nAllowed: {' or '.join(STATES)}.\nCorrect wait_for.")


def ask(command: str, backing_dir: str) -> list[Partition]:
    """What the command tells. DaqError when it cannot be run, fails or prints something else."""
    try:
        done = subprocess.run([command, backing_dir], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DaqError(f"{command}: {error}.\nAllowed: a command of the SDK that answers.\nInstall the SDK, or correct command.") from None
    if done.returncode:
        raise DaqError(f"{command} failed: {done.stderr.strip()}.\nAllowed: a directory of the DAQ's services.\nCorrect backing_dir.")
    return read(done.stdout)


def read(text: str) -> list[Partition]:
    """The partitions in what the command printed. DaqError for anything else."""
    try:
        rows = json.loads(text)["partitions"]
        found = [Partition(**{**row, "sources": [Source(**source) for source in row["sources"]]}) for row in rows]
        states = {state for each in found for state in (each.state, *each.servers.values(), *(source.state for source in each.sources))}
        if not states <= set(STATES):
            raise ValueError(f"states {', '.join(sorted(states))}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DaqError(
            f"The SDK's command printed {text[:200]!r}: {type(error).__name__} {error}.\n"
            "Allowed: partitions with name, state, interface, servers and sources, as JSON.\nCorrect command, or take another release."
        ) from None
    return found


def unmet(partitions: list[Partition], wait_for: Mapping[str, Any] | None) -> list[str]:
    """What is not as ``wait_for`` has it, a phrase each; nothing when all is."""
    wanted, found = wait_for or {}, []
    states = {each.name: each.state for each in partitions}
    for name, state in (wanted.get("partitions") or {}).items():
        if states.get(name) != state:
            found.append(f"{name} is {states.get(name, 'not there')}, not {state}")
    if sources := wanted.get("sources"):
        number = sum(source.state == sources["state"] for each in partitions for source in each.sources)
        if number < sources["at_least"]:
            found.append(f"{number} of {sources['at_least']} sources are {sources['state']}")
    return found
