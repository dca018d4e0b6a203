"""Releases of the camera's DAQ software side by side: whole under their name or not there, and never taken from a process that maps them.

A release is the directory ``<base>/<version>``, with a manifest inside, and the archive it was made of below ``<base>/dl``. The link
``current`` says which one is in use; operators may have links of their own beside it. Layout and names: puppet-daq of lsst-it.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from ansible_collections.lsst.ldf.plugins.module_utils.disks import shown_size
from ansible_collections.lsst.ldf.plugins.module_utils.release import UNFINISHED, save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, BinaryIO

INFO_SPEC = {
    "name": {"type": "str", "choices": ["daq-sdk", "rpt-sdk"], "required": True},
    "base_dir": {"type": "path"},
}
SPEC = {
    **INFO_SPEC,
    "version": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent", "current"], "default": "present"},
    "src": {"type": "str"},
    "checksum": {"type": "str"},
    "keep": {"type": "int"},
    "force": {"type": "bool", "default": False},
}
ARCHIVES = {"daq-sdk": "{}.tgz", "rpt-sdk": "rce-sdk-{}.tar.gz"}
DL, CURRENT = "dl", "current"
MANIFEST = ".manifest.json"
# What a file takes at least, and its last part: the block of ext4 and XFS.
BLOCK = 4096
PROC = Path("/proc")


class DaqError(Exception):
    """A release that may not be touched or cannot be had; the message is for the operator, in three parts."""


@dataclass(frozen=True)
class Release:
    """The release ``version`` of ``name`` (a key of ``ARCHIVES``), there or not, below the directory ``base``."""

    base: Path
    name: str
    version: str

    @property
    def tree(self) -> Path:
        return self.base / self.version

    @property
    def archive(self) -> Path:
        return self.base / DL / ARCHIVES[self.name].format(self.version)


@dataclass(frozen=True)
class Manifest:
    """What a release was made of: the archive's SHA-256, and path below the tree -> what ``describe`` said when it was unpacked."""

    sha256: str = ""
    entries: Mapping[str, str] | None = None


@dataclass(frozen=True, order=True)
class Process:
    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.pid})"


@dataclass(frozen=True)
class Holders:
    """``of``: release -> the processes that map files of it. ``unknown``: processes whose maps cannot be read."""

    of: Mapping[str, list[Process]]
    unknown: list[Process]


# What is there


def base_of(p: Mapping[str, Any]) -> Path:
    """The directory of all releases, from the parameters of either module."""
    return Path(p["base_dir"] or f"/opt/lsst/{p['name']}")


def check(version: str, checksum: str | None, keep: int | None) -> None:
    """DaqError for what is no version, checksum or number to keep: the first becomes a path."""
    if not re.fullmatch(rf"(?!({DL}|{CURRENT})$)[A-Za-z0-9][\w.+-]*", version):
        raise DaqError(f"version is {version!r}.\nAllowed: letters, digits and . _ + -, neither {DL} nor {CURRENT}.\nCorrect version.")
    if checksum is not None and not re.fullmatch(r"[0-9a-f]{64}", checksum):
        raise DaqError(f"checksum of {version} is {checksum!r}.\nAllowed: a SHA-256, 64 of 0-9 a-f.\nCorrect checksum.")
    if keep is not None and keep < 1:
        raise DaqError(f"keep is {keep}.\nAllowed: 1 and more.\nCorrect keep, or leave it out to keep all.")


@contextmanager
def locked(base: Path) -> Iterator[None]:
    """Waits until nobody else changes ``base``. What does not exist needs no lock."""
    try:
        handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_kept(archive: Path, sha256: str) -> bool:
    """Whether the archive is there and the right one."""
    return archive.is_file() and digest(archive) == sha256


def describe(path: Path) -> str:
    """Type, mode, owner and content of a file, directory or link; empty for what is not there or cannot be read."""
    try:
        found = path.lstat()
        content = digest(path) if stat.S_ISREG(found.st_mode) else path.readlink() if stat.S_ISLNK(found.st_mode) else ""
    except OSError:
        return ""
    return f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid} {content}"


