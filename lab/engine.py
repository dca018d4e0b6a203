"""podman, as the lab uses it: always through the wrapper that enters the cgroup v2 namespace."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PODMAN = Path(__file__).with_name("podman")
IN_CGROUP2 = Path(__file__).with_name("in-cgroup2")
# Where the runtime keeps the state of every container.
CRUN = Path("/run/crun")
NAMESPACES = Path("/run/netns")
LEASES = Path("/run/containers/networks/ipam.db")
# Of the machine, in each network. None of theirs: no two networks are on one wire.
LINK_ADDRESS = "02:00:00:00:00:01"
# Every container and network of the lab carries it, with the checkout that made it as its value.
LABEL = "lsst.lab"
# What the thing was made from; when it differs, the thing is made again.
RUN_LABEL = "lsst.lab.run"


class EngineError(Exception):
    """podman failed; the message is its own."""


@dataclass(frozen=True)
class Container:
    """A container of the lab. ``alive``: its first process exists. ``lost``: podman believes so, but it does not; nothing can start it.

    ``checkout``: the directory whose lab.py made it; another one's keys do not open it.
    """

    name: str
    run: str
    alive: bool = True
    lost: bool = False
    networks: tuple[str, ...] = ()
    checkout: str = ""


@dataclass(frozen=True)
class Bridge:
    """A network of the lab and the interface that podman chose for it on the machine."""

    name: str
    run: str
    interface: str
    subnets: tuple[str, ...] = ()


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
    listed = json.loads(ps("--all", "--filter", f"label={LABEL}", "--format", "json") or "[]")
    return {entry["Names"][0]: container(entry) for entry in listed}


def ps(*arguments: str) -> str:
    """What ``podman ps ARGUMENTS`` printed.

    podman lists nothing at all while one container is lost together with its network namespace. An empty one in its place is enough for
    it to go on, and to give the container's addresses back when that is removed.
    """
    while True:
        try:
            return podman("ps", *arguments)
        except EngineError as error:
            broken = re.search(r"retrieving network namespace at (/run/netns/[\w-]+): ", str(error))
            if not broken:
                raise
            Path(broken[1]).touch()
            subprocess.run([str(IN_CGROUP2), "unshare", f"--net={broken[1]}", "true"], check=True)


def forget(identity: str) -> None:
    """Remove what the runtime keeps of a lost container that podman has removed: its state and its cgroup."""
    if (CRUN / identity).exists():
        subprocess.run([str(IN_CGROUP2), "crun", "delete", identity], capture_output=True, check=False)


def sweep() -> None:
    """Remove what killed runs of podman left: address leases, network namespaces, states of the runtime.

    Nothing of it says whose it is, so only when there is no container at all; then it is nobody's.
    """
    if ps("--all", "--quiet").strip():
        return
    LEASES.unlink(missing_ok=True)
    for path in NAMESPACES.glob("netns-*"):
        subprocess.run([str(IN_CGROUP2), "umount", str(path)], capture_output=True, check=False)
        path.unlink(missing_ok=True)
    for path in CRUN.glob("*"):
        forget(path.name)


def container(entry: dict[str, Any]) -> Container:
    """A container from what ``podman ps`` says of it. podman goes on saying "running" when its namespace was lost."""
    believed = entry["State"] == "running"
    alive = believed and is_init(entry.get("Pid", 0))
    labels, networks = entry["Labels"], tuple(entry["Networks"] or ())
    return Container(entry["Names"][0], labels.get(RUN_LABEL, ""), alive, believed and not alive, networks, labels.get(LABEL, ""))


def is_init(process: int) -> bool:
    """True while the process is the first one of a container: a number may be somebody else's by now.

    A zombie has no command line; a process that is just becoming another program has none for an instant.
    """
    for _ in range(3 if process > 0 else 0):
        with contextlib.suppress(OSError):
            if b"init" in (Path("/proc") / str(process) / "cmdline").read_bytes():
                return True
        time.sleep(0.02)
    return False


def networks() -> dict[str, Bridge]:
    """The lab's networks, of this checkout or another, by name."""
    listed = json.loads(podman("network", "ls", "--filter", f"label={LABEL}", "--format", "json") or "[]")
    return {entry["name"]: bridge(entry) for entry in listed}


def bridge(entry: dict[str, Any]) -> Bridge:
    """A network from what ``podman network ls`` says of it."""
    subnets = tuple(subnet["subnet"] for subnet in entry.get("subnets") or ())
    return Bridge(entry["name"], entry["labels"].get(RUN_LABEL, ""), entry["network_interface"], subnets)


def keep_link_address(bridge: Bridge) -> None:
    """Give a network's interface on the machine an address of its own, as udev does elsewhere.

    Without one it has the lowest of its containers' and changes when that one goes: the others then talk to nobody for most of a minute.
    """
    done = subprocess.run(
        ["ip", "link", "set", "dev", bridge.interface, "address", LINK_ADDRESS], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EngineError(f"{bridge.name}: {done.stderr.strip()}")


def image_content(tag: str) -> str:
    """What the image was built from; empty when there is none."""
    return podman("image", "inspect", "--format", '{{index .Labels "lsst.content"}}', tag, check=False).strip()


def image_made(tag: str) -> float:
    """When the image was made, in seconds since 1970."""
    return float(podman("image", "inspect", "--format", "{{.Created.Unix}}", tag))


def remove_containers(names: list[str]) -> None:
    """Remove them without waiting for them, and what podman leaves of a lost one.

    One that podman cannot remove shall not keep the others: those it takes one by one.
    """
    known = dict(line.split() for line in ps("--all", "--no-trunc", "--format", "{{.Names}} {{.ID}}").splitlines())
    found = [name for name in names if name in known]
    remove = ("rm", "--force", "--time", "0", "--volumes")
    if found:
        podman(*remove, *found, check=False)
    for name in set(ps("--all", "--format", "{{.Names}}").split()).intersection(found):
        podman(*remove, name)
    for name in found:
        forget(known[name])


def remove_network(bridge: Bridge) -> None:
    """Remove a network that has no containers any more, and what lost containers left of it: its interface and its firewall rules.

    The interface first: once the network is gone podman may give its name to somebody else's.
    """
    subprocess.run(["ip", "link", "delete", bridge.interface], capture_output=True, check=False)
    podman("network", "rm", bridge.name)
    for subnet in bridge.subnets:
        remove_rules(subnet)


def remove_rules(subnet: str) -> None:
    """Remove netavark's rules for ``subnet``, and the chain that is its alone."""
    for table in ("filter", "nat"):
        rules = subprocess.run(["iptables", "--table", table, "--list-rules"], capture_output=True, text=True, check=False).stdout
        mine = [line.split() for line in rules.splitlines() if line.startswith("-A") and subnet in line.split()]
        chains = {words[-1] for words in mine if words[1] == "POSTROUTING" and words[-1].startswith("NETAVARK-")}
        commands = [["--delete", *words[1:]] for words in mine if words[1] in ("NETAVARK_FORWARD", "POSTROUTING")]
        commands += [[verb, chain] for chain in sorted(chains) for verb in ("--flush", "--delete-chain")]
        for command in commands:
            subprocess.run(["iptables", "--table", table, *command], capture_output=True, check=False)
