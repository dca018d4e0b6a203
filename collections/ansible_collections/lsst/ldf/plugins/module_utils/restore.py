"""Put back what lsst.ldf.commit_confirm saved.

Imported by the module, and copied to the host, where a timer or the next boot runs it: it needs Python's own library alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

UNITS = Path("/etc/systemd/system")


def put(path: Path, content: bytes, mode: int, uid: int, gid: int) -> None:
    """Replace the file ``path`` at once, or in place where it is a bind mount (a container's /etc/resolv.conf)."""
    # A fixed, hidden name: what a killed run leaves is overwritten by the next one and read by no program's drop-in directory.
    draft = path.with_name(f".{path.name}.commit-confirm")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    try:
        draft.replace(path)
    except OSError as error:
        draft.unlink()
        if error.errno != errno.EBUSY:
            raise
        path.write_bytes(content)
        os.chown(path, uid, gid)
        path.chmod(mode)


def remove(path: Path) -> None:
    """Remove the file or link ``path`` if there is one."""
    path.unlink(missing_ok=True)


def link(path: Path, target: str) -> None:
    """Make ``path`` a link to ``target`` whatever it was."""
    draft = path.with_name(f".{path.name}.commit-confirm")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(path)


def boot_unit(name: str) -> Path:
    """The unit that restores a change which nobody confirmed before the machine went down."""
    return UNITS / f"lsst-commit-confirm-{name}.service"


def boot_link(name: str) -> Path:
    """What makes the boot start it."""
    return UNITS / "multi-user.target.wants" / boot_unit(name).name


def restore(home: Path) -> bool:
    """Put back the files under ``home``/pending and run the commands that go with them; False if there is nothing to put back.

    The rename decides between this and a confirmation that comes at the same moment. Killed half-way, the next call goes on.
    """
    work = home / "restoring"
    try:
        (home / "pending").rename(work)
    except FileNotFoundError:
        if not work.is_dir():
            return False
    saved = json.loads((work / "saved.json").read_text())
    for number, file in enumerate(saved["files"]):
        path = Path(file["dest"])
        if file["kind"] == "absent":
            remove(path)
        elif file["kind"] == "link":
            link(path, file["target"])
        else:
            put(path, (work / str(number)).read_bytes(), file["mode"], file["uid"], file["gid"])
        print(f"{path}: restored", flush=True)
    for command in saved["commands"]:
        subprocess.run(command, check=False)
    boot_link(home.name).unlink(missing_ok=True)
    boot_unit(home.name).unlink(missing_ok=True)
    shutil.rmtree(home / "restored", ignore_errors=True)
    # The timer and a new run may restore side by side; whoever is second finds the work done.
    with contextlib.suppress(FileNotFoundError):
        work.rename(home / "restored")
    return True


if __name__ == "__main__":
    restore(Path(sys.argv[1]))
