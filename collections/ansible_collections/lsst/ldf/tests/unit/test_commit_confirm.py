"""What is due, what is kept to take it back, and who wins between confirmation and restoration."""

import errno
import json
from math import inf
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.lsst.ldf.plugins.action import commit_confirm as action
from ansible_collections.lsst.ldf.plugins.module_utils import commit_confirm as cc
from ansible_collections.lsst.ldf.plugins.module_utils import restore
from ansible_collections.lsst.ldf.plugins.module_utils.systemd import Unit

WANTED = {"dest": Path("/etc/x"), "content": b"new\n", "mode": 0o644, "uid": 0, "gid": 0}
THERE = {"kind": "file", "content": b"new\n", "mode": 0o644, "uid": 0, "gid": 0}
RUNNING = {"name": "x", "exists": True, "active": True, "ended": False, "enabled": True, "needs_daemon_reload": False}
RUNNING |= {"started_at": inf, "reloaded_at": 0}
CHANGE = {"name": "x", "files": [], "unit": None, "verb": "restart", "enabled": True, "apply": None, "probe": None, "timeout": 60.0}
EDIT = "group_vars/all/x.yml"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A state directory and boot units of our own, and no systemd."""
    monkeypatch.setattr(cc, "HOME", tmp_path / "home")
    monkeypatch.setattr(restore, "UNITS", tmp_path / "units")
    (tmp_path / "units" / "multi-user.target.wants").mkdir(parents=True)
    calls = []
    done = SimpleNamespace(returncode=0, stdout="", stderr="")
    monkeypatch.setattr(cc.subprocess, "run", lambda command, **_: calls.append(command) or done)
    return SimpleNamespace(path=tmp_path / "home" / "x", calls=calls)


def change(tmp_path, *contents, **more):
    """A change of files a, b ... under ``tmp_path``, owned by whoever runs the test."""
    owner = (tmp_path.stat().st_uid, tmp_path.stat().st_gid)
    files = [cc.File(tmp_path / "ab"[number], content, 0o640, *owner) for number, content in enumerate(contents)]
    return cc.Change(**CHANGE | {"files": files, "edit": EDIT} | more)


@pytest.mark.parametrize(
    ("wanted", "seen", "due"),
    [
        ({}, {}, False),
        ({"content": b"other\n"}, {}, True),
        ({"mode": 0o600}, {}, True),
        ({"uid": 1}, {}, True),
        ({"gid": -1}, {}, True),
        ({}, {"kind": "absent"}, True),
        ({}, {"kind": "link"}, True),
        ({"content": None}, {}, True),
        ({"content": None}, {"kind": "link"}, True),
        ({"content": None}, {"kind": "absent"}, False),
    ],
)
def test_differs(wanted, seen, due):
    assert cc.differs(cc.File(**WANTED | wanted), cc.Seen(**THERE | seen)) == due


@pytest.mark.parametrize(
    ("wanted", "seen", "shown"),
    [
        ({"content": b"b\n"}, {"content": b"a\n"}, [("a\n", "b\n")]),
        ({"mode": 0o600}, {}, [("file 0644 0:0\n", "file 0600 0:0\n")]),
        ({}, {"kind": "absent", "content": b""}, [("", "new\n"), ("absent\n", "file 0644 0:0\n")]),
        ({"content": None}, {}, [("new\n", ""), ("file 0644 0:0\n", "absent\n")]),
        ({}, {"kind": "link", "content": b"/run/x"}, [("link to /run/x\n", "new\n"), ("link 0644 0:0\n", "file 0644 0:0\n")]),
    ],
)
def test_diff(wanted, seen, shown):
    entries = cc.diff(cc.File(**WANTED | wanted), cc.Seen(**THERE | seen))
    assert [(entry["before"], entry["after"]) for entry in entries] == shown


@pytest.mark.parametrize(
    ("unit", "verb", "enabled", "apply", "last"),
    [
        (None, "restart", True, None, None),
        (None, "restart", True, "netplan apply", ["netplan", "apply"]),
        ({"exists": False}, "restart", True, None, None),
        ({}, "restart", True, None, ["systemctl", "restart", "x"]),
        ({}, "reload", True, None, ["touch", "-c", "/run/lsst-ldf-unit/x"]),
        ({"active": False}, "reload", True, None, ["systemctl", "stop", "x"]),
    ],
)
def test_undo_ends_with(unit, verb, enabled, apply, last):
    commands = cc.undo_commands(unit if unit is None else Unit(**RUNNING | unit), verb, enabled, apply)
    assert (commands[-1] if commands else None) == last


@pytest.mark.parametrize(
    ("was", "wanted", "undone"), [(False, True, "disable"), (True, False, "enable"), (True, True, None), (False, None, None)]
)
def test_undo_gives_enablement_back(was, wanted, undone):
    commands = cc.undo_commands(Unit(**RUNNING | {"enabled": was}), "restart", wanted, None)
    assert [command[1] for command in commands if command[1] in ("enable", "disable")] == ([undone] if undone else [])


@pytest.mark.parametrize(
    ("verb", "content", "unit", "due"),
    [
        ("restart", b"same", {}, ([], [])),
        ("restart", b"new", {}, ([0], ["restart"])),
        ("reload", b"new", {"started_at": 1.0}, ([0], ["reload"])),
        ("restart", b"same", {"started_at": 1.0}, ([], ["restart"])),
        ("reload", b"same", {"started_at": 1.0}, ([], ["reload"])),
        ("reload", b"same", {"started_at": 1.0, "reloaded_at": inf}, ([], [])),
        ("restart", b"same", {"active": False}, ([], ["start"])),
        ("restart", b"same", {"enabled": False}, ([], ["enable"])),
        ("restart", None, {}, ([0], ["restart"])),
    ],
)
def test_due(tmp_path, verb, content, unit, due):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "a").chmod(0o640)
    wanted = change(tmp_path, content, unit="x", verb=verb)
    assert cc.due(wanted, [cc.look(tmp_path / "a")], Unit(**RUNNING | {"started_at": 1e18} | unit)) == due


@pytest.mark.parametrize(
    ("validate", "predicting", "message"),
    [
        ("true %s", False, None),
        ("grep -q new %s", False, None),
        ("no-such-checker %s", True, None),
        ("no-such-checker %s", False, "no-such-checker, which checks /etc/x, is not on this host"),
        (
            "sh -c 'echo %s: line 1: bad >&2; false'",
            False,
            r"^/etc/x: line 1: bad\nThe new /etc/x is not written; allowed is .*\nCorrect it in group_vars/all/x.yml.$",
        ),
    ],
)
def test_check(validate, predicting, message):
    file = cc.File(**WANTED | {"validate": validate})
    if message is None:
        cc.check(file, EDIT, predicting)
    else:
        with pytest.raises(cc.Refused, match=message):
            cc.check(file, EDIT, predicting)


def test_put_writes_a_bind_mount_in_place(tmp_path, monkeypatch):
    path = tmp_path / "resolv.conf"
    path.write_text("a much longer old text")
    inode = path.stat().st_ino
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EBUSY, "busy")))
    restore.put(path, b"new", 0o600, path.stat().st_uid, path.stat().st_gid)
    assert (path.read_text(), path.stat().st_ino, path.stat().st_mode & 0o777) == ("new", inode, 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_commit_then_confirm(tmp_path, home):
    (tmp_path / "a").write_text("old")
    answer = cc.commit(change(tmp_path, b"new"), "run1", check_mode=False)
    assert (answer["changed"], answer["unconfirmed"], (tmp_path / "a").read_text()) == (True, True, "new")
    assert restore.boot_link("x").exists()
    assert (home.path / "restore.py").read_text().startswith('"""Put back what')
    assert cc.confirm(home.path, "run1") == "confirmed"
    assert not home.path.exists() and not restore.boot_link("x").is_symlink() and not restore.boot_unit("x").exists()
    assert cc.commit(change(tmp_path, b"new"), "run2", check_mode=False)["changed"] is False


