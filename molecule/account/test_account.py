"""account, as the host's own programs see it: who somebody is, what a log-in gives, what sudo lets happen."""

from __future__ import annotations

import pytest


def present(entries: list[dict]) -> list[dict]:
    """The users or groups that are to be there."""
    return [entry for entry in entries if entry.get("state", "present") == "present"]


def gone(entries: list[dict]) -> list[str]:
    """The names of those that are not."""
    return [entry["name"] for entry in entries if entry.get("state") == "absent"]


def as_user(host, name: str, command: str):
    """What a real process of that user gets from the command."""
    return host.run("runuser -u %s -- %s" % (name, command))  # noqa: UP031 - testinfra would quote the command as one word


@pytest.mark.reads
def test_everybody_is_there_with_their_numbers(host, settings):
    for group in present(settings["account_groups"]):
        assert host.check_output("getent group %s", group["name"]).split(":")[2] == str(group["gid"])
    for user in present(settings["account_users"]):
        name, _, uid, _, comment, home, shell = host.check_output("getent passwd %s", user["name"]).split(":")
        wanted = (str(user["uid"]), user.get("comment", ""), user.get("home", f"/home/{name}"), user.get("shell", "/bin/bash"))
        assert (uid, comment, home, shell) == wanted
        assert host.check_output("id --group --name %s", name) == user.get("group", name)
    # So that it says something of a host without users of its own, too.
    assert host.check_output("sudo -l -U %s", settings["account_login"]).count("NOPASSWD: ALL") == 1


@pytest.mark.reads
def test_nobody_is_in_a_listed_group_who_is_not_said_to_be(host, settings):
    listed = {group["name"] for group in present(settings["account_groups"])}
    members = {name: set(host.check_output("getent group %s", name).split(":")[3].split(",")) - {""} for name in listed}
    users = present(settings["account_users"])
    for user in users:
        wanted = {name for name in user.get("groups", []) if name in listed}
        assert {name for name in listed if user["name"] in members[name]} == wanted
        assert set(user.get("groups", [])) <= set(host.check_output("id --groups --name %s", user["name"]).split())
    assert users or not listed


@pytest.mark.reads
def test_nobody_has_a_password(host, settings):
    for user in present(settings["account_users"]):
        assert host.check_output("passwd --status %s", user["name"]).split()[1] == "L"
    assert host.check_output("passwd --status %s", settings["account_login"]).split()[1] == "L"
    assert not host.file("/etc/sudoers.d/00-installer").exists


@pytest.mark.reads
def test_a_log_in_ends_in_the_right_shell_and_home(host, settings):
    for user in present(settings["account_users"]):
        shown = host.run("su --login %s --command %s", user["name"], "echo $HOME; id -u")
        if user.get("shell", "").endswith("nologin"):
            assert shown.rc != 0
        else:
            assert shown.stdout.split() == [user.get("home", f"/home/{user['name']}"), str(user["uid"])]
    assert as_user(host, settings["account_login"], "sudo -n id -u").stdout.strip() == "0"
    assert not host.file("/etc/sudoers.d/00-installer").exists


@pytest.mark.reads
def test_sudo_works_for_those_who_may_and_for_nobody_else(host, settings):
    powerful = {settings["account_break_glass_group"]}
    for user in present(settings["account_users"]):
        may = user.get("sudo", False) or bool(powerful & {user.get("group"), *user.get("groups", [])})
        answer = as_user(host, user["name"], "sudo -n id -u")
        assert (answer.rc == 0, answer.stdout.strip()) == ((True, "0") if may else (False, "")), user["name"]
    assert host.run("sudo -l -U nobody").stdout.count("NOPASSWD") == 0
    assert as_user(host, settings["account_login"], "sudo -n id -u").stdout.strip() == "0"
    assert host.check_output("stat --format '%a %U' /etc/sudoers.d/lsst").split() == ["440", "root"]


@pytest.mark.reads
def test_a_rule_lets_its_commands_happen_and_no_others(host, settings):
    users = {user["name"]: user for user in present(settings["account_users"])}
    for rule in settings["account_sudo"]:
        named = set(rule.get("users", []))
        named |= {name for name, user in users.items() if set(rule.get("groups", [])) & {user.get("group"), *user.get("groups", [])}}
        for name in named & set(users):
            for command in rule["commands"]:
                assert as_user(host, name, f"sudo -n -l {command}").rc == 0, (name, command)
            if "ALL" not in rule["commands"] and not users[name].get("sudo"):
                assert as_user(host, name, "sudo -n -l /usr/bin/false").rc != 0, name
    assert host.check_output("sudo -l -U %s", settings["account_login"]).count("NOPASSWD: ALL") == 1


@pytest.mark.reads
def test_who_has_left_is_gone(host, settings):
    for name in gone(settings["account_users"]):
        assert not host.user(name).exists
    for name in gone(settings["account_groups"]):
        assert not host.group(name).exists
    assert host.file("/etc/sudoers.d/lsst").exists


# The scenario has the accounts that this needs.
@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.writes
def test_clashing_numbers_are_refused_before_anything_changes(host, apply):
    """All that is wrong in one message, each with what is allowed, and the file to edit."""
    before = host.check_output("cat /etc/passwd /etc/group /etc/sudoers.d/lsst | sha256sum")
    clashing = {
        "account_groups": [{"name": "newcomer", "gid": 4}, {"name": "lsst_operator", "gid": 70009}],
        "account_users": [
            {"name": "first", "uid": 6000, "group": "users"},
            {"name": "second", "uid": 6000, "group": "users"},
            {"name": "third", "uid": 70011, "group": "users"},
            {"name": "iip", "uid": 61004, "group": "users"},
        ],
    }
    done = apply(**clashing)
    assert done.returncode == 2
    for line in (
        "newcomer is to have gid 4, which adm has here. Allowed: a gid that nobody else has.",
        "lsst_operator is to have gid 70009, but has 70000 here. Allowed: 70000, or renumber it and its files by hand.",
        "first and second both have uid 6000. Allowed: a uid for one of them.",
        "third is to have uid 70011, which operator01 has here. Allowed: a uid that nobody else has.",
        "iip is to have uid 61004, but has 61003 here. Allowed: 61003, or renumber it and its files by hand.",
        "Nothing was changed. Edit account_groups and account_users in inventories/production/group_vars/*/account.yml.",
    ):
        assert line in done.stdout, done.stdout
    assert host.check_output("cat /etc/passwd /etc/group /etc/sudoers.d/lsst | sha256sum") == before
