"""What a client of the camera's DAQ needs: a release that loads, the link that pins it, and the file that the applications' launcher reads.

Paths, names and keys: puppet-ccs_daq and lsst-control of lsst-it. The launcher sources the file that an application's ``.app`` file names
by ``system.pre-execute``, from the directory of both.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.lsst.ldf.plugins.module_utils.daq import CURRENT, DL, DaqError, Release, installed, links
from ansible_collections.lsst.ldf.plugins.module_utils.release import UNFINISHED, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SPEC = {
    "version": {"type": "str", "required": True},
    "base_dir": {"type": "path", "default": "/opt/lsst/daq-sdk"},
    "link": {"type": "str", "default": "ccs-production"},
    "setup_file": {"type": "path", "required": True},
    "applications": {"type": "list", "elements": "str", "default": []},
    "owner": {"type": "str", "default": "ccsadm"},
    "group": {"type": "str", "default": "ccsadm"},
    "library_dir": {"type": "path"},
    "keep": {"type": "bool", "default": False},
    "smoke_test": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
}
MODE = 0o644
# Where Debian has libraries, and where the others do. The SDK is for x86 alone.
LIBRARY_DIRS = (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"))
# Releases from V10 on want the second, those before it the first (puppet-daq). No system has either of them any more.
READLINES = (6, 7)
KEY = re.compile(r"[ \t\f]*system\.pre-execute[ \t\f]*([=:\s]|$)")
LOADER = """
import ctypes, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    ctypes.CDLL(sys.argv[1])
except OSError as error:
    sys.exit(str(error))
print("loaded", flush=True)
"""
# Seconds that one library may take.
PATIENCE = 30


@dataclass(frozen=True)
class Client:
    """The client as it is to be. ``setup``: the setup file; ``applications``: the .app files; ``owner``, ``group``: names."""

    release: Release
    link: str
    setup: Path
    applications: tuple[Path, ...]
    owner: str
    group: str
    library_dir: Path

    @property
    def libraries(self) -> Path:
        return self.release.tree / "x86/lib"

    @property
    def readline(self) -> str:
        """The name by which the release looks for libreadline."""
        number = int(re.search(r"V(\d+)", self.release.version)[1])
        return f"libreadline.so.{READLINES[number >= 10]}"


@dataclass(frozen=True)
class Change:
    """A file or link, and what it is before and after, for a diff; empty for what is not there. ``content``: of a file."""

    path: Path
    before: str
    after: str
    content: str = ""


def client_of(p: Mapping[str, Any]) -> Client:
    """The client from the module's parameters. DaqError for names that cannot be such."""
    if not re.search(r"V\d", p["version"]):
        raise DaqError(f"version is {p['version']!r}.\nAllowed: a release of the SDK, such as R5-V11.3.\nCorrect version.")
    base, setup = Path(p["base_dir"]), Path(p["setup_file"])
    if not name_like(p["link"]) or p["link"] in (DL, CURRENT) or ((base / p["link"]).exists() and not (base / p["link"]).is_symlink()):
        raise DaqError(
            f"link is {p['link']!r}.\nAllowed: the name of a link in {base}, neither {DL} nor {CURRENT} nor that of a release.\n"
            "Correct link."
        )
    if wrong := [name for name in p["applications"] if not name_like(name)]:
        raise DaqError(f"applications has {wrong[0]!r}.\nAllowed: letters, digits and . _ + -.\nCorrect applications.")
    if not setup.is_absolute() or not name_like(setup.name):
        raise DaqError(f"setup_file is {str(setup)!r}.\nAllowed: an absolute path such as /etc/ccs/daqv5-setup.\nCorrect setup_file.")
    libraries = Path(p["library_dir"]) if p["library_dir"] else next(filter(Path.is_dir, LIBRARY_DIRS), LIBRARY_DIRS[-1])
    release = Release(base, "daq-sdk", p["version"])
    files = tuple(setup.with_name(f"{name}.app") for name in dict.fromkeys(p["applications"]))
    return Client(release, p["link"], setup, files, p["owner"], p["group"], libraries)


