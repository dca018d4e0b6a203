"""HTCondor by its own commands: settings that are looked at before they go live, and what a pool's daemons say of themselves.

The commands print JSON or text; what they say here was recorded from HTCondor 23.9.6.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

PROC, USR = Path("/proc"), Path("/usr")
# Which daemons must restart, and since when: what a reconfiguration does not bring about stays due until it is done.
RESTARTS = Path("/var/lib/lsst-htcondor/restarts.json")
# Names that HTCondor puts together as it reads them, so that neither its table of defaults nor a program of it has them as they are.
FAMILIES = re.compile(
    r"(ALLOW|DENY)_[A-Z_]+|SEC_[A-Z_]+_(AUTHENTICATION|ENCRYPTION|INTEGRITY|NEGOTIATION|AUTHENTICATION_METHODS|CRYPTO_METHODS|SESSION_\w+)"
    r"|GROUP_(QUOTA|QUOTA_DYNAMIC|PRIO_FACTOR|ACCEPT_SURPLUS|AUTOREGROUP|SORT_EXPR)_[\w.]+|(NUM_)?SLOTS?_TYPE_\d+(_\w+)?|SLOT\d+_\w+"
    r"|JOB_(ROUTER_ROUTE|TRANSFORM)_\w+|SUBMIT_REQUIREMENT_\w+|(STARTD|SCHEDD|BENCHMARKS)_CRON_\w+|MACHINE_RESOURCE_\w+"
    r"|(MAX_)?[A-Z]+_(LOG|DEBUG|ARGS|ATTRS|EXPRS)",
    re.IGNORECASE,
)
# Below /usr, where else a name stands that a program of HTCondor reads.
PROGRAMS = (
    "sbin/condor_*",
    "lib/libcondor_utils*",
    "lib/*/libcondor_utils*",
    "lib/condor/libcondor_utils*",
    "lib/*/condor/libcondor_utils*",
)
# A daemon takes these only when it starts (manual; the table's own flags lack them).
AT_START = re.compile(
    r"(MAX_)?NUM_CPUS|MEMORY|RESERVED_MEMORY|(NUM_)?SLOTS?_TYPE_\w+|NUM_SLOTS|BASE_CGROUP|CONSUMPTION_POLICY", re.IGNORECASE
)
# Expressions over ClassAds that make a daemon exit when they cannot be read.
EXPRESSIONS = re.compile(
    r"START|RANK|PREEMPT|SUSPEND|CONTINUE|KILL|WANT_SUSPEND|WANT_VACATE|MAXJOBRETIREMENTTIME|(SYSTEM|SUBMIT)_\w*EXPRS?|SYSTEM_PERIODIC_\w+"
    r"|\w*_REQUIREMENTS|NEGOTIATOR_\w*JOB_RANK|PREEMPTION_\w+|CONSUMPTION_(CPUS|MEMORY|DISK)|IS_OWNER|RUNBENCHMARKS|SLOT_WEIGHT|MAX_HISTORY_LOG|MEMORY",
    re.IGNORECASE,
)
# A process has the first 15 characters of its name.
DAEMONS = {f"condor_{name}"[:15]: name for name in ("collector", "job_router", "master", "negotiator", "schedd", "shared_port", "startd")}
WORDS = {"INT": "a whole number", "LONG": "a whole number", "BOOL": "true or false", "DOUBLE": "a number"}


class CondorError(Exception):
    """What HTCondor refused, or must not get; the message is for the operator, in three parts."""


@dataclass(frozen=True)
class Knob:
    """A setting as ``condor_config_val -info`` tells it: its expanded value, its type and range, who reads it."""

    value: str
    expected: str = ""
    restart: bool = False
    used_by: tuple[str, ...] = ()


@dataclass
class Findings:
    """What is to be said of a candidate. ``effective``: settings that change; ``unknown``, ``wrong``: sentences; ``restart``: daemons."""

    effective: list[dict[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)


# The commands


def condor(*command: str, config: Path | None = None, stdin: str | None = None, timeout: float = 60) -> str:
    """What a command prints. ``config``: another file than the host's condor_config. CondorError with its words when it fails."""
    environment = os.environ | ({"CONDOR_CONFIG": str(config)} if config else {})
    try:
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CondorError(
            f"{command[0]}: {error}.\nAllowed: a command of HTCondor that answers.\nInstall HTCondor, or see its logs."
        ) from None
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip()).replace("\n", " ")
        raise CondorError(f"{' '.join(command)} failed: {told}")
    return done.stdout


