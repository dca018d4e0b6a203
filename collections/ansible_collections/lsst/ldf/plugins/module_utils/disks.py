"""What is on disks, and what has to happen for a file system to be on all of them and on nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

EDIT = "Edit: storage_filesystems in inventories/production/group_vars/*/storage.yml"
# A file system that is being made is called so, and gets its name when it is whole: a killed mkfs is told from data by its label.
UNFINISHED = "~"
MULTIPLES = {unit: 1024**power for power, unit in enumerate("KMGTP", 1)}

Run = Callable[[list[str]], tuple[int, str, str]]


class DiskError(Exception):
    """A disk that may not be touched, or a tool that failed; the message is meant for the operator."""


@dataclass(frozen=True)
class Device:
    """A disk. ``size``: bytes, 0 when it cannot be read. ``found``: what blkid says is on it (TYPE, LABEL, UUID), empty for nothing."""

    path: str
    size: int = 0
    found: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """What is on it, for a message."""
        label = f" {self.found['LABEL']!r}" if self.found.get("LABEL") else ""
        return f"{self.found.get('TYPE') or self.found.get('PTTYPE', 'data')}{label}"


@dataclass(frozen=True)
class Disks:
    """The disks of one file system, sorted by what they are to it. ``empty``: what may be formatted; ``dead``: what cannot be read."""

    members: list[Device]
    empty: list[Device]
    dead: list[Device]


def parse_blkid(text: str) -> dict[str, str]:
    """The lines KEY=value of ``blkid --output export``."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def read_device(path: str, run: Run) -> Device:
    """The disk ``path``. Raises DiskError when there is none of that name."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DiskError(f"{path} is no device of this host. Allowed: disks that are there. {EDIT}") from None
    except OSError:
        return Device(path)
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        os.pread(handle, 4096, 0)
    except OSError:
        size = 0
    finally:
        os.close(handle)
    if not size:
        return Device(path)
    code, shown, _ = run(["blkid", "--probe", "--output", "export", path])
    # 2: nothing is there; 8: several things are.
    return Device(path, size, parse_blkid(shown) if code == 0 else {} if code == 2 else {"TYPE": "several signatures"})


def sort_disks(name: str, kind: str, devices: Iterable[Device], overwrite: Iterable[str] = ()) -> Disks:
    """Tell the members of the file system ``name`` of type ``kind`` from empty and dead disks.

    Raises DiskError for a disk with something else on it, unless ``overwrite`` names it, and for two file systems of one name.
    """
    devices = list(devices)
    whole = {each.found.get("UUID") for each in devices if (each.found.get("TYPE"), each.found.get("LABEL")) == (kind, name)}
    if len(whole) > 1:
        raise DiskError(f"two file systems are called {name}: {', '.join(each.path for each in devices)}. Allowed: one. {EDIT}")
    sorted_ = Disks([], [], [])
    for each in devices:
        unfinished = (each.found.get("TYPE"), each.found.get("LABEL")) == (kind, name + UNFINISHED)
        if not each.size:
            sorted_.dead.append(each)
        elif each.found and each.found.get("TYPE") == kind and each.found.get("UUID") in whole:
            sorted_.members.append(each)
        elif not each.found or unfinished or each.path in overwrite:
            sorted_.empty.append(each)
        else:
            raise DiskError(
                f"{each.path} is meant for the file system {name}, but holds {each.content}. Allowed: an empty disk; this one only by "
                f"-e storage_overwrite=HOST:{each.path}, which destroys what it holds. {EDIT}"
            )
    return sorted_


def creation(name: str, kind: str, paths: list[str]) -> list[list[str]]:
    """The commands that make the file system on empty disks; the last one says that it is whole."""
    if kind == "xfs":
        return [["mkfs.xfs", "-q", "-f", "-L", name + UNFINISHED, *paths], ["xfs_admin", "-L", name, paths[0]]]
    profile = ["-d", "raid1", "-m", "raid1"] if len(paths) > 1 else ["-d", "single", "-m", "dup"]
    return [["mkfs.btrfs", "-q", "-f", "-L", name + UNFINISHED, *profile, *paths], ["btrfs", "filesystem", "label", paths[0], name]]


def btrfs_members(shown: str) -> dict[int, str]:
    """Number and path of each member, from ``btrfs filesystem show``; the path of a missing one is empty."""
    found = re.findall(r"^\s*devid\s+(\d+) .*? path ?(.*)$", shown, re.MULTILINE)
    return {int(number): "" if "missing" in path.lower() else path.strip() for number, path in found}


def bytes_of(size: str) -> int:
    """100M, 3200G: as many bytes, by powers of 1024; 0 for no limit."""
    if not size:
        return 0
    match = re.fullmatch(r"([1-9]\d*)([KMGTP])", size)
    if not match:
        raise DiskError(f"{size!r} is no size. Allowed: a whole number and one of K, M, G, T, P, such as 3200G. {EDIT}")
    return int(match[1]) * MULTIPLES[match[2]]


def shown_size(number: int) -> str:
    """Bytes for a message."""
    return f"{number / MULTIPLES['G']:.3g} GiB" if number >= MULTIPLES["G"] else f"{number / MULTIPLES['M']:.3g} MiB"


def refuse_less_than_used(path: str, limit: int, used: int) -> None:
    """Raise DiskError when a limit would be below what is there already."""
    if limit and used > limit:
        raise DiskError(
            f"{path} holds {shown_size(used)}, more than the quota of {shown_size(limit)}. Allowed: a quota above what is there, "
            "or less in the directory. Edit: storage_directories in inventories/production/group_vars/*/storage.yml"
        )
