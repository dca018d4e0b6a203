"""A change of files and their unit that the host takes back by itself unless it is confirmed over a new connection."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
from math import inf
from pathlib import Path
from typing import NamedTuple

from ansible_collections.lsst.ldf.plugins.module_utils import restore
from ansible_collections.lsst.ldf.plugins.module_utils.systemd import STAMPS, SystemdError, Unit, Wanted, actions, apply, newest, read_units

HOME = Path("/var/lib/lsst/commit-confirm")

BOOT_UNIT = """\
[Unit]
Description=Take back the change {name} that nobody confirmed before the machine went down
After={after}

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I {script} {home}
"""
FILE = {
    "dest": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "content": {"type": "str"},
    "mode": {"type": "str", "default": "0644"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "validate": {"type": "str"},
}
SPEC = {
    "name": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "options": FILE, "required_if": [("state", "present", ["content"])], "required": True},
    "unit": {"type": "str"},
    "verb": {"type": "str", "choices": ["reload", "restart"], "default": "restart"},
    "enabled": {"type": "bool", "default": True},
    "apply": {"type": "str"},
    "probe": {"type": "str"},
    "timeout": {"type": "float", "default": 60.0},
    "edit": {"type": "str"},
    "phase": {"type": "str", "choices": ["commit", "confirm"], "default": "commit"},
    "run": {"type": "str"},
}


class Refused(Exception):
    """The change cannot be made; the message is meant for the operator."""


class File(NamedTuple):
    """A file as it is to be. ``content`` None: there is to be none. ``uid`` or ``gid`` -1: its owner is not there yet."""

    dest: Path
    content: bytes | None
    mode: int
    uid: int
    gid: int
    validate: str | None = None


class Seen(NamedTuple):
    """What is at a path: ``kind`` absent, file or link; ``content`` is a link's target."""

    kind: str
    content: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0


class Change(NamedTuple):
    """All that one task asks for, as modules/commit_confirm.py documents it. ``timeout`` in seconds."""

    name: str
    files: list[File]
    unit: str | None = None
    verb: str = "restart"
    enabled: bool | None = True
    apply: str | None = None
    probe: str | None = None
    timeout: float = 60.0
    edit: str = ""

    @property
    def home(self) -> Path:
        return HOME / self.name


def change_of(p: dict, predicting: bool) -> Change:
    """A change from the parameters of the module."""
    files = [file_of(file, predicting) for file in p["files"]]
    return Change(files=files, **{name: p[name] for name in Change._fields if name != "files"})


def file_of(p: dict, predicting: bool) -> File:
    """A file from its parameters."""
    return File(
        dest=Path(p["dest"]),
        content=p["content"].encode() if p["state"] == "present" else None,
        mode=int(p["mode"], 8),
        uid=identity("user", p["owner"], predicting),
        gid=identity("group", p["group"], predicting),
        validate=p["validate"],
    )


def identity(kind: str, name: str, predicting: bool) -> int:
    """The number of a user or group given by name or number; one that is missing is an error, or -1 when ``predicting`` (check mode)."""
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        if predicting:
            return -1
        raise Refused(f"There is no {kind} {name} on this host. Make it first, or correct the owner of the file.") from None


