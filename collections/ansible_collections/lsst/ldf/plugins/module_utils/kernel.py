"""Settings of the running kernel: which are due, which it takes, and why it refuses the others."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

PERSISTENT = Path("/var/lib/lsst/kernel-settings")
SYS = Path("/proc/sys")
# The first word of keys that exist once a machine; all the others are the container's own or not there.
MACHINE_WIDE = ("fs", "kernel", "vm")
CONTAINER_MARKS = (Path("/run/systemd/container"), Path("/run/.containerenv"))
# Where the kernel names the values of a key that takes names.
AVAILABLE = {"net.ipv4.tcp_congestion_control": "net.ipv4.tcp_available_congestion_control"}
WORDS = {
    errno.EACCES: "is read-only here",
    errno.EPERM: "is read-only here",
    errno.EROFS: "is read-only here",
    errno.EINVAL: "does not take this value",
    errno.ENOENT: "does not have this value",
}
SPEC = {"name": {"type": "str", "required": True}, "settings": {"type": "dict", "required": True}}


class Refusal(NamedTuple):
    """What the kernel did not take. ``value`` is what it has instead, None for a key that is not there."""

    wanted: str
    value: str | None
    reason: str


class Memory(NamedTuple):
    """What earlier runs left: ``originals``, the values from before the first one; ``refused``, what this kernel did not take."""

    originals: Mapping[str, str] = {}
    refused: Mapping[str, Refusal] = {}


class Outcome(NamedTuple):
    """What a run did, or in check mode would do. ``changes``: key -> value before and after."""

    changes: dict[str, tuple[str, str]]
    refused: dict[str, Refusal]


class Kernel:
    """The settings under ``root``. In a container, keys of the whole machine are never written."""

    def __init__(self, root: Path = SYS, in_container: bool = False) -> None:
        self.root, self.in_container = root, in_container

    def read(self, key: str) -> str | None:
        """The value of ``key`` with single spaces, None when there is no such key."""
        try:
            return normal((self.root / relative(key)).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, value: str) -> str | None:
        """Set ``key``; the reason when the kernel refuses or makes something else of it, None when it has the value now."""
        try:
            (self.root / relative(key)).write_text(value + "\n")
        except OSError as error:
            available = self.read(AVAILABLE[key]) if key in AVAILABLE else None
            return WORDS.get(error.errno, str(error.strerror)) + (f", but {available}" if available else "")
        return None if self.read(key) == value else "does not keep this value"

    def obstacle(self, key: str, current: str | None) -> str | None:
        """Why ``key`` cannot be set, as far as that is known without trying."""
        if self.in_container and relative(key).split("/")[0] in MACHINE_WIDE:
            return "belongs to the machine that runs this container"
        if current is None:
            return "is not there"
        return None if os.access(self.root / relative(key), os.W_OK) else "is read-only here"


def relative(key: str) -> str:
    """The path of ``key`` below /proc/sys. As in sysctl.d(5) the first of dot and slash separates; the other stands for it in names."""
    separator = re.search(r"[./]", key)
    path = key if separator and separator[0] == "/" else key.translate(str.maketrans("./", "/."))
    if not re.fullmatch(r"[\w:@-][\w.:@-]*(/[\w:@-][\w.:@-]*)+", path):
        raise ValueError(
            f"{key!r} is no setting of the kernel. Allowed: keys such as net.core.rmem_max. Correct it where the settings are listed."
        )
    return path


def normal(value: object) -> str:
    """A value as text with single spaces, as the kernel's tabs compare with nobody's."""
    return " ".join(str(int(value) if isinstance(value, bool) else value).split())


def in_container(marks: tuple[Path, ...] = CONTAINER_MARKS) -> bool:
    """Whether this is a container, whose kernel is not its own."""
    return any(mark.exists() for mark in marks)


def settle(kernel: Kernel, wanted: Mapping[str, str], memory: Memory, check_mode: bool) -> Outcome:
    """Set what is ``wanted``, and give keys that no longer are their original values. In check mode only predict.

    A prediction trusts ``memory`` for what cannot be known without trying; a value that moved since then is drift all the same.
    """
    released = {key: value for key, value in memory.originals.items() if key not in wanted}
    changes: dict[str, tuple[str, str]] = {}
    refused: dict[str, Refusal] = {}
    for key, value in {**released, **wanted}.items():
        current = kernel.read(key)
        if current == value:
            continue
        reason, after = kernel.obstacle(key, current), current
        if reason is None and check_mode:
            known = memory.refused.get(key)
            reason = known.reason if known and (known.wanted, known.value) == (value, current) else None
            after = current if reason else value
        elif reason is None:
            reason, after = kernel.write(key, value), kernel.read(key)
        if reason:
            refused[key] = Refusal(value, after, reason)
        if after != current:
            changes[key] = (current or "", after or "")
    return Outcome(changes, refused)


def originals(kernel: Kernel, wanted: Mapping[str, str], memory: Memory) -> dict[str, str]:
    """The values to go back to when a key is no longer wanted: from before anything was ever set."""
    found = {key: memory.originals.get(key) or kernel.read(key) for key in wanted}
    return {key: value for key, value in found.items() if value is not None}


def explain(host: str, count: int, refused: Mapping[str, Refusal]) -> str:
    """One message for everything that ``refused`` names out of ``count`` settings; with the host, because equal warnings are shown once."""
    listed = (
        f"{key} {refusal.reason} (wanted {refusal.wanted}{f', has {refusal.value}' if refusal.value else ''})"
        for key, refusal in refused.items()
    )
    return f"{host}: the running kernel refuses {len(refused)} of {count} settings: {'; '.join(listed)}"


def already(a: Mapping[str, Any]) -> dict | None:
    """The probe of a batch: the module's answer when nothing is due and nothing has to be tried; None when the module has to see."""
    wanted = {key: normal(value) for key, value in a["settings"].items()}
    kernel, memory = Kernel(in_container=in_container()), load_memory(*files_of(a["name"]))
    outcome = settle(kernel, wanted, Memory(memory.originals), check_mode=True)
    if outcome.changes or outcome.refused != memory.refused or originals(kernel, wanted, memory) != memory.originals:
        return None
    return {"changed": False} | ({"warnings": [explain(os.uname().nodename, len(wanted), outcome.refused)]} if outcome.refused else {})


def files_of(name: str) -> tuple[Path, Path]:
    """Where the original values of the settings ``name`` are kept, and what this kernel refused; another one may take it."""
    return PERSISTENT / f"{name}.json", PERSISTENT / f"refused-{os.uname().release}" / f"{name}.json"


def load_memory(originals: Path, refused: Path) -> Memory:
    """What earlier runs left in the two files; empty where there is none."""
    kept, known = (json.loads(path.read_text()) if path.exists() else {} for path in (originals, refused))
    return Memory(kept, {key: Refusal(**value) for key, value in known.items()})


def save(path: Path, content: Mapping[str, object]) -> None:
    """Replace ``path`` at once, if its content is another."""
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    draft.replace(path)
