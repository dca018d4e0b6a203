"""What keeps the lab's packets on the machine, and the machine's settings as they were.

An address of the plan that no container holds would follow the machine's default route and leave. Unreachable routes and rules stop
that before the first network exists. They go by address: numbers of bridges change.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from ipaddress import ip_network
from pathlib import Path

# Of the machine, not of a checkout: whichever checkout takes the lab down puts back what was there before the first one came.
RECORD = Path("/run/lsst-lab/machine.json")
PRIORITY = 10640
METRIC = 9999
# Marks the lab's routes and rules: what is taken away is what carries it, whatever the inventory says by then.
PROTOCOL = "76"

# A container with systemd needs about eight inotify instances, and all hosts share one neighbour table.
RAISED = {
    "fs.inotify.max_user_instances": 4096,
    "net.ipv4.neigh.default.gc_thresh1": 2048,
    "net.ipv4.neigh.default.gc_thresh2": 4096,
    "net.ipv4.neigh.default.gc_thresh3": 8192,
}
# podman switches forwarding on for a network with a way out, and the kernel changes these along with it.
CHANGED_BY_PODMAN = ("net.ipv4.ip_forward",)
# Counters, random numbers, and what reading would set off.
MOVING = (
    "fs.aio-nr",
    "fs.binfmt_misc",
    "fs.dentry-state",
    "fs.file-nr",
    "fs.inode-",
    "fs.quota",
    "kernel.hostname",
    "kernel.ns_last_pid",
    "kernel.pty.nr",
    "kernel.random",
    "vm.compact_memory",
    "vm.drop_caches",
    "vm.stat_refresh",
)


class ContainmentError(Exception):
    """The machine cannot hold the lab; the message is meant for the operator."""


def rules(prefix: str, isolated: list[str]) -> list[str]:
    """The selectors and actions of the machine's ip rules, in the order of their priorities."""
    return [f"from {prefix} to {prefix} lookup main", f"from {prefix} unreachable", *(f"from {net} unreachable" for net in isolated)]


def unreachable(prefix: str, isolated: list[str]) -> list[str]:
    """The networks without a way out, for machine, gateways and hosts alike."""
    return [prefix, *isolated]


def contain(prefix: str, isolated: list[str]) -> None:
    """Raise what the lab needs raised, forbid the plan's addresses to leave. Repeatable; refuses a machine that lives in those networks."""
    refuse_overlap(prefix, isolated)
    remember()
    for key, value in RAISED.items():
        path = setting(key)
        if path.exists() and int(path.read_text()) < value:
            path.write_text(str(value))
    for net in unreachable(prefix, isolated):
        ip("route", "replace", "unreachable", net, "metric", str(METRIC), "proto", PROTOCOL)
    for number, rule in enumerate(rules(prefix, isolated), PRIORITY):
        # Not deleted first: there must be no moment without it. The kernel refuses a second, equal one.
        ip("rule", "add", "priority", str(number), *rule.split(), "protocol", PROTOCOL, refusal="File exists")


def release(keep_forwarding: bool) -> None:
    """Undo ``contain``. ``keep_forwarding``: containers that are not the lab's run and need it; the record stays for a later call."""
    ip("rule", "flush", "protocol", PROTOCOL)
    ip("route", "flush", "table", "main", "proto", PROTOCOL)
    for key, value in recorded("changed").items():
        if not (keep_forwarding and key in CHANGED_BY_PODMAN):
            setting(key).write_text(value)
    if not keep_forwarding:
        RECORD.unlink(missing_ok=True)


def remember() -> None:
    """Write down the settings that will change, and those that must not, unless an earlier lab of this boot did."""
    if recorded("changed"):
        return
    changed = {key: setting(key).read_text().strip() for key in (*RAISED, *CHANGED_BY_PODMAN) if setting(key).exists()}
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    new = RECORD.with_suffix(".new")
    new.write_text(json.dumps({"boot": boot(), "changed": changed, "untouched": settings_of_the_machine()}))
    new.replace(RECORD)


def recorded(part: str) -> dict[str, str]:
    """A part of the record; empty when there is none of this boot."""
    try:
        record = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return {}
    return record.get(part, {}) if record["boot"] == boot() else {}


def moved() -> dict[str, tuple[str, str]]:
    """Settings of the machine that the lab must not touch, and that are not what they were: key -> before, now."""
    now = settings_of_the_machine()
    return {key: (value, now.get(key, "")) for key, value in recorded("untouched").items() if now.get(key, "") != value}


def settings_of_the_machine() -> dict[str, str]:
    """All of vm, fs and kernel that can be read, but for what the lab raises and what moves by itself."""
    found = {}
    for directory in ("vm", "fs", "kernel"):
        for path in (Path("/proc/sys") / directory).rglob("*"):
            key = ".".join(path.relative_to("/proc/sys").parts)
            if key in RAISED or key.startswith(MOVING) or not path.is_file() or not path.stat().st_mode & 0o400:
                continue
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found[key] = path.read_text().strip()
    return found


def boot() -> str:
    """Which boot of the machine this is: /run can outlive one where it is a disk."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def setting(key: str) -> Path:
    return Path("/proc/sys") / key.replace(".", "/")


def refuse_overlap(prefix: str, isolated: list[str]) -> None:
    """An address of the machine inside the lab's networks would be cut off by the rules."""
    for link in json.loads(ip("-json", "-4", "address", "show")):
        for address in link["addr_info"]:
            own = ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
            for net in [prefix, *isolated]:
                if own.overlaps(ip_network(net)) and not link["ifname"].startswith("podman"):
                    raise ContainmentError(
                        f"{link['ifname']} of this machine has the address {address['local']}, inside {net}, which the lab uses.\n"
                        f"Allowed: a machine without addresses in {', '.join([prefix, *isolated])}.\n"
                        "To fix: leave that network (a VPN?), or change the plan in inventories/production/group_vars/all/plan.yml."
                    )


def ip(*arguments: str, refusal: str | None = None, check: bool = True) -> str:
    """What ``ip ARGUMENTS`` printed. A failure that says ``refusal`` is none."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode and not (refusal and refusal in done.stderr):
        raise ContainmentError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
