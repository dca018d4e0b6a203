"""Python environments side by side, each made of one lock file, and the link to the one in use. One that has its stamp is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:  # imports that cost a host more time than a look takes
    from typing import Any

SPEC = {
    "path": {"type": "path", "required": True},
    "requirements": {"type": "str", "required": True},
    "wheels": {"type": "str", "required": True},
    "commands": {"type": "list", "elements": "str", "default": []},
}
STAMP = "complete"
# Files are compiled when something first imports them, so that nobody pays for the thousands that nothing ever does.
PIP = ("--isolated", "install", "--quiet", "--no-cache-dir", "--no-compile", "--disable-pip-version-check", "--no-index", "--no-deps")
PIP += ("--only-binary", ":all:", "--require-hashes", "--cert", "/etc/ssl/certs/ca-certificates.crt")


class EnvironmentFailed(Exception):
    """An environment cannot be built; the message is for the operator, in three parts."""


def due(place: Path) -> list[str]:
    """What is to be done for the environment at ``place``: build, switch, both or nothing."""
    current = place.parent / "current"
    in_use = current.is_symlink() and current.readlink() == Path(place.name)
    return [*([] if (place / STAMP).exists() else ["build"]), *([] if in_use else ["switch"])]


def run(command: list[str], remedy: str) -> None:
    """Run ``command``; EnvironmentFailed, which ends with ``remedy``, when it fails."""
    path = f"{Path(command[0]).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": "/root"}
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise EnvironmentFailed(f"{' '.join(command[:3])} failed: {done.stdout.strip()[-2000:]}\n{remedy}")


def build(place: Path, requirements: str, wheels: str, commands: list[str]) -> None:
    """Have the environment at ``place``, in its place because one cannot be moved. ``wheels``: URL or directory."""
    umask = os.umask(0o022)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            shutil.rmtree(place)
        run(["/usr/bin/python3", "-m", "venv", str(place)], "Allowed: room, and python3-venv.\nMake room and run again.")
        lock = place / "requirements.lock"
        lock.write_text(requirements)
        program = str(place / "bin" / "pip")
        run(
            [program, *PIP, "--find-links", wheels, "--requirement", str(lock)],
            f"Allowed: exactly the wheels of the lock file, at {wheels}.\nFill or sync the site's depot again, or edit the lock file.",
        )
        for command in commands:
            name, *arguments = command.split()
            run([str(place / "bin" / name), *arguments], "Allowed: an environment whose programs start.\nEdit the lock file.")
        # Before the stamp: a machine that loses its power must not come back with an environment that only looks whole.
        os.sync()
        (place / STAMP).touch()
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    finally:
        os.umask(umask)


def already(p: dict[str, Any]) -> dict[str, Any] | None:
    """The module's answer if there is nothing to do; None: let it look."""
    return None if due(Path(p["path"])) else {"changed": False, "actions": []}