def test_check_mode_touches_nothing(tmp_path, home):
    (tmp_path / "a").write_text("old")
    assert cc.commit(change(tmp_path, b"new", None), "run1", check_mode=True)["changed"]
    assert ((tmp_path / "a").read_text(), home.path.exists(), home.calls) == ("old", False, [])


def test_restore_brings_everything_back(tmp_path, home):
    (tmp_path / "a").symlink_to("/run/target")
    assert cc.commit(change(tmp_path, b"new", b"made"), "run1", check_mode=False)["changed"]
    assert restore.restore(home.path)
    assert ((tmp_path / "a").readlink(), (tmp_path / "b").exists()) == (Path("/run/target"), False)
    assert cc.confirm(home.path, "run1") == "restored"
    assert not restore.boot_link("x").is_symlink()
    assert not restore.restore(home.path)


def test_restore_goes_on_after_it_was_killed(tmp_path, home):
    (tmp_path / "a").write_text("old")
    cc.commit(change(tmp_path, b"new"), "run1", check_mode=False)
    (home.path / "pending").rename(home.path / "restoring")
    assert cc.confirm(home.path, "run1") == "applying"
    assert restore.restore(home.path)
    assert ((tmp_path / "a").read_text(), cc.confirm(home.path, "run1")) == ("old", "restored")


