"""Releases of a program side by side, and the link to the one in use. A directory that has its name is a whole release."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:  # imports that cost a host more time than a look takes
    from collections.abc import Callable
    from typing import Any, BinaryIO

SPEC = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "sha256": {"type": "str", "required": True},
    "root": {"type": "path", "default": "/opt/lsst"},
}
# What a release was made of, beside its content.
STAMP = ".sha256"
UNFINISHED = ".new-"


class ReleaseError(Exception):
    """A release cannot be had; the message is for the operator, in three parts."""


def check(name: str, version: str, sha256: str) -> None:
    """ReleaseError for what is no name, version or checksum: the first two become paths."""
    forms = {"name": (name, r"[a-z0-9][a-z0-9_-]*"), "version": (version, r"[A-Za-z0-9][\w.+-]*"), "sha256": (sha256, r"[0-9a-f]{64}")}
    for what, (value, form) in forms.items():
        if not re.fullmatch(form, value):
            raise ReleaseError(f"{what} of the release is {value!r}.\nAllowed: {form}.\nEdit depot_releases in group_vars/all/depot.yml.")


def due(place: Path, sha256: str) -> list[str]:
    """What is to be done for the release at ``place``: install, switch, both or nothing. ReleaseError when something else has its place."""
    stamp = place / STAMP
    held = stamp.read_text().strip() if stamp.exists() else ""
    if place.exists() and held != sha256:
        raise ReleaseError(
            f"{place} was made of {held or 'something unknown'}, not of {sha256}.\n"
            "Allowed: one content for a version, once and for all.\n"
            "Edit: give the new content a version of its own, or remove the directory."
        )
    current = place.parent / "current"
    in_use = current.is_symlink() and current.readlink() == Path(place.name)
    return [*([] if held else ["install"]), *([] if in_use else ["switch"])]


def clear(home: Path) -> None:
    """Remove what a killed run left in ``home``."""
    for left in home.glob(f"{UNFINISHED}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def save(source: BinaryIO, target: Path) -> str:
    """Have what ``source`` gives as ``target``, on the disk; its SHA-256."""
    digest = hashlib.sha256()
    with target.open("wb") as stream:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


def install(place: Path, url: str, sha256: str, fetch: Callable[[str], BinaryIO]) -> None:
    """Have the release at ``place``: a program of its name, or what a .tar.gz holds. ``fetch``: URL -> the stream of its content."""
    home = place.parent
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    clear(home)
    work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=home))
    try:
        tree, file = work / "tree", work / "file"
        tree.mkdir(mode=0o755)
        with fetch(url) as source:
            found = save(source, file)
        if found != sha256:
            raise ReleaseError(
                f"{url} has the checksum {found}.\nAllowed: {sha256}.\n"
                "Fill or sync the site's depot again, or edit depot_releases in group_vars/all/depot.yml."
            )
        if url.endswith(".tar.gz"):
            with tarfile.open(file) as archive:
                archive.extractall(tree, filter="tar")
        else:
            file.replace(tree / home.name)
            (tree / home.name).chmod(0o755)
        (tree / STAMP).write_text(f"{sha256}\n")
        # Before the name: a machine that loses its power must not come back with a release that is not whole.
        os.sync()
        tree.rename(place)
    finally:
        shutil.rmtree(work)


def switch(place: Path, name: str = "current") -> None:
    """Have the link ``name`` beside ``place`` lead to it, from one moment to the next: by default the one that says what is in use."""
    new = place.parent / f"{UNFINISHED}link"
    new.unlink(missing_ok=True)
    new.symlink_to(place.name)
    new.replace(place.parent / name)


def already(p: dict[str, Any]) -> dict[str, Any] | None:
    """The module's answer if there is nothing to do; None: let it look."""
    check(p["name"], p["version"], p["sha256"])
    return None if due(Path(p["root"]) / p["name"] / p["version"], p["sha256"]) else {"changed": False, "actions": []}
