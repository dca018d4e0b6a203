"""Whether a resource surely is as a step asks, without running its module.

A probe answers ``{"changed": False}`` (with the little that the module itself would say) or None: «not sure», and then the real module
decides. It is strict: an argument that it does not know, or a value that it does not fully understand, is «not sure»; so is any error. It
never changes anything.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import stat
import time
from importlib import import_module

from ansible_collections.lsst.ldf.plugins.module_utils.arguments import complete

TYPE_CHECKING = False
if TYPE_CHECKING:  # imports that cost a host more time than a probe takes
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Answer = dict[str, Any] | None

# Modules of this collection whose probe, ``already``, is beside their SPEC and logic: in the file of module_utils that they travel with.
OWN = {
    "account": "accounts",
    "commit_confirm": "commit_confirm",
    "host_certificate": "host_tls",
    "kernel_settings": "kernel",
    "python_environment": "python_environment",
    "release": "release",
    "ssh_host_certificate": "ssh_host_key",
    "zone": "zone",
}
# The collection of each probed module, empty for ansible-core.
HOMES = dict.fromkeys(("apt", "copy", "file", "group", "lineinfile", "systemd_service", "template", "user"), "")
HOMES |= {"sysctl": "ansible.posix"} | dict.fromkeys((*OWN, "apt_hold", "apt_lists", "unit"), "lsst.ldf")
NAMES = tuple(sorted(HOMES))
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
# What ansible.posix.sysctl takes for 1 or 0.
BOOLEAN_WORDS = frozenset(("y", "yes", "on", "true", "t", "n", "no", "off", "false", "f"))


class Probes:
    """The probes for one request. ``which``: True for all, or names of ``NAMES``; ``steps``: those of the request."""

    def __init__(self, which: bool | list[str], steps: list[dict]):
        self.which = frozenset(NAMES if which is True else which)
        self.units = list(dict.fromkeys(name for step in steps for name in units_of(step)))
        self.forget()

    def forget(self) -> None:
        """Something changed, or may have: look again."""
        self.installed: dict[str, frozenset[str]] | None = None
        self.shown: dict[str, Any] | None = None

    def answer(self, module: str, args: Mapping[str, Any], predicted: list[str], when: str | None = None) -> Answer:
        """The answer of ``module``'s probe, or None. ``when``: the name that the switch knows the probe by, when it is another."""
        name = short(module)
        if name not in HOMES or short(when or module) not in self.which:
            return None
        args = {key: value for key, value in args.items() if not key.startswith("_ansible_")}
        try:
            if name in OWN:
                logic = import_module(f"{__package__}.{OWN[name]}")
                whole = complete(logic.SPEC, args)
                return None if whole is None else logic.already(whole)
            given = {key: value for key, value in args.items() if value is not None}
            probe: Callable[..., Answer] = getattr(self, f"_{name}")
            return probe(given, predicted) if name == "unit" else probe(given)
        except Exception:
            return None

    def _file(self, a: Mapping[str, Any]) -> Answer:
        known = {"path", "dest", "name", "state", "mode", "owner", "group", "recurse", "follow", "force", "_original_basename"}
        path, state = one_of(a, "path", "dest", "name"), a.get("state", "file")
        if unknown(a, known) or a.get("recurse", False) is not False or not plain_path(path):
            return None
        kind = {"directory": stat.S_ISDIR, "file": stat.S_ISREG}.get(state)
        try:
            there = os.lstat(path)
        except FileNotFoundError:
            return {"changed": False, "path": path, "state": "absent"} if state == "absent" else None
        if kind is None or not kind(there.st_mode) or not access_is(there, a):
            return None
        return {"changed": False, "path": path, "state": state}

    def _apt(self, a: Mapping[str, Any]) -> Answer:
        known = {"name", "pkg", "package", "state", "install_recommends", "policy_rc_d", "lock_timeout", "cache_valid_time"}
        names = one_of(a, "name", "pkg", "package")
        names = names.split(",") if isinstance(names, str) else names
        if unknown(a, known) or a.get("state", "present") not in ("present", "absent") or a.get("cache_valid_time", 0) != 0:
            return None
        if not names or not all(isinstance(name, str) and PACKAGE.fullmatch(name) and not name.endswith(".deb") for name in names):
            return None
        # The module also marks what it finds installed as wanted by somebody; a package that came by itself is left to it.
        if a.get("state", "present") == "present":
            return {"changed": False} if self._packages()["by hand"].issuperset(names) else None
        return {"changed": False} if self._packages()["known"].isdisjoint(names) else None

    def _apt_hold(self, a: Mapping[str, Any]) -> Answer:
        if unknown(a, {"name"}) or not isinstance(a["name"], list):
            return None
        return {"changed": False, "held": sorted(a["name"])} if self._packages()["held"] == set(a["name"]) else None

    def _apt_lists(self, a: Mapping[str, Any]) -> Answer:
        from ansible_collections.lsst.ldf.plugins.module_utils import apt_lists

        if unknown(a, {"proxy", "max_age", "needed"}) or not self._packages()["installed"].issuperset(a.get("needed", [])):
            return None
        if a.get("proxy"):
            apt_lists.endpoint(a["proxy"])
        since = apt_lists.fetched()
        return None if apt_lists.stale(since, a.get("max_age", apt_lists.MAX_AGE)) else {"changed": False, "age": int(time.time() - since)}

    def _packages(self) -> dict[str, frozenset[str]]:
        """What dpkg knows, read once until something changes."""
        if self.installed is None:
            self.installed = installed_packages("/var/lib/dpkg/status", "/var/lib/apt/extended_states")
        return self.installed

    def _user(self, a: Mapping[str, Any]) -> Answer:
        known = {"name", "uid", "shell", "home", "group", "groups", "append", "state", "system", "create_home", "comment"}
        if unknown(a, known) or a.get("state", "present") != "present" or ("append" in a and "groups" not in a):
            return None
        user = pwd.getpwnam(a["name"])
        have = {"shell": user.pw_shell, "home": user.pw_dir, "comment": user.pw_gecos}
        if any(a.get(key, value) != value for key, value in have.items()) or int(a.get("uid", user.pw_uid)) != user.pw_uid:
            return None
        if a.get("create_home", True) is not False and not os.path.isdir(user.pw_dir):
            return None
        if "group" in a and group_id(a["group"]) != user.pw_gid:
            return None
        if "groups" in a:
            groups = a["groups"].split(",") if isinstance(a["groups"], str) else a["groups"]
            have = {group.gr_name for group in grp.getgrall() if user.pw_name in group.gr_mem}
            if not groups or not (have.issuperset(groups) if a.get("append", False) is True else have == set(groups)):
                return None
        return {"changed": False, "name": user.pw_name, "uid": user.pw_uid}

    def _group(self, a: Mapping[str, Any]) -> Answer:
        if unknown(a, {"name", "gid", "state", "system"}) or a.get("state", "present") != "present":
            return None
        group = grp.getgrnam(a["name"])
        if "gid" in a and int(a["gid"]) != group.gr_gid:
            return None
        return {"changed": False, "name": group.gr_name, "gid": group.gr_gid}

    def _lineinfile(self, a: Mapping[str, Any]) -> Answer:
        known = {"path", "dest", "name", "regexp", "regex", "line", "value", "mode", "owner", "group", "state", "create"}
        path, line, pattern = one_of(a, "path", "dest", "name"), one_of(a, "line", "value"), one_of(a, "regexp", "regex")
        if unknown(a, known) or a.get("state", "present") != "present" or not isinstance(line, str) or not plain_path(path):
            return None
        there = os.lstat(path)
        if not stat.S_ISREG(there.st_mode) or not access_is(there, a):
            return None
        text = read(path)
        if "\r" in text or "\n" in line or not text.endswith("\n"):
            return None
        lines = text.split("\n")[:-1]
        hits = [each for each in lines if (each == line if pattern is None else re.search(pattern, f"{each}\n"))]
        return {"changed": False} if hits and hits[-1] == line else None

    def _sysctl(self, a: Mapping[str, Any]) -> Answer:
        known = {"name", "key", "value", "val", "state", "sysctl_file", "reload", "sysctl_set"}
        key, value = one_of(a, "name", "key"), one_of(a, "value", "val")
        if unknown(a, known) or a.get("state", "present") != "present" or not re.fullmatch(r"[a-z0-9_.]+", str(key)):
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)) or str(value).lower() in BOOLEAN_WORDS:
            return None
        value = str(value).strip()
        lines = read(a.get("sysctl_file", "/etc/sysctl.conf")).splitlines()
        set_to = [each.partition("=")[2].strip() for each in lines if each.partition("=")[0].strip() == key]
        if set_to != [value]:
            return None
        if a.get("sysctl_set", False) is not False or a.get("reload", True) is not False:
            running = read(os.path.join("/proc/sys", *key.split("."))).split()
            if running != value.split():
                return None
        return {"changed": False}

    def _systemd_service(self, a: Mapping[str, Any]) -> Answer:
        known = {"name", "unit", "service", "state", "enabled", "scope", "daemon_reload", "no_block", "masked"}
        name = one_of(a, "name", "unit", "service")
        if unknown(a, known) or a.get("scope", "system") != "system" or not isinstance(name, str):
            return None
        if any(a.get(key, False) is not False for key in ("daemon_reload", "masked")) or a.get("enabled", True) is not True:
            return None
        if a.get("state", "started") != "started":
            return None
        unit = dict(row.split("=", 1) for row in self._block(name).strip().splitlines())
        # Another name of a unit is «alias» to systemd, which the module does not call enabled.
        if unit["Id"] not in (name, f"{name}.service"):
            return None
        if unit["LoadState"] != "loaded" or ("state" in a and unit["ActiveState"] != "active"):
            return None
        if "enabled" in a and unit["UnitFileState"] != "enabled":
            return None
        return {"changed": False, "name": name}

    def _unit(self, a: Mapping[str, Any], predicted: list[str]) -> Answer:
        from ansible_collections.lsst.ldf.plugins.module_utils import systemd

        known = {"name", "state", "enabled", "restart", "restart_after", "reload_after", "peers", "peers_min", "peers_wait", "timeout"}
        names = [a["name"]] if isinstance(a["name"], str) else a["name"]
        if unknown(a, known) or any(a.get(key, True) not in (True, False) for key in ("enabled", "restart")):
            return None
        if a.get("state", "started") not in ("started", "stopped"):
            return None
        paths = [[a[key]] if isinstance(a.get(key, []), str) else a.get(key, []) for key in ("restart_after", "reload_after")]
        if any(systemd.about_to_change(each, predicted) for each in paths):
            return None
        times = [systemd.newest(each) for each in paths]
        wanted = systemd.Wanted(a.get("state", "started") == "started", a.get("enabled"), *times)
        for name in names:
            unit = systemd.parse_unit(name, self._block(name))
            if not unit.exists or systemd.actions(unit, wanted):
                return None
        return {"changed": False, "units": [{"name": name, "actions": []} for name in names]}

    def _block(self, name: str) -> str:
        """What systemctl shows of a unit; asked for all units of the request at once."""
        from ansible_collections.lsst.ldf.plugins.module_utils import systemd

        if self.shown is None or name not in self.shown:
            names = list(dict.fromkeys([name, *self.units]))
            properties = ",".join(("Id", *systemd.PROPERTIES))
            text = systemd.systemctl("show", "--timestamp=us+utc", f"--property={properties}", "--", *names)
            self.shown = dict(zip(names, text.split("\n\n"), strict=True))
        return self.shown[name]