def test_the_next_run_takes_back_what_a_killed_one_left(tmp_path, home):
    (tmp_path / "a").write_text("old")
    cc.commit(change(tmp_path, b"half"), "run1", check_mode=False)
    assert cc.commit(change(tmp_path, b"half"), "run2", check_mode=True)["changed"]
    assert cc.commit(change(tmp_path, b"new"), "run2", check_mode=False)["changed"]
    assert (cc.confirm(home.path, "run1"), json.loads((home.path / "pending" / "saved.json").read_text())["run"]) == ("unknown", "run2")
    assert (home.path / "pending" / "0").read_text() == "old"


def test_a_change_that_fails_is_taken_back_at_once(tmp_path, home, monkeypatch):
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(cc, "run_command", lambda command, timeout: (_ for _ in ()).throw(cc.Refused(f"{command} failed: no")))
    with pytest.raises(cc.Refused, match=rf"load failed: no\nThe host has put back the old state. Allowed is .* correct {EDIT}."):
        cc.commit(change(tmp_path, b"new", apply="load"), "run1", check_mode=False)
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(("probe", "verbs"), [(None, []), ("true", []), ("false", ["reload"])])
def test_a_unit_is_due_when_its_probe_fails(tmp_path, monkeypatch, probe, verbs):
    monkeypatch.setattr(cc, "read_units", lambda names: [Unit(**RUNNING)])
    assert cc.commit(change(tmp_path, unit="x", verb="reload", probe=probe), "run1", check_mode=True)["actions"] == verbs


def test_nothing_is_confirmed_before_it_is_complete(tmp_path, home):
    cc.commit(change(tmp_path, b"new"), "run1", check_mode=False)
    (home.path / "pending" / "applied").unlink()
    assert cc.confirm(home.path, "run1") == "applying"


class Host:
    """An action and its connection, whose host gives the ``answers`` in turn; an exception among them is raised, the last one stays."""

    def __init__(self, *answers):
        self.answers, self.resets, self._connection = list(answers), 0, self
        self._task = SimpleNamespace(_role=SimpleNamespace(get_name=lambda: "sshd"), check_mode=False)

    def reset(self):
        self.resets += 1

    def _execute_module(self, module_name, module_args, task_vars):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


DONE = {"changed": True, "unconfirmed": True, "files": ["/etc/x"]}
ARGUMENTS = {"name": "x", "files": [{"dest": "/etc/x"}]}
VARIABLES = {"inventory_hostname": "h"}
BROKEN = AnsibleConnectionFailure("Connection closed by remote host")
REFUSED = AnsibleConnectionFailure("ssh: connect to host x port 22: Connection refused")


@pytest.fixture
def clock(monkeypatch):
    """Seventeen seconds pass with every look at the clock."""
    times = iter(range(0, 1000, 17))
    monkeypatch.setattr(action, "time", SimpleNamespace(monotonic=lambda: next(times), sleep=lambda _: None))


@pytest.mark.parametrize(
    ("answers", "result", "resets"),
    [
        ([{"changed": False}], {"changed": False}, 0),
        ([{"failed": True, "msg": "no"}], {"failed": True, "msg": "no"}, 0),
        ([DONE, {"answer": "confirmed"}], {"changed": True, "files": ["/etc/x"]}, 1),
        (
            [DONE, REFUSED, {"failed": True, "msg": "sudo"}, {"answer": "applying"}, {"answer": "confirmed"}],
            {"changed": True, "files": ["/etc/x"]},
            4,
        ),
        ([BROKEN, {"answer": "confirmed"}], {"changed": True, "files": ["/etc/x"], "actions": []}, 1),
    ],
)
def test_action(clock, answers, result, resets):
    host = Host(*answers)
    assert action.commit(host, ARGUMENTS, VARIABLES) == result
    assert host.resets == resets


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([DONE, REFUSED, {"answer": "restored"}], "locked Ansible out of h: no new connection within 60 s.\nh has restored the old state"),
        ([BROKEN, {"answer": "restored"}], "has restored the old state by itself"),
        ([DONE, {"answer": "unknown"}], "another run has replaced this change"),
        ([DONE, REFUSED], "h does not answer although it should have restored the old state by now: look at its console"),
    ],
)
def test_action_says_who_was_locked_out_and_where_to_correct_it(clock, answers, message):
    result = action.commit(Host(*answers), ARGUMENTS, VARIABLES)
    assert (result["failed"], result["changed"]) == (True, False)
    assert message in result["msg"] and "(/etc/x)" in result["msg"]
    assert result["msg"].endswith("Correct inventories/production/group_vars/*/sshd.yml and run again.")


@pytest.mark.parametrize("answers", [[REFUSED], [BROKEN, REFUSED], [BROKEN, {"answer": "unknown"}]])
def test_action_leaves_a_dead_host_unreachable(clock, answers):
    with pytest.raises(AnsibleConnectionFailure, match=str(answers[0])):
        action.commit(Host(*answers), ARGUMENTS, VARIABLES)
