"""Users and groups of a host: what is there, what contradicts it, and which commands lead from one to the other."""

from __future__ import annotations

import grp
import pwd
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ETC = Path("/etc")
# Whether or not they are installed, nobody logs in with them.
NO_SHELLS = {"/usr/sbin/nologin", "/usr/bin/false", "/bin/false"}
STATE = {"type": "str", "choices": ["present", "absent"], "default": "present"}
GROUP = {"name": {"type": "str", "required": True}, "gid": {"type": "int"}, "state": STATE}
USER = {
    "name": {"type": "str", "required": True},
    "uid": {"type": "int"},
    "group": {"type": "str"},
    "groups": {"type": "list", "elements": "str", "default": []},
    "shell": {"type": "str", "default": "/bin/bash"},
    "home": {"type": "path"},
    "comment": {"type": "str", "default": ""},
    "sudo": {"type": "bool", "default": False},
    "state": STATE,
}
SPEC = {
    "groups": {"type": "list", "elements": "dict", "options": GROUP, "default": []},
    "users": {"type": "list", "elements": "dict", "options": USER, "default": []},
    "edit": {"type": "str", "default": "account_groups and account_users in inventories/production/group_vars/*/account.yml"},
}


class Group(NamedTuple):
    """A group as it is to be. ``gid`` counts for a present one only."""

    name: str
    gid: int | None
    present: bool = True


class User(NamedTuple):
    """A user as it is to be. All but ``name`` count for a present one only."""

    name: str
    uid: int | None
    group: str
    groups: frozenset[str]
    shell: str
    home: str
    comment: str
    present: bool = True


class Account(NamedTuple):
    """A user as it is. ``groups``: the names of those beyond ``group``; ``locked``: no password opens it."""

    uid: int
    group: str
    groups: frozenset[str]
    shell: str
    home: str
    comment: str
    locked: bool

    def __str__(self) -> str:
        groups = f", also {', '.join(sorted(self.groups))}" if self.groups else ""
        password = "" if self.locked else ", has a password"
        return f"uid {self.uid}, group {self.group}{groups}, shell {self.shell}, home {self.home}, comment {self.comment!r}{password}"


class Host(NamedTuple):
    """What is there. ``users`` and ``gids`` by name, from the host's own files; ``uid_names`` and ``gid_names`` from its directory too."""

    users: dict[str, Account]
    gids: dict[str, int]
    uid_names: dict[int, str]
    gid_names: dict[int, str]


def wanted(groups: list[dict], users: list[dict]) -> tuple[list[Group], list[User]]:
    """Groups and users from the parameters of the module."""
    return [Group(group["name"], group["gid"], group["state"] == "present") for group in groups], [
        User(
            name=user["name"],
            uid=user["uid"],
            group=user["group"] or user["name"],
            groups=frozenset(user["groups"]),
            shell=user["shell"],
            home=user["home"] or f"/home/{user['name']}",
            comment=user["comment"],
            present=user["state"] == "present",
        )
        for user in users
    ]


def already(a: dict) -> dict | None:
    """The probe of a batch: the module's answer when nothing is due; None when the module has to see."""
    groups, users = wanted(a["groups"], a["users"])
    host = read_host([user.uid for user in users], [group.gid for group in groups])
    if clashes(groups, users, host) or commands(groups, users, host):
        return None
    return {"changed": False, "commands": []}


def read_host(uids: Iterable[int | None], gids: Iterable[int | None], etc: Path = ETC) -> Host:
    """The host's own users and groups, and who has ``uids`` and ``gids`` in all that it knows, directories such as sssd's included."""
    group_lines = list(fields(etc / "group"))
    own_gids = {line[0]: int(line[2]) for line in group_lines}
    group_names = {gid: name for name, gid in own_gids.items()}
    locked = {line[0]: line[1].startswith(("!", "*")) for line in fields(etc / "shadow")}
    users = {}
    for name, _, uid, gid, comment, home, shell in fields(etc / "passwd"):
        members = frozenset(line[0] for line in group_lines if name in line[3].split(","))
        users[name] = Account(int(uid), group_names.get(int(gid), gid), members, shell, home, comment, locked.get(name, True))
    uid_names = {account.uid: name for name, account in users.items()}
    return Host(
        users,
        own_gids,
        uid_names | {uid: pwd.getpwuid(uid).pw_name for uid in uids if uid is not None and known(pwd.getpwuid, uid)},
        group_names | {gid: grp.getgrgid(gid).gr_name for gid in gids if gid is not None and known(grp.getgrgid, gid)},
    )


def fields(path: Path) -> Iterator[list[str]]:
    """The lines of a file such as /etc/passwd, cut at colons; nothing if there is no file."""
    if path.exists():
        yield from (line.split(":") for line in path.read_text().splitlines() if line.count(":") > 1)