def installed() -> bool:
    return shutil.which("condor_config_val") is not None


def value(name: str) -> str:
    """A setting in the host's files, expanded. CondorError when it is not defined."""
    return condor("condor_config_val", name).strip()


def ads(command: list[str], attributes: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The ClassAds that a query (condor_status, condor_q, condor_history) finds; an expression is its text."""
    wanted = ["-attributes", ",".join(attributes)] if attributes else []
    text = condor(*command, "-json", *wanted).strip()
    return [{key: plain(each) for key, each in ad.items()} for ad in (json.loads(text) if text else [])]


def plain(told: Any) -> Any:
    """A value from JSON, in which HTCondor marks expressions as ``/Expr(text)/``."""
    found = re.fullmatch(r"/Expr\((.*)\)/", told, re.DOTALL) if isinstance(told, str) else None
    return found.group(1) if found else told


# Settings


def written(use: Iterable[str], settings: Mapping[str, Any]) -> str:
    """A configuration file of templates and settings; values over several lines are allowed."""
    lines = [f"use {each}" for each in use]
    for name, each in settings.items():
        text = str(each).lower() if isinstance(each, bool) else str(each).strip()
        lines.append(f"{name} @=end\n{text}\n@end" if "\n" in text else f"{name} = {text}".rstrip())
    return "\n".join(lines) + "\n"


def defined(text: str) -> list[str]:
    """The names that a configuration file sets itself, in capitals."""
    found, end = [], ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if end:
            end = "" if line.strip() == end else end
            continue
        name = re.match(r"\s*([A-Za-z_][\w.]*)\s*(@=(\w+)|=)", line)
        if name:
            found.append(name.group(1).upper())
            end = f"@{name.group(3)}" if name.group(3) else ""
    return found


def parse_summary(text: str) -> dict[str, str]:
    """Name in capitals -> raw value, from ``condor_config_val -summary``."""
    found, end, name = {}, False, ""
    for line in text.splitlines():
        if end:
            end = line.strip() != "@end"
            if end:
                found[name] += line.strip() + "\n"
        elif (pair := re.match(r"([\w.]+) (@?)= ?(.*)", line)) or (pair := re.match(r"([\w.]+) (@)=", line)):
            name, end = pair.group(1).upper(), bool(pair.group(2))
            found[name] = "" if end else pair.group(3)
    return found


def parse_info(text: str) -> dict[str, Knob]:
    """Name in capitals -> what ``condor_config_val -info`` says of it."""
    found = {}
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        notes = dict(re.findall(r"^ # ([\w ]+?) ?: (.*)$", block, re.MULTILINE))
        name, _, raw = notes.get("raw", "").partition(" =")
        if not name:
            continue
        head = "\n".join(line for line in lines if not line.startswith(" # ")).partition("=")[2].strip()
        found[name.upper()] = Knob(
            head or raw.strip(),
            notes.get("expected values", ""),
            notes.get("restart required", "").startswith("true"),
            tuple(notes.get("used by", "").lower().split(",")),
        )
    return found


@contextmanager
def candidate(dest: Path, text: str | None) -> Iterator[Path]:
    """A copy of the host's condor_config in which the file ``dest`` has this text, or is not there (None)."""
    live = Path(os.environ.get("CONDOR_CONFIG", "/etc/condor/condor_config"))
    with tempfile.TemporaryDirectory(prefix="lsst-htcondor-") as work:
        places = [each.strip() for each in value("LOCAL_CONFIG_DIR").split(",")]
        if str(dest.parent) not in places:
            raise CondorError(f"dest is {dest}, which HTCondor does not read.\nAllowed: a file in {' or '.join(places)}.\nCorrect dest.")
        directory = Path(work) / "config.d"
        shutil.copytree(dest.parent, directory)
        if text is None:
            (directory / dest.name).unlink(missing_ok=True)
        else:
            (directory / dest.name).write_text(text)
        config = Path(work) / "condor_config"
        local = ",".join(str(directory) if each == str(dest.parent) else each for each in places)
        config.write_text(f"{live.read_text()}\nLOCAL_CONFIG_DIR = {local}\n")
        yield config


def examine(dest: Path, text: str | None, allow_names: Iterable[str] = ()) -> Findings:
    """What the text would bring as ``dest``. CondorError for one that HTCondor cannot read at all."""
    with candidate(dest, text) as config:
        try:
            after = parse_summary(condor("condor_config_val", "-summary", config=config))
        except CondorError as error:
            told = str(error).replace(str(config.parent / "config.d"), str(dest.parent))
            raise CondorError(
                f"{dest}: {told}.\nAllowed: what condor_config_val can read.\nCorrect its content; the live file is as it was."
            ) from None
        names = defined(text or "")
        asked = sorted({name.rpartition(".")[2] for name in names} | {"DAEMON_LIST"})
        knobs = parse_info(condor("condor_config_val", "-info", *asked, config=config))
        before = parse_summary(condor("condor_config_val", "-summary"))
        table = condor("condor_config_val", "-dump", config=Path("/dev/null"))
        found = Findings(effective=difference(before, after))
        found.unknown = strangers(names, table, after, allow_names)
        found.wrong = [told for name in names if (told := fault(name, knobs.get(name.rpartition(".")[2], Knob("")), after))]
        moved = sorted({entry["name"].rpartition(".")[2] for entry in found.effective})
        flags = parse_info(condor("condor_config_val", "-info", *moved, config=config)) if moved else {}
        found.restart = sorted({each for name in moved for each in restarts(name, flags.get(name, Knob("")))})
    return found


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, str]]:
    """The settings that differ, by name; empty for one that the files do not set."""
    names = sorted({*before, *after} - {"LOCAL_CONFIG_DIR"})
    pairs = [(name, before.get(name, ""), after.get(name, "")) for name in names]
    return [{"name": name, "before": old, "after": new} for name, old, new in pairs if old != new]