def name_like(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name))


# What is there, and what is due


def missing(client: Client) -> list[str]:
    """What the host lacks, a message in three parts each. In check mode it may be about to come."""
    release, found = client.release, []
    if not release.tree.is_dir():
        there = ", ".join(installed(release.base)) or "none yet"
        found.append(
            f"{release.version} is no release in {release.base}.\nAllowed: {there}.\n"
            "Correct version, or install it with lsst.ldf.daq_sdk first."
        )
    for what, name, look_up in (("owner", client.owner, pwd.getpwnam), ("group", client.group, grp.getgrnam)):
        try:
            look_up(name)
        except KeyError:
            found.append(f"{what} is {name}, whom this host does not know.\nAllowed: one that it has.\nCorrect {what}, or make it first.")
    if not (client.library_dir / client.readline).exists() and not readlines(client):
        found.append(
            f"{client.library_dir} has no libreadline that could stand in for {client.readline}.\nAllowed: the directory of a newer one.\n"
            "Install the system's libreadline, or correct library_dir."
        )
    return found


def readlines(client: Client) -> list[str]:
    """The libreadlines in the library directory that are newer than the one the release wants, newest first: libreadline.so.8."""
    found = [path for path in client.library_dir.glob("libreadline.so.*") if path.exists()]
    numbers = [int(path.suffix[1:]) for path in found if re.fullmatch(r"libreadline\.so\.\d+", path.name)]
    return [f"libreadline.so.{number}" for number in sorted(numbers, reverse=True) if number > int(client.readline.rpartition(".")[2])]


def due(client: Client, actions: list[str]) -> list[Change]:
    """What is to be changed, in order, the pin last. ``actions``: what ``daq.due_current`` said of it."""
    found = []
    shim = client.library_dir / client.readline
    if not shim.exists() and (there := readlines(client)):
        found.append(Change(shim, leads(shim), f"{shim} -> {there[0]}\n"))
    head = f"{same(pwd, client.owner)}:{same(grp, client.group)} {MODE:04o}\n"
    for path in (client.setup, *client.applications):
        before = shown(path)
        content = setup_text(client) if path == client.setup else with_setup(text_of(path), client.setup.name)
        if before != head + content:
            found.append(Change(path, before, head + content, content))
    if actions:
        link = client.release.base / client.link
        found.append(Change(link, leads(link), f"{link} -> {client.release.version}\n"))
    return found


def leads(link: Path) -> str:
    """A link as a diff shows it, empty when there is none."""
    return f"{link} -> {link.readlink()}\n" if link.is_symlink() else ""


def same(database: Any, name: str) -> str:
    """The name by which the host shows the user (``pwd``) or group (``grp``) ``name``: two may share a number."""
    try:
        return pwd.getpwuid(pwd.getpwnam(name).pw_uid).pw_name if database is pwd else grp.getgrgid(grp.getgrnam(name).gr_gid).gr_name
    except KeyError:
        return name


def shown(path: Path) -> str:
    """A file's owner, group, mode and content, as a diff shows it; empty when it is not there. DaqError for what is no file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise DaqError(f"{path} is no file.\nAllowed: a file, or nothing yet.\nMove it away and run again.")
    if not path.exists():
        return ""
    found = path.stat()
    names = []
    for look_up, number in ((pwd.getpwuid, found.st_uid), (grp.getgrgid, found.st_gid)):
        try:
            names.append(look_up(number)[0])
        except KeyError:
            names.append(str(number))
    return f"{':'.join(names)} {found.st_mode & 0o7777:04o}\n{text_of(path)}"


def text_of(path: Path) -> str:
    """A file's content, byte by byte, as Java reads properties; empty when it is not there."""
    return path.read_bytes().decode("latin-1") if path.exists() else ""


