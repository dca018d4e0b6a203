"""Which clashes are refused and which commands are due: every rule of lsst.ldf.account as one row."""

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.accounts import Account, Group, Host, User, clashes, commands, read_host

IIP = {"uid": 61003, "group": "iip", "groups": frozenset(), "shell": "/bin/sh", "home": "/home/iip", "comment": ""}
GIDS = {"iip": 61003, "adm": 4, "ssl-cert": 101, "staff": 50}
EMPTY = Host({}, {}, {}, {})


def user(**other) -> User:
    return User(**{"name": "iip"} | IIP | other)


def host(**other) -> Host:
    """A host that has iip as it is to be, but for ``other``."""
    account = Account(**IIP | {"locked": True} | other)
    return Host({"iip": account}, GIDS, {account.uid: "iip", 61000: "arc"}, {gid: name for name, gid in GIDS.items()})


def test_an_empty_host_gets_everything_in_order():
    wanted = user(groups=frozenset({"adm"}))
    assert commands([Group("iip", 61003), Group("adm", 4)], [wanted], EMPTY) == [
        ["groupadd", "--gid", "61003", "iip"],
        ["groupadd", "--gid", "4", "adm"],
        ["useradd", "--uid", "61003", "--create-home", "--no-user-group", "--gid", "iip", "--groups", "adm", "--shell", "/bin/sh"]
        + ["--home-dir", "/home/iip", "iip"],
    ]


@pytest.mark.parametrize(
    ("wanted", "found", "due"),
    [
        ({}, {}, []),
        ({"shell": "/bin/bash"}, {}, [["usermod", "--shell", "/bin/bash", "iip"]]),
        ({"home": "/srv/iip"}, {}, [["usermod", "--home", "/srv/iip", "iip"]]),
        ({"comment": "Images"}, {}, [["usermod", "--comment", "Images", "iip"]]),
        ({"comment": ""}, {"comment": "Images"}, [["usermod", "--comment", "", "iip"]]),
        ({"group": "staff"}, {}, [["usermod", "--gid", "staff", "iip"]]),
        ({}, {"locked": False}, [["usermod", "--lock", "iip"]]),
        ({"groups": frozenset({"adm"})}, {}, [["usermod", "--groups", "adm", "iip"]]),
        ({"groups": frozenset({"adm"})}, {"groups": frozenset({"adm"})}, []),
        # adm is in the list of groups, so a membership that is not given goes; ssl-cert is another role's.
        ({}, {"groups": frozenset({"adm", "ssl-cert"})}, [["usermod", "--groups", "ssl-cert", "iip"]]),
        ({}, {"groups": frozenset({"ssl-cert"})}, []),
        ({"present": False}, {}, [["userdel", "iip"]]),
    ],
)
def test_commands(wanted, found, due):
    assert commands([Group("iip", 61003), Group("adm", 4)], [user(**wanted)], host(**found)) == due


def test_users_go_before_their_groups_and_both_before_others_come():
    groups = [Group("new", 5000), Group("iip", None, present=False)]
    due = commands(groups, [user(name="new", uid=5000, group="new"), user(present=False)], host())
    assert [command[0] for command in due] == ["userdel", "groupdel", "groupadd", "useradd"]
    assert commands(groups[1:], [user(present=False)], EMPTY) == []


@pytest.mark.parametrize(
    ("groups", "users", "message"),
    [
        ([], [{}], None),
        ([Group("iip", 61003)], [{}], None),
        ([Group("a", 7), Group("b", 7)], [], "a and b both have gid 7. Allowed: a gid for one of them."),
        ([Group("a", 7), Group("a", 8)], [], "group a is listed twice. Allowed: once."),
        ([Group("a", None)], [], "group a has no gid. Allowed: a number."),
        ([], [{}, {"name": "other"}], "iip and other both have uid 61003. Allowed: a uid for one of them."),
        ([], [{}, {"uid": 61004}], "user iip is listed twice. Allowed: once."),
        ([], [{"uid": None}], "user iip has no uid. Allowed: a number."),
        ([Group("iip", 5)], [], "iip is to have gid 5, but has 61003 here. Allowed: 61003, or renumber it and its files by hand."),
        ([Group("new", 61003)], [], "new is to have gid 61003, which iip has here. Allowed: a gid that nobody else has."),
        ([], [{"uid": 5}], "iip is to have uid 5, but has 61003 here. Allowed: 61003, or renumber it and its files by hand."),
        ([], [{"name": "new", "uid": 61000}], "new is to have uid 61000, which arc has here. Allowed: a uid that nobody else has."),
        ([], [{"name": "new"}, {"present": False}], None),
        ([Group("new", 61003), Group("iip", None, present=False)], [], None),
        ([], [{"group": "no"}], "user iip is to be in group no, which is not there. Allowed: a group of account_groups or of the host."),
        ([], [{"groups": frozenset({"adm", "no"})}], "user iip is to be in group no, which is not there."),
        ([Group("adm", None, present=False)], [{"groups": frozenset({"adm"})}], "user iip is to be in group adm, which is not there."),
        ([], [{"shell": "/usr/sbin/nologin"}], None),
        ([], [{"shell": "/bin/no"}], "user iip has the shell /bin/no, which is not there. Allowed: one that is installed."),
    ],
)
def test_clashes(groups, users, message):
    found = clashes(groups, [user(**other) for other in users], host())
    assert found == [] if message is None else any(line.startswith(message) for line in found)


def test_a_check_of_a_bare_host_does_not_ask_for_shells():
    assert clashes([], [user(shell="/bin/no")], host(), shells=False) == []


def test_read_host(tmp_path):
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\niip:x:61003:61003:Images:/home/iip:/bin/sh\n")
    (tmp_path / "group").write_text("root:x:0:\niip:x:61003:\nadm:x:4:syslog,iip\nadm2:x:5:iip2\n")
    (tmp_path / "shadow").write_text("root:$y$hash:1::::::\niip:!:1::::::\n")
    found = read_host([0, 61003], [61003], tmp_path)
    assert found.users["iip"] == Account(61003, "iip", frozenset({"adm"}), "/bin/sh", "/home/iip", "Images", locked=True)
    assert not found.users["root"].locked
    assert (found.gids["adm"], found.uid_names[61003], found.gid_names[61003], found.uid_names[0]) == (4, "iip", "iip", "root")