def strangers(names: Iterable[str], table: str, settings: Mapping[str, str], allowed: Iterable[str]) -> list[str]:
    """Of ``names``, those that nothing reads: no program, no other setting, no list of attributes. With the likeliest right one.

    ``table``: all defaults, as ``condor_config_val -dump`` prints them.
    """
    known = {line.split(" ")[0].upper() for line in table.splitlines()}
    used = set(re.findall(r"\$\(([\w.]+)", " ".join([table, *settings.values()]).upper()))
    used |= {
        word for name, text in settings.items() if name.endswith(("ATTRS", "EXPRS", "_NAMES")) for word in re.split(r"[\s,]+", text.upper())
    }
    used |= {name.upper() for name in allowed}
    found, texts = [], []
    for name in names:
        own = name.rpartition(".")[2]
        if {name, own} & (known | used) or FAMILIES.fullmatch(own) or FAMILIES.fullmatch(name):
            continue
        texts = texts or [path.read_bytes().upper() for each in PROGRAMS for path in USR.glob(each) if path.is_file()]
        if not any(b"\0" + own.encode() + b"\0" in text for text in texts):
            near = difflib.get_close_matches(own, known, 1)
            found.append(name + (f" ({near[0]}?)" if near else ""))
    return found


def fault(name: str, knob: Knob, settings: Mapping[str, str]) -> str:
    """What is wrong with a setting's value, for a message; empty for nothing."""
    attributes = {
        word
        for each in ("STARTD_ATTRS", "SCHEDD_ATTRS", "MASTER_ATTRS", "SUBMIT_ATTRS")
        for word in re.split(r"[\s,]+", settings.get(each, "").upper())
    }
    own, text = name.rpartition(".")[2], knob.value or settings.get(name, "")
    kind = knob.expected.split(" ")[0]
    if not text.strip() or not (kind in WORDS or EXPRESSIONS.fullmatch(own) or own in attributes):
        return ""
    if kind in ("INT", "LONG") and re.fullmatch(r"\d+ *[KMGT]?b?", text, re.IGNORECASE):
        result = re.match(r"\d+", text).group()
    else:
        try:
            result = condor("classad_eval", text).strip().splitlines()[-1].strip()
        except CondorError:
            return f"{name} = {text}, which is no expression"
    kinds = {"INT": r"-?\d+", "LONG": r"-?\d+", "BOOL": r"true|false|0|1", "DOUBLE": r"-?[\d.]+(e[+-]?\d+)?"}
    if kind in WORDS and not re.fullmatch(kinds[kind], result, re.IGNORECASE):
        return f"{name} = {text}, which is not {WORDS[kind]}"
    limits = re.search(r"from (\S+) to (\S+)", knob.expected)
    if limits and kind != "BOOL" and not float(limits.group(1)) <= float(result) <= float(limits.group(2)):
        return f"{name} = {text}, which is not {knob.expected}"
    return ""