def short(module: str) -> str:
    """The name of a module's probe: its last part, if the module is at home where the probed one is; else nothing."""
    collection, _, name = module.rpartition(".")
    name = "systemd_service" if name == "systemd" else name
    homes = ("", "ansible.builtin", "ansible.legacy") if HOMES.get(name) == "" else (HOMES.get(name),)
    return name if collection in homes else ""


def units_of(step: dict) -> list[str]:
    """The systemd units that a step asks about."""
    if "copy" in step or short(step["module"]) not in ("systemd_service", "unit"):
        return []
    args = json.loads(step["params"])["ANSIBLE_MODULE_ARGS"]
    names = one_of(args, "name", "unit", "service")
    return [name for name in ([names] if isinstance(names, str) else names or []) if isinstance(name, str)]


def one_of(args: Mapping[str, Any], *names: str) -> Any:
    """The argument that goes by one of these ``names``; ValueError when it is given twice."""
    given = [args[name] for name in names if args.get(name) is not None]
    if len(given) > 1:
        raise ValueError(f"more than one of {names}")
    return given[0] if given else None


def unknown(args: Mapping[str, Any], known: Iterable[str]) -> bool:
    """Whether there is an argument that the probe knows nothing of."""
    return bool(set(args) - set(known))


def plain_path(path: Any) -> bool:
    """Whether the module would take ``path`` as it is: absolute, without a variable, a home directory or a slash at its end."""
    return isinstance(path, str) and path.startswith("/") and not path.endswith("/") and "$" not in path and "~" not in path