def manifest(tree: Path) -> Manifest:
    """What the release at ``tree`` was made of; an empty one when nothing tells."""
    try:
        return Manifest(**json.loads((tree / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError):
        return Manifest()


def damage(tree: Path) -> list[str]:
    """Paths below ``tree`` that are missing or not as they were unpacked, ``.`` for a tree without a manifest; reads all of it.

    What was added later, such as the files that Python compiles, does not count.
    """
    entries = manifest(tree).entries
    return ["."] if not entries else [path for path, what in entries.items() if describe(tree / path) != what]


def installed(base: Path) -> list[str]:
    """The releases in ``base``, newest first by their version: R5-V11.3, R5-V11.0, R5-V8.1."""
    if not base.is_dir():
        return []
    names = [path.name for path in base.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "." and path.name != DL]
    return newest_first(names)


def newest_first(versions: Iterable[str]) -> list[str]:
    # Words and numbers take turns, so that like is compared with like.
    return sorted(versions, key=lambda each: [int(part) if part.isdigit() else part for part in re.split("([0-9]+)", each)], reverse=True)


def links(base: Path) -> dict[str, str]:
    """Every link in ``base`` that leads into a directory there, and that directory: current -> R5-V11.3."""
    found, real = {}, base.resolve()
    for path in base.iterdir() if base.is_dir() else ():
        if path.is_symlink() and not path.name.startswith(UNFINISHED):
            target = Path(os.path.realpath(path))
            if target != real and target.is_relative_to(real):
                found[path.name] = target.relative_to(real).parts[0]
    return found


def mapped(maps: str, base: str, inodes: Mapping[tuple[str, str], str]) -> set[str]:
    """The releases that ``maps``, the content of /proc/<pid>/maps, shows.

    By path, also of what has been removed since; and by ``inodes``, (device, inode) as it shows them -> release: through a bind mount and
    in a container a file has another path.
    """
    found = set()
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6:
            if fields[5].startswith(f"{base}/"):
                found.add(fields[5][len(base) + 1 :].partition("/")[0])
            elif release := inodes.get((fields[3], fields[4])):
                found.add(release)
    return found


def holders(base: Path, proc: Path = PROC) -> Holders:
    """Which processes map files of which release."""
    inodes = {}
    for version in installed(base):
        for path in (base / version).rglob("*"):
            found = path.lstat()
            inodes[f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}", str(found.st_ino)] = version
    of: dict[str, list[Process]] = {}
    unknown, real = [], str(base.resolve())
    for place in proc.glob("[0-9]*"):
        try:
            process = Process(int(place.name), (place / "comm").read_text().strip())
            try:
                maps = (place / "maps").read_text(errors="replace")
            except PermissionError:
                unknown.append(process)
                continue
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has ended.
        for version in mapped(maps, real, inodes):
            of.setdefault(version, []).append(process)
    return Holders({version: sorted(processes) for version, processes in of.items()}, sorted(unknown))


def report(release: Release, held: Holders) -> dict[str, Any]:
    """What daq_sdk_info says of a release."""
    made, broken = manifest(release.tree), damage(release.tree)
    kept = is_kept(release.archive, made.sha256)
    files = [path.lstat() for path in release.tree.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        "version": release.version,
        "size": sum(each.st_size for each in files),
        "archive_size": release.archive.stat().st_size if release.archive.is_file() else 0,
        "checksum": made.sha256,
        "verified": kept and not broken,
        "damaged": [os.path.normpath(f"{release.version}/{path}") for path in broken] + ([] if kept else [f"{DL}/{release.archive.name}"]),
        "processes": [asdict(process) for process in held.of.get(release.version, [])],
    }


# What is to be done


def due_present(release: Release, checksum: str, held: Holders) -> list[str]:
    """What is to be done to have the release whole: fetch (the archive), install (the tree), both or nothing."""
    refuse_link(release)
    made_of = manifest(release.tree).sha256
    if made_of not in ("", checksum):
        raise DaqError(
            f"{release.tree} was made of {made_of}, not of {checksum}.\nAllowed: one content for a version, once and for all.\n"
            "Correct checksum, or give the new content a version of its own."
        )
    broken = damage(release.tree)
    if broken and release.tree.exists():
        refuse_held(release.version, held, f"is not whole ({', '.join(broken[:3])}), but", "Stop them and run again, to install it anew.")
    return [*([] if is_kept(release.archive, checksum) else ["fetch"]), *(["install"] if broken else [])]


def due_current(release: Release, held: Holders, force: bool = False, coming: bool = False, name: str = CURRENT) -> list[str]:
    """Whether the link ``name`` is to be moved to the release: switch or nothing.

    ``coming``: one that is not whole counts as about to be so.
    """
    refuse_link(release)
    link = release.base / name
    if link.is_symlink() and link.readlink() == Path(release.version) and (coming or release.tree.is_dir()):
        return []
    if not coming and damage(release.tree):
        raise DaqError(
            f"{release.tree} is not there or not whole.\nAllowed: a release that is installed.\n"
            f"Install it with state: present first. {name} is where it was."
        )
    old = links(release.base).get(name, "")
    if old != release.version and not force:
        refuse_held(old, held, f"is {name}, and", f"Stop them and run again, or move {name} under them with force: true.")
    return ["switch"]


def due_absent(release: Release, held: Holders) -> list[str]:
    """Whether there is something of the release to be removed: remove or nothing."""
    refuse_link(release)
    if not release.tree.exists() and not release.archive.exists():
        return []
    if leading := [name for name, version in links(release.base).items() if version == release.version]:
        raise DaqError(
            f"{release.version} is what {', '.join(sorted(leading))} in {release.base} leads to.\n"
            "Allowed: a release that no link leads to.\nMove the link to another release first."
        )
    refuse_held(release.version, held, "is to be removed, but", "Stop them and run again.")
    return ["remove"]


def refuse_link(release: Release) -> None:
    if release.tree.is_symlink():
        raise DaqError(f"{release.tree} is a link.\nAllowed: the version of a release.\nCorrect version.")


def refuse_held(version: str, held: Holders, why: str, remedy: str) -> None:
    if processes := held.of.get(version):
        names = ", ".join(map(str, processes))
        raise DaqError(f"{version} {why} is mapped by {names}.\nAllowed: a release that no process maps.\n{remedy}")


def unseen(held: Holders) -> str:
    """The warning that there are processes nobody can look into."""
    return (
        f"Nobody can say what {', '.join(map(str, held.unknown))} has mapped. Allowed: processes whose /proc/<pid>/maps can be read. "
        "Run as root."
    )


def prunable(release: Release, keep: int | None, leading: Mapping[str, str], held: Holders) -> list[str]:
    """The releases beyond the ``keep`` newest, but not ``release``, nor one that a link leads to (``leading``: link -> release) or a
    process maps, nor a directory that has no manifest: somebody else made it.
    """
    safe = {release.version, *leading.values(), *held.of}
    versions = newest_first({release.version, *installed(release.base)})[keep:] if keep else []
    return [each for each in versions if each not in safe and manifest(release.base / each).sha256]


def contents(base: Path) -> set[str]:
    """The releases, archives and links in ``base``, a line each."""
    kept = {f"{DL}/{path.name}" for path in (base / DL).glob("*")}
    return {*installed(base), *kept, *(f"{link} -> {version}" for link, version in links(base).items())}


def difference(before: set[str], release: Release, actions: list[str], removed: list[Release]) -> dict[str, str]:
    """Ansible's diff: ``before``, from ``contents``, and what the actions make of it."""
    comes = {line for action, line in (("fetch", f"{DL}/{release.archive.name}"), ("install", release.version)) if action in actions}
    goes = {line for each in removed for line in (each.version, f"{DL}/{each.archive.name}")}
    shown = {f"{line} (damaged)" if line in comes else line for line in before}
    if "switch" in actions:
        comes.add(f"{CURRENT} -> {release.version}")
        goes.update(line for line in before if line.startswith(f"{CURRENT} -> "))
    return {key: "".join(f"{line}\n" for line in sorted(lines)) for key, lines in (("before", shown), ("after", (before - goes) | comes))}


# Doing it


@contextmanager
def workshop(base: Path) -> Iterator[Path]:
    """A hidden directory for what has no name yet or no longer, beside the releases."""
    work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=base))
    try:
        yield work
    finally:
        shutil.rmtree(work)


