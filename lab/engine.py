"""podman, as the lab uses it: always through the wrapper that enters the cgroup v2 namespace."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

PODMAN = Path(__file__).with_name("podman")
# Every container and network of the lab carries it, with the checkout that made it as its value.
LABEL = "lsst.lab"
# What the thing was made from; when it differs, the thing is made again.
RUN_LABEL = "lsst.lab.run"


class EngineError(Exception):
    """podman failed; the message is its own."""


@dataclass(frozen=True)
class Container:
    """A container of the lab as podman remembers it. ``alive``: its first process exists, whatever podman remembers."""

    name: str
    run: str
    alive: bool
    networks: tuple[str, ...]


@dataclass(frozen=True)
class Bridge:
    """A network of the lab and the interface that podman chose for it on the machine."""

    name: str
    run: str
    interface: str


def podman(*arguments: str, timeout: float = 120.0, check: bool = True) -> str:
    """What ``podman ARGUMENTS`` printed; EngineError when it fails or takes longer than ``timeout`` seconds."""
    try:
        done = subprocess.run(
            [str(PODMAN), *arguments], capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"podman {arguments[0]} took over {timeout:g} s") from None
    if check and done.returncode:
        raise EngineError(f"podman {' '.join(arguments[:2])}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def containers() -> dict[str, Container]:
    """The lab's containers, of this checkout or another, by name."""
    listed = json.loads(podman("ps", "--all", "--filter", f"label={LABEL}", "--format", "json") or "[]")
    found = (
        Container(entry["Names"][0], entry["Labels"].get(RUN_LABEL, ""), is_alive(entry), tuple(entry["Networks"] or ()))
        for entry in listed
    )
    return {container.name: container for container in found}


def is_alive(entry: dict) -> bool:
    """podman goes on saying "running" when its namespace was lost; the process table does not. A zombie has no command line."""
    command = Path("/proc") / str(entry.get("Pid", 0)) / "cmdline"
    return entry["State"] == "running" and command.exists() and b"init" in command.read_bytes()


def networks() -> dict[str, Bridge]:
    """The lab's networks, of this checkout or another, by name."""
    listed = json.loads(podman("network", "ls", "--filter", f"label={LABEL}", "--format", "json") or "[]")
    found = (Bridge(entry["name"], entry["labels"].get(RUN_LABEL, ""), entry["network_interface"]) for entry in listed)
    return {network.name: network for network in found}


def image_content(tag: str) -> str:
    """What the image was built from; empty when there is none."""
    return podman("image", "inspect", "--format", '{{index .Labels "lsst.content"}}', tag, check=False).strip()


def remove_containers(names: list[str]) -> None:
    """Remove them without waiting for them. One that podman cannot remove shall not keep the others: those it takes one by one."""
    remove = ("rm", "--force", "--time", "0", "--volumes")
    if names:
        podman(*remove, *names, check=False)
    listed = set(podman("ps", "--all", "--format", "{{.Names}}").split())
    for name in listed.intersection(names):
        podman(*remove, name)


def remove_network(bridge: Bridge) -> None:
    """Remove a network that has no containers any more, and the interface that a lost container left on the machine.

    The interface first: once the network is gone podman may give its name to somebody else's.
    """
    subprocess.run(["ip", "link", "delete", bridge.interface], capture_output=True, check=False)
    podman("network", "rm", bridge.name)