def setup_text(client: Client) -> str:
    return (
        f"# Written by lsst.ldf.daq_client.\nexport DAQ_HOME={client.release.base / client.link}\n"
        "export LD_LIBRARY_PATH=$DAQ_HOME/x86/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n"
    )


def with_setup(text: str, name: str) -> str:
    """An .app file, Java's properties, with ``system.pre-execute`` once; all else as it was."""
    lines, wanted, placed, ours, goes_on = [], f"system.pre-execute={name}\n", False, False, False
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        comment = not goes_on and line.lstrip().startswith(("#", "!"))
        ours = ours if goes_on else bool(KEY.match(line))
        if not ours:
            lines.append(line)
        elif not placed:
            lines.append(wanted)
            placed = True
        # An odd number of backslashes at its end: the value goes on in the next line.
        goes_on = not comment and len(re.search(r"\\*$", line.rstrip("\r\n"))[0]) % 2 == 1
    if not placed:
        lines += ["\n"] if lines and not lines[-1].endswith("\n") else []
        lines.append(wanted)
    return "".join(lines)


# Doing it


def smoke_test(client: Client) -> list[str]:
    """Load each of the release's libraries in a process of its own; their names. DaqError with the reasons of those that do not load.

    A libreadline that is still to be linked is there for it, by a directory that is gone afterwards.
    """
    names = sorted(path.name for path in client.libraries.glob("lib*.so"))
    with tempfile.TemporaryDirectory() as shims:
        if not (client.library_dir / client.readline).exists():
            for newest in readlines(client)[:1]:
                Path(shims, client.readline).symlink_to(client.library_dir / newest)
        reasons = {name: reason for name in names if (reason := fault(client.libraries / name, f"{client.libraries}:{shims}"))}
    if reasons:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise DaqError(
            f"{client.release.version} does not load here: {told}.\nAllowed: a release of whose x86/lib every lib*.so loads.\n"
            f"Install what they lack, or correct version. {client.link} is where it was."
        )
    return names


def fault(library: Path, search: str, patience: float = PATIENCE) -> str:
    """Why the library does not load with the LD_LIBRARY_PATH ``search``; empty when it does. ``patience``: seconds."""
    command = [sys.executable, "-I", "-S", "-c", LOADER, str(library)]
    environment = {"LC_ALL": "C", "LD_LIBRARY_PATH": search}
    try:
        done = subprocess.run(
            command, env=environment, input="", capture_output=True, text=True, errors="replace", timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return f"is not loaded after {patience:g} s"
    if done.returncode < 0:
        return f"crashes with {signal.Signals(-done.returncode).name}"
    if done.returncode or not done.stdout.endswith("loaded\n"):
        return done.stderr.strip().rpartition("\n")[2] or f"ends its process with status {done.returncode}"
    return ""


def apply(client: Client, changes: list[Change]) -> None:
    """Make the changes, one moment each, in their order; a killed run leaves the rest to the next one."""
    uid, gid = pwd.getpwnam(client.owner).pw_uid, grp.getgrnam(client.group).gr_gid
    for change in changes:
        if change.content:
            write(change, uid, gid)
        else:
            switch(change.path.parent / change.after.rpartition(" -> ")[2].strip(), change.path.name)


def write(change: Change, uid: int, gid: int) -> None:
    """Have a file with its owner, mode and content under its name. The directory may be the owner's: no link is followed in it."""
    change.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = change.path.with_name(f"{UNFINISHED}{change.path.name}")
    new.unlink(missing_ok=True)
    with new.open("xb") as stream:
        os.fchown(stream.fileno(), uid, gid)
        os.fchmod(stream.fileno(), MODE)
        stream.write(change.content.encode("latin-1"))
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(change.path)


def pinned(client: Client) -> str:
    """The release that the link leads to; empty for none."""
    return links(client.release.base).get(client.link, "")
