"""Zone files of BIND: their text, their serials, and what named-checkzone thinks of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

CHECKER = "named-checkzone"
HEADER = "; Ansible managed: written by lsst.ldf.zone, which also counts the serial"
# Strict where BIND by itself only warns: a name that points nowhere, data of another zone, a host name with an underscore.
STRICT = ("-i", "local", "-k", "fail", "-m", "fail", "-M", "fail", "-n", "fail", "-r", "fail", "-S", "fail")
SERIAL = re.compile(r"^    (\d+) ; serial$", re.MULTILINE)
MODE = 0o644
# Other sites ask for a new serial this often (seconds) in case that they missed the notice of it.
REFRESH, RETRY = 300, 60
RECORD = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "required": True},
    "value": {"type": "str", "required": True},
    "ttl": {"type": "int"},
}
ZONE = {
    "name": {"type": "str", "required": True},
    "records": {"type": "list", "elements": "dict", "options": RECORD, "required": True},
}
SPEC = {
    "directory": {"type": "path", "required": True},
    "zones": {"type": "list", "elements": "dict", "options": ZONE, "required": True},
    "ttl": {"type": "int", "default": 60},
    "expire": {"type": "int", "default": 7776000},
    "edit": {"type": "str", "default": "the zones of this task"},
}


class ZoneError(Exception):
    """A zone that cannot be served; the message names the record and what is allowed."""


class Record(NamedTuple):
    """One record. ``ttl`` None: the zone's own, in seconds."""

    name: str
    type: str
    value: str
    ttl: int | None = None

    def __str__(self) -> str:
        ttl = "" if self.ttl is None else f"{self.ttl} "
        return f"{self.name} {ttl}IN {self.type} {self.value}"


class Zone(NamedTuple):
    """A zone with its records but the SOA, whose first server is the first NS record. ``ttl`` and ``expire`` in seconds."""

    name: str
    records: tuple[Record, ...]
    ttl: int
    expire: int

    @property
    def file(self) -> str:
        """Name of its file."""
        return "root.zone" if self.name == "." else f"{self.name}.zone"

    @property
    def servers(self) -> list[str]:
        """The values of its own NS records."""
        return [record.value for record in self.records if record.type == "NS" and record.name in ("@", f"{self.name.rstrip('.')}.")]


def refuse_unwritable(zone: Zone) -> None:
    """Raise ZoneError for what would not come out as one zone file with one line a record; needs no checker."""
    if not re.fullmatch(r"\.|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", zone.name):
        raise ZoneError(f"zone {zone.name!r} has no usable name\nAllowed: letters, digits, - and _ between single dots, none at the end.")
    for record in zone.records:
        if not re.fullmatch(r"[^\s;$()\"]+", record.name) or not re.fullmatch(r"[A-Z][A-Z0-9]*", record.type) or record.type == "SOA":
            wrong = "no usable name or type"
        elif not record.value.strip() or not record.value.isprintable():
            wrong = "no value on one line"
        elif record.ttl is not None and record.ttl < 0:
            wrong = "a negative ttl"
        else:
            continue
        raise ZoneError(
            f"zone {zone.name}, record {str(record)!r}: {wrong}\n"
            "Allowed: a record such as {name: base-dtn01, type: A, value: 10.64.16.21}; the SOA record is made from the NS records."
        )
    if not zone.servers:
        raise ZoneError(f"zone {zone.name} has no server\nAllowed: at least one record {{name: '@', type: NS, value: ...}}.")


def render(zone: Zone, serial: int) -> str:
    """The zone's file: six lines, then one line a record."""
    head = [
        HEADER,
        f"$TTL {zone.ttl}",
        f"@ IN SOA {zone.servers[0]} hostmaster (",
        f"    {serial} ; serial",
        f"    {REFRESH} {RETRY} {zone.expire} {zone.ttl} ; refresh, retry, expire, how long a missing name is remembered",
        ")",
    ]
    return "\n".join([*head, *map(str, zone.records)]) + "\n"


def record_at(zone: Zone, line: int) -> Record | None:
    """The record that ``render`` put on ``line``, counted from 1."""
    index = line - (len(render(zone, 0).splitlines()) - len(zone.records)) - 1
    return zone.records[index] if 0 <= index < len(zone.records) else None


def next_text(zone: Zone, old: str, now: float) -> str:
    """What the file has to hold: ``old`` as it is while only the serial could differ, else a new text with a greater serial.

    The serial is the time (``now``, seconds since the epoch), so that a server that is built anew never falls behind its peers.
    """
    found = SERIAL.search(old)
    serial = int(found[1]) if found else 0
    if old == render(zone, serial):
        return old
    return render(zone, max(serial + 1, int(now)))


def check(zone: Zone, text: str, predicting: bool = False) -> None:
    """Raise ZoneError with the checker's words and the record that they are about, unless named-checkzone accepts ``text``.

    A checker that is not installed is an error, but not when ``predicting`` (check mode of a bare host).
    """
    if shutil.which(CHECKER) is None:
        if predicting:
            return
        raise ZoneError(f"{CHECKER} is not on this host\nAllowed: a host with the package bind9-utils.")
    done = subprocess.run([CHECKER, *STRICT, zone.name, "/dev/stdin"], input=text, capture_output=True, text=True, check=False)
    words = done.stdout + done.stderr
    complaint = complaint_of(zone, words, "/dev/stdin") or (words.splitlines() or [f"{CHECKER} failed"])[0] * bool(done.returncode)
    if complaint:
        raise ZoneError(f"{complaint}\nAllowed: what {CHECKER} accepts, such as {{name: base-dtn01, type: A, value: 10.64.16.21}}.")


def complaint_of(zone: Zone, words: str, path: str) -> str:
    """The first thing that named-checkzone says about a line of ``path``, with the record of that line; empty when it says nothing.

    Data of another zone is worth a word to it and no error; here it is one, because it would be missing silently.
    """
    found = re.search(rf"{re.escape(path)}:(\d+): (.*)", words)
    return f"zone {zone.name}, record '{record_at(zone, int(found[1])) or 'SOA'}': {found[2]}" if found else ""


def current(path: Path) -> str:
    """The text of ``path``; empty when there is no such file."""
    return path.read_text(errors="replace") if path.is_file() else ""


def ours(directory: Path) -> dict[str, str]:
    """Name and text of every file in ``directory`` that the module wrote, drafts of killed runs included."""
    texts = {path.name: current(path) for path in directory.glob("*")}
    return {name: text for name, text in texts.items() if text.startswith(HEADER)}


def due(zone: Zone, directory: Path, now: float) -> tuple[str, str] | None:
    """The zone's text as it is and as it has to be; None when its file is as it should be. ``now`` as ``next_text`` takes it."""
    path = directory / zone.file
    old = current(path)
    new = next_text(zone, old, now)
    return None if old == new and path.stat().st_mode & 0o777 == MODE else (old, new)


def zones_of(a: dict) -> list[Zone]:
    """The zones of the module's arguments."""
    return [Zone(zone["name"], tuple(Record(**record) for record in zone["records"]), a["ttl"], a["expire"]) for zone in a["zones"]]


def already(a: dict) -> dict | None:
    """The probe of a batch: an answer when every zone's file is as it should be and no other is left; None otherwise."""
    directory, zones = Path(a["directory"]), zones_of(a)
    for zone in zones:
        refuse_unwritable(zone)
        if due(zone, directory, 0):
            return None
    files = [zone.file for zone in zones]
    return None if len(set(files)) < len(files) or set(ours(directory)) - set(files) else {"changed": False, "zones": [], "diff": []}