def install(release: Release, src: str, checksum: str, actions: list[str], opened: Callable[[str], tuple[BinaryIO, int]]) -> None:
    """Fetch the archive, unpack it, or both. ``opened``: src -> the stream of its content, and its bytes, 0 when nobody says."""
    with workshop(release.base) as work:
        archive = release.archive
        if "fetch" in actions:
            archive = work / "archive"
            fetch(release, src, checksum, archive, opened)
        needed = unpacked_size(archive, release.version)
        if "install" in actions:
            refuse_without_room(release, needed)
        if "fetch" in actions:
            release.archive.parent.mkdir(exist_ok=True)
            archive.chmod(0o644)
            archive.replace(release.archive)
            flush(release.archive.parent)
        if "install" in actions:
            tree = unpack(release.archive, work / "new", release.version)
            entries = {str(path.relative_to(tree)): describe(path) for path in (tree, *sorted(tree.rglob("*")))}
            with (tree / MANIFEST).open("x") as stream:
                json.dump(asdict(Manifest(checksum, entries)), stream, indent=1)
            # Before the name: a machine that loses its power must not come back with a release that is not whole.
            for path in (tree, *tree.rglob("*")):
                if not path.is_symlink():
                    flush(path)
            if release.tree.exists():
                release.tree.rename(work / "old")
            tree.rename(release.tree)
            flush(release.base)


