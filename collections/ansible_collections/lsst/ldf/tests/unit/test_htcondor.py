"""HTCondor's settings: what is read, found wrong, needs a restart, and taken back; with commands that answer like HTCondor 23.9.6."""

from __future__ import annotations

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import htcondor
from ansible_collections.lsst.ldf.plugins.modules import htcondor_config, htcondor_info

INFO = """
UPDATE_INTERVAL = -5x
 # description: Rate at which the Startd sends updates to the Collector
 # at: /tmp/cd/x.conf, line 3
 # raw: UPDATE_INTERVAL = -5x
 # expected values : INT
 # used by: startd


 # description: Names of attibutes from config file to insert into STARTD ads
 # at: <Default>
 # raw: STARTD_ATTRS =\x20
 # used by: startd

SHARED = $
 # at: <Default>
 # raw: SHARED = $(X)
 # expected values : INT from 1 to 2147483647
 # restart required : true | loaded when job starts.
 # used by: startd,Reqexp
"""
SUMMARY = """# condor_config_val $CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $
#
# from /etc/condor/config.d/x.conf
#
NUM_CPUS = 4
X @=end
   a = 1
   b = 2
@end
EMPTY =\x20
SCHEDD.FOO = 3
"""


@pytest.fixture
def keep(pool):
    """Runs htcondor_config over the pool's file."""
    return lambda **params: pool.run(htcondor_config, dest=str(pool.dest), settle=0, **params)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A = 1\n# B = 2\n b.c=3", ["A", "B.C"]),
        ("use ROLE:Submit\nif defined X\nA = \\\n B = 2\nendif", ["A"]),
        ("A @=end\n B = 2\n@end\nC = 3", ["A", "C"]),
        ("", []),
    ],
)
def test_defined(text, names):
    assert htcondor.defined(text) == names


def test_what_the_commands_say_is_read():
    assert htcondor.parse_summary(SUMMARY) == {"NUM_CPUS": "4", "X": "a = 1\nb = 2\n", "EMPTY": "", "SCHEDD.FOO": "3"}
    info = htcondor.parse_info(INFO)
    assert info["UPDATE_INTERVAL"] == htcondor.Knob("-5x", "INT", False, ("startd",))
    assert info["STARTD_ATTRS"].value == "" and info["SHARED"].restart and info["SHARED"].used_by == ("startd", "reqexp")
    assert [htcondor.plain(each) for each in ("/Expr(A + 1)/", "text", 3)] == ["A + 1", "text", 3]


def test_written():
    assert (
        htcondor.written(["ROLE:Submit"], {"A": True, "B": 3, "C": "x\ny", "D": ""})
        == "use ROLE:Submit\nA = true\nB = 3\nC @=end\nx\ny\n@end\nD =\n"
    )


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("NUM_CPU", {}, ["NUM_CPU (NUM_CPUS?)"]),
        ("NUM_CPUS", {}, []),
        ("STARTD.NUM_CPUS", {}, []),
        ("ALLOW_ADVERTISE_MASTER", {}, []),
        ("GROUP_QUOTA_DYNAMIC_GROUP_A.B", {}, []),
        ("ZONE", {"STARTD_ATTRS": "$(STARTD_ATTRS) zone"}, []),
        ("MINE", {"START": "$(mine:3)"}, []),
        ("QQQQ", {}, ["QQQQ"]),
        ("RANKS", {}, []),
        ("SUFFIX.RANKS", {}, []),
        ("RANK", {}, ["RANK"]),
        ("OURS", {}, []),
        ("DETECTED", {}, []),
    ],
)
def test_strangers(name, settings, told, tmp_path, monkeypatch):
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "condor_startd").write_bytes(b"\0\1Rank\0RANKS\0")
    monkeypatch.setattr(htcondor, "USR", tmp_path)
    assert htcondor.strangers([name], "NUM_CPUS = $(DETECTED:1)\n", settings, ["ours"]) == told