def look(path: Path) -> Seen:
    """What is at ``path`` now."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Seen("absent")
    mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
    if stat.S_ISLNK(status.st_mode):
        return Seen("link", os.fsencode(path.readlink()), mode, *owner)
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{path} is neither a file nor a link. Allowed is the path of a file; remove what is there by hand.")
    return Seen("file", path.read_bytes(), mode, *owner)


def differs(file: File, seen: Seen) -> bool:
    """Whether what is there is not what is wanted."""
    if file.content is None:
        return seen.kind != "absent"
    return (seen.kind, seen.content, seen.mode, seen.uid, seen.gid) != ("file", file.content, file.mode, file.uid, file.gid)


def diff(file: File, seen: Seen) -> list[dict[str, str]]:
    """The difference for ``ansible-playbook --diff``: text, then ownership when that differs."""
    entries = []
    after = file.content or b""
    if seen.content != after or seen.kind == "link":
        before = f"link to {os.fsdecode(seen.content)}\n" if seen.kind == "link" else seen.content.decode(errors="replace")
        entries.append(entry_of(str(file.dest), before, after.decode(errors="replace")))
    kind = "absent" if file.content is None else "file"
    attributes = (kind, file.mode, file.uid, file.gid) if kind == "file" else (kind, 0, 0, 0)
    if attributes != (seen.kind, seen.mode, seen.uid, seen.gid):
        entries.append(entry_of(str(file.dest), describe(seen.kind, seen.mode, seen.uid, seen.gid), describe(*attributes)))
    return entries


def entry_of(header: str, before: str, after: str) -> dict[str, str]:
    """One difference as Ansible prints it."""
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def describe(kind: str, mode: int, uid: int, gid: int) -> str:
    """Kind, mode and owner in one line."""
    return "absent\n" if kind == "absent" else f"{kind} {mode:04o} {uid}:{gid}\n"


def check(file: File, edit: str, predicting: bool) -> None:
    """Raise Refused with the checker's words unless its ``validate`` command accepts the file.

    A checker that is not installed is an error, but not when ``predicting`` (check mode of a bare host).
    """
    if file.content is None or file.validate is None:
        return
    import tempfile  # here, because a batch's probe of a change that is not due has no time for it

    with tempfile.TemporaryDirectory(prefix="lsst-commit-confirm-") as directory:
        candidate = Path(directory) / file.dest.name
        candidate.touch(mode=0o600)
        candidate.write_bytes(file.content)
        command = shlex.split(file.validate.replace("%s", str(candidate)))
        if shutil.which(command[0]) is None:
            if predicting:
                return
            raise Refused(f"{command[0]}, which checks {file.dest}, is not on this host. Install it first, or correct `validate`.")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr.strip() or done.stdout.strip()).replace(str(candidate), str(file.dest))
            raise Refused(
                f"{words}\nThe new {file.dest} is not written; allowed is what `{file.validate.replace('%s', str(file.dest))}` accepts."
                f"\nCorrect it in {edit}."
            )


def undo_commands(unit: Unit | None, verb: str, enabled: bool | None, apply: str | None) -> list[list[str]]:
    """What brings the service back to where it was, once the old files are there."""
    commands = [shlex.split(apply)] if apply else []
    if unit is None or not unit.exists:
        return commands
    # Without reset-failed a unit that died too often would refuse to start with its good files.
    commands += [["systemctl", "daemon-reload"], ["systemctl", "reset-failed", unit.name]]
    if enabled is not None and enabled != unit.enabled:
        commands.append(["systemctl", "enable" if unit.enabled else "disable", unit.name])
    if not unit.active:
        return [*commands, ["systemctl", "stop", unit.name]]
    if verb == "reload":
        return [*commands, ["systemctl", "reload-or-restart", unit.name], ["touch", "-c", f"{STAMPS}/{unit.name}"]]
    return [*commands, ["systemctl", "restart", unit.name]]


def save(change: Change, run: str, seen: list[Seen], commands: list[list[str]]) -> None:
    """Keep the old files and how to bring them back in ``home``/pending, complete or not at all."""
    home, owner = change.home, (os.geteuid(), os.getegid())
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("draft", "restored"):
        shutil.rmtree(home / name, ignore_errors=True)
    draft = home / "draft"
    draft.mkdir(mode=0o700)
    files = []
    for number, (file, old) in enumerate(zip(change.files, seen, strict=True)):
        files.append({"dest": str(file.dest), "kind": old.kind, "mode": old.mode, "uid": old.uid, "gid": old.gid})
        if old.kind == "link":
            files[-1]["target"] = os.fsdecode(old.content)
        elif old.kind == "file":
            restore.put(draft / str(number), old.content, 0o600, *owner)
    restore.put(draft / "saved.json", json.dumps({"run": run, "files": files, "commands": commands}).encode(), 0o600, *owner)
    restore.put(home / "restore.py", source(), 0o700, *owner)
    draft.rename(home / "pending")


def source() -> bytes:
    """The text of restore.py: out of Ansible's zip on a host, out of the file in a unit test."""
    return restore.__loader__.get_data(restore.__file__)


def timer(name: str) -> str:
    """The name of the transient unit that restores."""
    return f"lsst-commit-confirm-{name}-timer"