def restarts(name: str, knob: Knob) -> tuple[str, ...]:
    """The daemons that a change of this setting reaches only when they start."""
    if AT_START.fullmatch(name):
        return ("startd",)
    if name.upper() == "GROUP_NAMES":
        # It counts what a group has only then: one that went with jobs running would come back full, and get nothing any more.
        return ("negotiator",)
    readers = tuple(each for each in knob.used_by if each in ("collector", "master", "negotiator", "schedd", "startd"))
    return (readers or ("master",)) if knob.restart else ()


# Daemons


def daemons() -> dict[str, float]:
    """The host's own master and its daemons: name without condor_ -> when it started, seconds since the epoch."""
    booted = next(float(line.split()[1]) for line in (PROC / "stat").read_text().splitlines() if line.startswith("btime "))
    found: dict[int, tuple[str, int, float]] = {}
    for path in PROC.glob("[0-9]*"):
        try:
            head, _, rest = (path / "stat").read_text().rpartition(") ")
        except OSError:
            continue
        pid, name = head.split(" (", 1)
        if name in DAEMONS:
            fields = rest.split()
            found[int(pid)] = (DAEMONS[name], int(fields[1]), booted + int(fields[19]) / os.sysconf("SC_CLK_TCK"))
    masters = {pid for pid, (name, parent, _) in found.items() if name == "master" and parent == 1}
    return {name: started for pid, (name, parent, started) in found.items() if pid in masters or parent in masters}


def remember(names: Iterable[str], now: float) -> None:
    """These daemons have to restart, if they run."""
    running = daemons()
    RESTARTS.parent.mkdir(mode=0o755, exist_ok=True)
    kept = RESTARTS.with_suffix(".new")
    kept.write_text(json.dumps(pending(running) | dict.fromkeys(running.keys() & names, now)))
    kept.replace(RESTARTS)


def pending(running: Mapping[str, float]) -> dict[str, float]:
    """Of the daemons that run, those that have to restart, and since when."""
    known = json.loads(RESTARTS.read_text()) if RESTARTS.exists() else {}
    return {name: since for name, since in known.items() if running.get(name, since) < since}


def reconfigure(settle: float) -> list[str]:
    """Have the daemons read their files; those that did not live through the next ``settle`` seconds, which must be few."""
    before = daemons()
    if "master" not in before:
        return []
    listed = {name.lower() for name in re.split(r"[\s,]+", value("DAEMON_LIST"))}
    expected = {name: started for name, started in before.items() if name in listed}
    condor("condor_reconfig")
    end = time.monotonic() + settle
    while True:
        alive = daemons()
        dead = [name for name, started in expected.items() if alive.get(name) != started]
        if dead or time.monotonic() >= end:
            return dead
        time.sleep(0.3)


def put(dest: Path, text: str | None) -> None:
    """The file has this text, for everybody to read, from one moment to the next; None: it is gone."""
    if text is None:
        dest.unlink(missing_ok=True)
        return
    # A name that HTCondor does not read: LOCAL_CONFIG_DIR_EXCLUDE_REGEXP has what begins with a dot.
    new = dest.with_name(f".{dest.name}.new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(dest)


def bring(dest: Path, text: str | None, found: Findings, settle: float, now: bool = True) -> None:
    """Put the file into its place and, ``now``, have the daemons read it; when one dies of that, the old file is back, and CondorError."""
    old = dest.read_text() if dest.exists() else None
    if found.restart:
        remember(found.restart, time.time())
    put(dest, text)
    try:
        dead = reconfigure(settle) if now else []
        told = f"{', '.join(dead)} ended when it read {dest}" if dead else ""
    except CondorError as error:
        told = str(error)
    if told:
        put(dest, old)
        reconfigure(0)
        raise CondorError(
            f"{told}.\nAllowed: settings that every daemon lives with (see its log in {value('LOG')}).\n"
            "Correct its content; the old file is back, and the master starts what ended."
        )