@pytest.mark.parametrize(
    ("name", "knob", "daemons"),
    [
        ("NUM_CPUS", {}, ("startd",)),
        ("SLOT_TYPE_1_PARTITIONABLE", {}, ("startd",)),
        ("START", {}, ()),
        ("GROUP_NAMES", {}, ("negotiator",)),
        ("X", {"restart": True, "used_by": ("schedd", "shadow")}, ("schedd",)),
        ("X", {"restart": True, "used_by": ("",)}, ("master",)),
    ],
)
def test_restarts(name, knob, daemons):
    assert htcondor.restarts(name, htcondor.Knob("", **knob)) == daemons


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"NUM_CPU": 4}, "sets NUM_CPU (NUM_CPUS?), which nothing reads"),
        ({"UPDATE_INTERVAL": "-5x"}, "has UPDATE_INTERVAL = -5x, which is no expression"),
        ({"NUM_CPUS": "eight"}, "has NUM_CPUS = eight, which is not a whole number"),
        ({"START": "(Memory >"}, "has START = (Memory >, which is no expression"),
        ({"START": "broken"}, "Configuration Error Line 1 while reading config source {dest}"),
    ],
)
def test_what_is_wrong_never_goes_live(pool, keep, settings, told):
    pool.dest.write_text("NUM_CPUS = 1\n")
    for check in (True, False):
        done = keep(settings=settings, check=check)
        assert done["failed"] and told.format(dest=pool.dest) in done["msg"] and "Allowed: " in done["msg"]
        assert pool.dest.read_text() == "NUM_CPUS = 1\n" and list(pool.dest.parent.iterdir()) == [pool.dest]


def test_a_file_comes_once_and_goes(pool, keep):
    check = keep(settings={"UPDATE_INTERVAL": 60}, check=True)
    assert check["changed"] and not pool.dest.exists()
    done = keep(settings={"UPDATE_INTERVAL": 60})
    assert done["changed"] and done["effective"] == [{"name": "UPDATE_INTERVAL", "before": "", "after": "60"}]
    assert done["needs"] == {"reconfig": True, "restart": []} and done["pending"] == []
    assert pool.dest.stat().st_mode & 0o777 == 0o644
    assert not keep(settings={"UPDATE_INTERVAL": 60})["changed"]
    assert keep(state="absent")["changed"] and not pool.dest.exists()
    assert not keep(state="absent")["changed"]


def test_a_restart_stays_due_until_it_is_done(pool, keep):
    assert keep(settings={"NUM_CPUS": 4}, check=True)["pending"] == ["startd"]
    assert keep(settings={"NUM_CPUS": 4})["pending"] == ["startd"]
    assert keep(settings={"NUM_CPUS": 4})["pending"] == ["startd"]
    pool.process(11, "condor_startd", 10, started=10**13)
    assert keep(settings={"NUM_CPUS": 4})["pending"] == []


def test_what_a_daemon_dies_of_is_taken_back(pool, keep):
    pool.dest.write_text("START = True\n")
    pool.command("condor_reconfig", f"#!/bin/sh\nif grep -q False {pool.dest}; then rm -rf {pool.top}/proc/11; fi\n")
    done = keep(settings={"START": "False"})
    assert done["failed"] and done["msg"].startswith(f"startd ended when it read {pool.dest}.")
    assert pool.dest.read_text() == "START = True\n"


def test_a_name_may_be_allowed_or_warned_of(keep):
    assert keep(settings={"MINE": 1}, unknown="warn")["unknown"] == ["MINE"]
    assert keep(settings={"MINE": 2}, allow_names=["mine"])["changed"]


def test_a_host_without_htcondor(pool, keep, monkeypatch):
    monkeypatch.setattr(htcondor, "installed", lambda: False)
    assert keep(settings={"A": 1}, check=True)["changed"]
    assert keep(settings={"A": 1})["msg"].startswith(f"{pool.dest}: there is no condor_config_val.")


@pytest.mark.parametrize(
    ("answer", "params", "found"),
    [
        ("", {}, []),
        ('[{"Name": "slot1", "Start": "\\/Expr(A > 1)\\/", "Cpus": 4}]', {}, [{"Name": "slot1", "Start": "A > 1", "Cpus": 4}]),
        ("", {"wait_for": {"at_most": 0}}, []),
    ],
)
def test_info(pool, answer, params, found):
    pool.command("condor_status", f"#!/bin/sh\nprintf '%s' '{answer}'\n")
    assert pool.run(htcondor_info, query="slots", **params)["ads"] == found


def test_info_waits(pool):
    pool.command("condor_status", "#!/bin/sh\n")
    done = pool.run(htcondor_info, query="slots", wait_for={"at_least": 2}, timeout=0)
    assert done["msg"].startswith("condor_status found 0 after 0 s.\nAllowed: 2 or more.")
    assert not pool.run(htcondor_info, query="slots", wait_for={"at_least": 2}, check=True)["ads"]