def known(look_up, number: int) -> bool:
    """Whether anybody has the number."""
    try:
        return bool(look_up(number))
    except KeyError:
        return False


def clashes(groups: list[Group], users: list[User], host: Host, shells: bool = True) -> list[str]:
    """What is wrong with the lists, each in itself and against the host: wrong value and what is allowed. Empty when nothing is.

    ``shells``: whether a shell must be there already.
    """
    found = [f"group {name} is listed twice. Allowed: once." for name in twice(group.name for group in groups)]
    found += [f"user {name} is listed twice. Allowed: once." for name in twice(user.name for user in users)]
    here, people = [group for group in groups if group.present], [user for user in users if user.present]
    found += [f"group {group.name} has no gid. Allowed: a number." for group in here if group.gid is None]
    found += [f"user {user.name} has no uid. Allowed: a number." for user in people if user.uid is None]
    for kind, entries in (("gid", [(g.name, g.gid) for g in here]), ("uid", [(u.name, u.uid) for u in people])):
        for number in twice(number for _, number in entries if number is not None):
            names = " and ".join(sorted(name for name, its in entries if its == number))
            found.append(f"{names} both have {kind} {number}. Allowed: a {kind} for one of them.")
    found += against_host("gid", [(g.name, g.gid) for g in here], host.gids, host.gid_names, [g.name for g in groups if not g.present])
    uids = {name: account.uid for name, account in host.users.items()}
    found += against_host("uid", [(u.name, u.uid) for u in people], uids, host.uid_names, [u.name for u in users if not u.present])
    there = ({*host.gids, *host.gid_names.values()} - {group.name for group in groups}) | {group.name for group in here}
    for user in people:
        found += [
            f"user {user.name} is to be in group {name}, which is not there. Allowed: a group of account_groups or of the host."
            for name in sorted({user.group, *user.groups} - there)
        ]
        if shells and user.shell not in NO_SHELLS and not Path(user.shell).exists():
            found.append(f"user {user.name} has the shell {user.shell}, which is not there. Allowed: one that is installed.")
    return found


def twice(values: Iterable) -> list:
    """The values that come more than once."""
    return [value for value, number in Counter(values).items() if number > 1]


def against_host(kind: str, wanted: list, numbers: dict[str, int], names: dict[int, str], going: list[str]) -> list[str]:
    """Names that have another number on the host, and numbers that have another name there; those that are ``going`` do not count."""
    found = []
    for name, number in wanted:
        if number is None:
            continue
        if numbers.get(name, number) != number:
            here = numbers[name]
            found.append(f"{name} is to have {kind} {number}, but has {here} here. Allowed: {here}, or renumber it and its files by hand.")
        owner = names.get(number, name)
        if owner != name and owner not in going:
            found.append(f"{name} is to have {kind} {number}, which {owner} has here. Allowed: a {kind} that nobody else has.")
    return found


def commands(groups: list[Group], users: list[User], host: Host) -> list[list[str]]:
    """What has to be run, in order; empty when nothing is due. Files of users that go are left where they are."""
    going = [["userdel", user.name] for user in users if not user.present and user.name in host.users]
    going += [["groupdel", group.name] for group in groups if not group.present and group.name in host.gids]
    coming = [["groupadd", "--gid", str(g.gid), g.name] for g in groups if g.present and g.name not in host.gids]
    managed = {group.name for group in groups}
    return going + coming + [command for user in users if user.present for command in for_user(user, host.users.get(user.name), managed)]


def wanted_groups(user: User, account: Account | None, managed: set[str]) -> frozenset[str]:
    """The user's further groups: exactly the given ones among those that are ``managed``; what other roles gave stays."""
    return user.groups | ((account.groups - managed) if account else frozenset())


def for_user(user: User, account: Account | None, managed: set[str]) -> list[list[str]]:
    """The commands for one user that is to be there."""
    groups = wanted_groups(user, account, managed)
    options = {
        "--gid": (user.group, account and account.group),
        "--groups": (",".join(sorted(groups)), account and ",".join(sorted(account.groups))),
        "--shell": (user.shell, account and account.shell),
        "--home-dir" if account is None else "--home": (user.home, account and account.home),
        "--comment": (user.comment, account and account.comment),
    }
    words = [word for option, (wanted, have) in options.items() if wanted != (have or "") for word in (option, wanted)]
    if account is None:
        # A new user has no password that opens it.
        return [["useradd", "--uid", str(user.uid), "--create-home", "--no-user-group", *words, user.name]]
    lock = [] if account.locked else [["usermod", "--lock", user.name]]
    return [["usermod", *words, user.name], *lock] if words else lock


def after(user: User, account: Account | None, managed: set[str]) -> Account:
    """The user once the commands have run."""
    return Account(user.uid, user.group, wanted_groups(user, account, managed), user.shell, user.home, user.comment, True)