def access_is(there: os.stat_result, args: Mapping[str, Any]) -> bool:
    """Whether mode, owner and group, as far as they are given, are those of ``there``. A symbolic mode is «not sure»."""
    if "mode" in args:
        mode = args["mode"]
        if not isinstance(mode, str) or not re.fullmatch(r"0?[0-7]{3,4}", mode) or int(mode, 8) != stat.S_IMODE(there.st_mode):
            return False
    if "owner" in args and user_id(args["owner"]) != there.st_uid:
        return False
    return "group" not in args or group_id(args["group"]) == there.st_gid


def user_id(owner: Any) -> int:
    """Number of a user given by name or number; KeyError for one that does not exist."""
    return int(owner) if str(owner).isdigit() else pwd.getpwnam(owner).pw_uid


def group_id(group: Any) -> int:
    """Number of a group given by name or number; KeyError for one that does not exist."""
    return int(group) if str(group).isdigit() else grp.getgrnam(group).gr_gid


def installed_packages(status: str, extended: str) -> dict[str, frozenset[str]]:
    """Names of packages: ``installed``; ``by hand``, of those the ones that are not there for another package's sake alone; ``held``, by
    dpkg's mark; ``known``, dpkg knows them on this host.
    """
    paragraphs = [paragraph for paragraph in read(status).split("\n\n") if paragraph.strip()]
    installed = {name_in(each) for each in paragraphs if re.search(r"^Status: (install|hold) ok installed$", each, re.MULTILINE)}
    marks = read(extended).split("\n\n") if os.path.exists(extended) else []
    automatic = {name_in(each) for each in marks if "\nAuto-Installed: 1" in each}
    provided = set(re.findall(r"[a-z0-9][a-z0-9+.-]+", " ".join(re.findall(r"^Provides: (.*)$", "\n".join(paragraphs), re.MULTILINE))))
    return {
        "installed": frozenset(installed),
        "by hand": frozenset(installed - automatic),
        "held": frozenset(name_in(each) for each in paragraphs if "\nStatus: hold " in each),
        "known": frozenset({name_in(each) for each in paragraphs} | provided),
    }


def read(path: str) -> str:
    """The text of a file, every line end as it is."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return stream.read()


def name_in(paragraph: str) -> str:
    """The package that a paragraph of dpkg's or apt's files is about."""
    return paragraph.strip().partition("\n")[0].removeprefix("Package: ")