def fetch(release: Release, src: str, checksum: str, target: Path, opened: Callable[[str], tuple[BinaryIO, int]]) -> None:
    """Have the content of ``src`` as ``target``, if it is what it should be."""
    source, size = opened(src)
    with source:
        refuse_without_room(release, size)
        found = save(source, target)
    if found != checksum:
        raise DaqError(
            f"{src} gave {target.stat().st_size} bytes{f' of {size}' if size else ''} with the SHA-256 {found}.\n"
            f"Allowed: {checksum}.\nPut the right archive there, or correct checksum."
        )


def refuse_without_room(release: Release, needed: int) -> None:
    """DaqError unless the disk has ``needed`` bytes for it."""
    if needed > (free := shutil.disk_usage(release.base).free):
        raise DaqError(
            f"{release.base} has room for {shown_size(free)}, but {release.version} needs {shown_size(needed)}.\n"
            "Allowed: a disk that holds it.\nMake room and run again; nothing was written."
        )


def unpacked_size(archive: Path, version: str) -> int:
    """Bytes that the archive takes on a disk when it is unpacked. DaqError unless it holds the directory ``version`` and nothing else."""
    total, seen_links, wrong = 0, set(), "nothing"
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                if wrong := fault(member, version, seen_links):
                    break
                if member.issym() or member.islnk():
                    seen_links.add(PurePosixPath(member.name))
                total += BLOCK + (member.size + BLOCK - 1) // BLOCK * BLOCK
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        wrong = f"no whole archive: {error}"
    if wrong:
        raise DaqError(
            f"The archive of {version} holds {wrong}.\nAllowed: a .tar.gz of files, directories and links below {version}/, none of which "
            "leads out of it.\nPut the right archive at src, or correct version."
        )
    return total


def fault(member: tarfile.TarInfo, version: str, seen_links: set[PurePosixPath]) -> str:
    """What forbids unpacking ``member``, for a message; empty for nothing. ``seen_links``: the links before it.

    Stricter than tarfile's filter: that one strips a leading slash, knows no tree, and follows links that are on the disk by then.
    """
    path = PurePosixPath(member.name)
    if not path.parts and member.isdir():
        return ""
    if path.is_absolute() or ".." in path.parts:
        return f"{member.name}, a path out of the tree"
    if path.parts[:1] != (version,) or (len(path.parts) == 1 and not member.isdir()):
        return f"{member.name}, which is not in the directory {version}"
    if seen_links.intersection((path, *path.parents)):
        return f"{member.name}, which a link stands in for"
    if member.issym() or member.islnk():
        target = os.path.normpath(path.parent / member.linkname if member.issym() else member.linkname)
        if PurePosixPath(target).parts[:1] != (version,):
            return f"{member.name}, a link to {member.linkname}"
    elif not member.isreg() and not member.isdir():
        return f"{member.name}, a device or the like"
    return ""


def unpack(archive: Path, place: Path, version: str) -> Path:
    """Have the archive's tree, which ``unpacked_size`` has looked at, below ``place``. DaqError for a link that leads out after all."""
    with tarfile.open(archive, "r:gz") as members:
        members.extractall(place, filter="data")
    tree = place / version
    inside = os.path.realpath(tree)
    for path in tree.rglob("*"):
        # By way of another link: a path that looks as if it stayed inside may not.
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
            raise DaqError(
                f"The archive of {version} holds {path.relative_to(place)}, a link to {path.readlink()}.\n"
                f"Allowed: links inside {version}/.\nPut the right archive at src."
            )
    return tree


def flush(path: Path) -> None:
    """Have a file or directory on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(release: Release) -> None:
    """Remove the release, its archive included; a killed run leaves no half of a tree under its name."""
    with workshop(release.base) as work:
        if release.tree.exists():
            release.tree.rename(work / "old")
        release.archive.unlink(missing_ok=True)
