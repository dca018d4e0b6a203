"""HTCondor's settings: what is read, found wrong, needs a restart, and taken back; with commands that answer like HTCondor 23.9.6."""

from __future__ import annotations

import json
import os

import pytest
from ansible.module_utils.testing import patch_module_args
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
# Answers like condor_config_val: by the files that CONDOR_CONFIG names. What it cannot read says "broken".
CONFIG_VAL = """#!/bin/sh
config=${CONDOR_CONFIG:-none}
directory=$(sed -n 's/^LOCAL_CONFIG_DIR = //p' "$config" | tail -n 1)
case "$1" in
LOCAL_CONFIG_DIR) echo "$directory" ;;
DAEMON_LIST) echo MASTER STARTD ;;
LOG) echo /var/log/condor ;;
-dump) printf 'NUM_CPUS = 1\\nUPDATE_INTERVAL = 300\\nSTART = True\\nSTARTD_ATTRS = \\n' ;;
-summary)
    if grep -qs broken "$directory"/*; then echo "Configuration Error Line 1 while reading config source $directory/x.conf" >&2; exit 1; fi
    cat "$directory"/* 2>/dev/null; true ;;
-info)
    shift
    for name; do
        line=$(cat "$directory"/* 2>/dev/null | grep "^$name = ") || continue
        case $name in NUM_CPUS | UPDATE_INTERVAL) expected=INT ;; *) expected= ;; esac
        printf '%s\\n # raw: %s\\n # expected values : %s\\n # used by: startd\\n\\n' "$line" "$line" "$expected"
    done ;;
esac
"""
CLASSAD_EVAL = """#!/bin/sh
case "$1" in *"(" | *">" | -5x) echo "Unable to turn '$1' into a ClassAd or an expression." >&2; exit 1 ;; esac
echo '[  ]'
case "$1" in [0-9]*) echo "$1" ;; *) echo undefined ;; esac
"""


@pytest.fixture
def pool(tmp_path, monkeypatch, capsys):
    """A host with HTCondor: commands, files, and processes below a /proc of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "config.d").mkdir()
    (tmp_path / "condor_config").write_text(f"LOCAL_CONFIG_DIR = {tmp_path}/config.d\n")
    monkeypatch.setenv("CONDOR_CONFIG", str(tmp_path / "condor_config"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(htcondor, "PROC", tmp_path / "proc")
    monkeypatch.setattr(htcondor, "RESTARTS", tmp_path / "state" / "restarts.json")

    class Pool:
        top, dest = tmp_path, tmp_path / "config.d" / "x.conf"

        def command(self, name, text):
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)

        def process(self, pid, name, parent, started=0):
            (tmp_path / "proc" / str(pid)).mkdir(parents=True, exist_ok=True)
            rest = ["S", str(parent), *["0"] * 17, str(started)]
            (tmp_path / "proc" / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(rest)}\n")

        def run(self, module=htcondor_config, check=False, **params):
            params |= {"dest": str(self.dest), "settle": 0} if module is htcondor_config else {}
            with patch_module_args(params | {"_ansible_check_mode": check}), pytest.raises(SystemExit):
                module.main()
            return json.loads(capsys.readouterr().out)

    made = Pool()
    made.command("condor_config_val", CONFIG_VAL)
    made.command("classad_eval", CLASSAD_EVAL)
    made.command("condor_reconfig", "#!/bin/sh\nexit 0\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text("cpu 1 2\nbtime 1000\n")
    made.process(10, "condor_master", 1)
    made.process(11, "condor_startd", 10)
    return made


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
        ("OURS", {}, []),
    ],
)
def test_strangers(name, settings, told):
    assert htcondor.strangers([name], {"NUM_CPUS"}, settings, ["ours"]) == told


@pytest.mark.parametrize(
    ("name", "knob", "daemons"),
    [
        ("NUM_CPUS", {}, ("startd",)),
        ("SLOT_TYPE_1_PARTITIONABLE", {}, ("startd",)),
        ("START", {}, ()),
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
def test_what_is_wrong_never_goes_live(pool, settings, told):
    pool.dest.write_text("NUM_CPUS = 1\n")
    for check in (True, False):
        done = pool.run(settings=settings, check=check)
        assert done["failed"] and told.format(dest=pool.dest) in done["msg"] and "Allowed: " in done["msg"]
        assert pool.dest.read_text() == "NUM_CPUS = 1\n" and list(pool.dest.parent.iterdir()) == [pool.dest]


def test_a_file_comes_once_and_goes(pool):
    check = pool.run(settings={"UPDATE_INTERVAL": 60}, check=True)
    assert check["changed"] and not pool.dest.exists()
    done = pool.run(settings={"UPDATE_INTERVAL": 60})
    assert done["changed"] and done["effective"] == [{"name": "UPDATE_INTERVAL", "before": "", "after": "60"}]
    assert done["needs"] == {"reconfig": True, "restart": []} and done["pending"] == []
    assert pool.dest.stat().st_mode & 0o777 == 0o644
    assert not pool.run(settings={"UPDATE_INTERVAL": 60})["changed"]
    assert pool.run(state="absent")["changed"] and not pool.dest.exists()
    assert not pool.run(state="absent")["changed"]


def test_a_restart_stays_due_until_it_is_done(pool):
    assert pool.run(settings={"NUM_CPUS": 4}, check=True)["pending"] == ["startd"]
    assert pool.run(settings={"NUM_CPUS": 4})["pending"] == ["startd"]
    assert pool.run(settings={"NUM_CPUS": 4})["pending"] == ["startd"]
    pool.process(11, "condor_startd", 10, started=10**13)
    assert pool.run(settings={"NUM_CPUS": 4})["pending"] == []


def test_what_a_daemon_dies_of_is_taken_back(pool):
    pool.dest.write_text("START = True\n")
    pool.command("condor_reconfig", f"#!/bin/sh\nif grep -q False {pool.dest}; then rm -rf {pool.top}/proc/11; fi\n")
    done = pool.run(settings={"START": "False"})
    assert done["failed"] and done["msg"].startswith(f"startd ended when it read {pool.dest}.")
    assert pool.dest.read_text() == "START = True\n"


def test_a_name_may_be_allowed_or_warned_of(pool):
    assert pool.run(settings={"MINE": 1}, unknown="warn")["unknown"] == ["MINE"]
    assert pool.run(settings={"MINE": 2}, allow_names=["mine"])["changed"]


def test_a_host_without_htcondor(pool, monkeypatch):
    monkeypatch.setattr(htcondor, "installed", lambda: False)
    assert pool.run(settings={"A": 1}, check=True)["changed"]
    assert pool.run(settings={"A": 1})["msg"].startswith(f"{pool.dest}: there is no condor_config_val.")


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