def arm(change: Change) -> None:
    """From here on the host restores itself: when the time is over, or at its next boot."""
    script = change.home / "restore.py"
    after = "" if change.unit is None else change.unit if "." in change.unit else f"{change.unit}.service"
    unit = BOOT_UNIT.format(name=change.name, after=after, script=script, home=change.home)
    run = ["systemd-run", "--quiet", "--collect", f"--unit={timer(change.name)}", f"--on-active={change.timeout:g}"]
    run += ["--timer-property=AccuracySec=100ms", "/usr/bin/python3", "-I", str(script), str(change.home)]
    try:
        restore.put(restore.boot_unit(change.name), unit.encode(), 0o644, os.geteuid(), os.getegid())
        restore.boot_link(change.name).parent.mkdir(exist_ok=True)
        restore.link(restore.boot_link(change.name), str(restore.boot_unit(change.name)))
        subprocess.run(run, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        disarm(change.name)
        shutil.rmtree(change.home / "pending")
        words = getattr(error, "stderr", None) or str(error)
        raise Refused(f"The timer that would take the change back did not start, so nothing was changed: {words.strip()}") from error


def disarm(name: str) -> None:
    """Stop the timer and forget the boot unit."""
    subprocess.run(["systemctl", "stop", f"{timer(name)}.timer"], capture_output=True, check=False)
    restore.boot_link(name).unlink(missing_ok=True)
    restore.boot_unit(name).unlink(missing_ok=True)


def unconfirmed(home: Path) -> bool:
    """Whether an earlier run's change waits for its confirmation or was only half taken back."""
    return (home / "pending").is_dir() or (home / "restoring").is_dir()


def take_back(home: Path) -> None:
    """Restore now instead of later."""
    restore.restore(home)
    disarm(home.name)


def due(change: Change, seen: list[Seen], unit: Unit | None) -> tuple[list[int], list[str]]:
    """Which files (by number) must be written and which systemctl verbs follow; nothing else decides whether anything changes."""
    numbers = [number for number, (file, old) in enumerate(zip(change.files, seen, strict=True)) if differs(file, old)]
    if unit is None:
        return numbers, []
    present = [str(file.dest) for file in change.files if file.content is not None]
    changed_at = inf if numbers else newest(present)
    wanted = Wanted(True, change.enabled, changed_at if change.verb == "restart" else 0.0, changed_at if change.verb == "reload" else 0.0)
    return numbers, actions(unit, wanted)


def examine(change: Change) -> tuple[list[Seen], Unit | None, list[int], list[str]]:
    """What is there, the unit, which files are due and which verbs; a probe that fails makes the change's own verb due."""
    seen = [look(file.dest) for file in change.files]
    unit = read_units([change.unit])[0] if change.unit else None
    numbers, verbs = due(change, seen, unit)
    if unit and change.probe and not (numbers or verbs) and not succeeds(change.probe):
        verbs = [change.verb]
    return seen, unit, numbers, verbs


def already(a: dict) -> dict | None:
    """The probe of a batch: the module's answer when nothing is due; None when the module has to see."""
    if a["phase"] != "commit" or (a["unit"] and a["apply"]) or not a["enabled"]:
        return None
    change = change_of(a, predicting=False)
    if unconfirmed(change.home):
        return None
    _, unit, numbers, verbs = examine(change)
    if numbers or verbs or not (unit is None or unit.exists):
        return None
    return {"changed": False, "diff": [], "files": [], "actions": []}


def commit(change: Change, run: str, check_mode: bool) -> dict:
    """Make the change as far as it is due and leave it to be confirmed; what a module returns.

    ``run`` names this run to the confirmation. Raises Refused or SystemdError when the host refuses, with the old state in place.
    """
    interrupted = unconfirmed(change.home)
    if interrupted and not check_mode:
        take_back(change.home)
    seen, unit, numbers, verbs = examine(change)
    for number in numbers:
        check(change.files[number], change.edit, check_mode)
    answer = {
        "changed": bool(numbers or verbs or interrupted),
        "diff": [entry for number in numbers for entry in diff(change.files[number], seen[number])],
        "files": [str(change.files[number].dest) for number in numbers],
        "actions": verbs,
    }
    if interrupted:
        answer["diff"].insert(0, entry_of(change.name, "an unconfirmed change of an earlier run\n", "taken back\n"))
    if unit and verbs:
        answer["diff"].append(entry_of(unit.name, "active\n" if unit.active else "inactive\n", ", ".join(verbs) + "\n"))
    if check_mode or not (numbers or verbs):
        return answer
    if unit and not unit.exists:
        raise SystemdError(f"{unit.name} is no unit of this host. Install what brings it, or correct the name.")
    save(change, run, seen, undo_commands(unit, change.verb, change.enabled, change.apply))
    arm(change)
    try:
        for number in numbers:
            write_file(change.files[number])
        if unit:
            apply(unit, verbs, change.timeout / 2)
        if change.apply:
            run_command(change.apply, change.timeout / 2)
        if change.probe:
            run_command(change.probe, change.timeout / 2)
    except (SystemdError, Refused, OSError) as error:
        take_back(change.home)
        raise Refused(f"{error}\nThe host has put back the old state. Allowed is what it can run with; correct {change.edit}.") from error
    (change.home / "pending" / "applied").touch()
    return answer | {"unconfirmed": True}


def write_file(file: File) -> None:
    """Bring one file to its wanted state."""
    if file.content is None:
        restore.remove(file.dest)
    else:
        restore.put(file.dest, file.content, file.mode, file.uid, file.gid)


def run_command(command: str, timeout: float) -> None:
    """Run ``command``; Refused with its words when it fails or takes over ``timeout`` seconds."""
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"{command} took over {timeout:g} s.") from None
    if done.returncode:
        raise Refused(f"{command} failed: {done.stderr.strip() or done.stdout.strip()}")


def succeeds(command: str) -> bool:
    """Whether ``command`` ends with status 0."""
    return subprocess.run(shlex.split(command), capture_output=True, check=False).returncode == 0


def confirm(home: Path, run: str) -> str:
    """Keep the change of ``run`` for good: ``confirmed``.

    Otherwise ``applying`` while the host works on it, ``restored`` when the host took it back, ``unknown`` when it never began.
    """
    if of(home / "pending") == run:
        if not (home / "pending" / "applied").exists():
            return "applying"
        try:
            (home / "pending").rename(home / "confirmed")
        except FileNotFoundError:
            return "applying"
        disarm(home.name)
        shutil.rmtree(home)
        return "confirmed"
    if of(home / "restoring") == run:
        return "applying"
    return "restored" if of(home / "restored") == run else "unknown"


def of(directory: Path) -> str | None:
    """The run that a saved state belongs to."""
    try:
        return json.loads((directory / "saved.json").read_text())["run"]
    except FileNotFoundError:
        return None
