"""Tokens, keys, nodes, permissions and jobs of HTCondor, with commands that answer like HTCondor 23.9.6."""

from __future__ import annotations

import base64
import json
import os
import pwd

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import htcondor, htcondor_token
from ansible_collections.lsst.ldf.plugins.module_utils import htcondor_node as nodes
from ansible_collections.lsst.ldf.plugins.modules import (
    htcondor_authz_info,
    htcondor_job,
    htcondor_node,
    htcondor_signing_key,
)
from ansible_collections.lsst.ldf.plugins.modules import (
    htcondor_token as token_module,
)

DAY = 86400
WANTED = {"identity": "ex@pool", "authz": frozenset(["READ", "ADVERTISE_STARTD"]), "key": "POOL", "lifetime": DAY, "renew_before": 60}
# As condor_token_create makes it; the slash is escaped.
SAYS = '{"exp":%d,"iat":%d,"iss":"main.pool","jti":"955f","scope":"condor:\\/ADVERTISE_STARTD condor:\\/READ","sub":"ex@pool"}'
SLOT = {"SlotType": "Partitionable", "State": "Unclaimed", "Activity": "Idle", "MaxJobRetirementTime": 3600, "DaemonStartTime": 5}
PIECE = {"SlotType": "Dynamic", "State": "Claimed", "Activity": "Busy"}
PING = """         Instruction Authentication Encryption Integrity Decision Identity
                READ           none       none      none    ALLOW unauthenticated@unmapped
               WRITE           FAIL       FAIL      FAIL     FAIL FAIL  (use -verbose for more info)
    ADVERTISE_STARTD       IDTOKENS        AES       AES    ALLOW ex@main.pool.test
"""


def made(issued: int = 0, key: str = "POOL", lifetime: int = DAY) -> str:
    """A token."""
    parts = (f'{{"alg":"HS256","kid":"{key}"}}', SAYS % (issued + lifetime, issued))
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + ".signature"


@pytest.mark.parametrize(
    ("text", "wanted", "now", "why"),
    [
        (made(), {}, 0, ""),
        ("", {}, 0, "there is none"),
        ("nonsense.at.all", {}, 0, "there is none"),
        (made(), {}, DAY - 60, "it ends in 60 s"),
        (made(), {}, 2 * DAY, "it ends in 0 s"),
        (made(), {"identity": "ap@pool"}, 0, "its identity is ex@pool, not ap@pool"),
        (made(), {"authz": frozenset(["READ"])}, 0, "its authz is ADVERTISE_STARTD READ, not READ"),
        (made(), {"key": "K2"}, 0, "its key is POOL, not K2"),
        (made(), {"issuer": "main.pool"}, 0, ""),
        (made(), {"issuer": "other"}, 0, "its issuer is main.pool, not other"),
        (made(), {"lifetime": None}, 0, "it was made for 1 days, not ever"),
    ],
)
def test_when_a_token_is_due(text, wanted, now, why):
    assert htcondor_token.due(htcondor_token.read(text), htcondor_token.Wanted(**WANTED | wanted), now) == why


def test_a_key_is_scrambled():
    """The first bytes of a key of four zeros are those that HTCondor scrambles with."""
    assert htcondor_token.scrambled(bytes(5)).hex() == "deadbeefde"
    key = htcondor_token.new_key()
    assert len(key) == 64 and 0 not in key + htcondor_token.scrambled(key)
    assert htcondor_token.scrambled(htcondor_token.scrambled(key)) == key


def test_keys_come_and_go(pool):
    directory = pool.top / "passwords.d"
    options = {"module": htcondor_signing_key, "directory": str(directory)}
    assert pool.run(name="K1", check=True, **options)["keys"] == ["K1"] and not directory.exists()
    assert pool.run(name="K1", **options)["changed"] and not pool.run(name="K1", **options)["changed"]
    assert (directory / "K1").stat().st_mode & 0o777 == 0o600 and directory.stat().st_mode & 0o777 == 0o700
    assert pool.run(name="K2", key="secret", **options)["keys"] == ["K1", "K2"]
    assert htcondor_token.scrambled((directory / "K2").read_bytes()) == b"secret"
    assert pool.run(name="K1", state="absent", **options)["keys"] == ["K2"]
    assert "Allowed: letters" in pool.run(name="../K1", **options)["msg"]


@pytest.fixture
def token(pool, monkeypatch):
    """Runs htcondor_token; the command that signs prints what stands in a file."""
    monkeypatch.setattr(token_module.time, "time", lambda: 100.0)
    (pool.top / "K1").write_text("key")
    pool.command("condor_config_val", f"#!/bin/sh\necho {pool.top}\n")
    pool.command("condor_token_create", f'#!/bin/sh\necho "$*" >{pool.top}/asked\ncat {pool.top}/new\n')
    dest = pool.top / "tokens.d" / "pool"
    options = {"identity": "ex@pool", "authz": ["READ", "ADVERTISE_STARTD"], "lifetime": DAY, "key": "K1", "dest": str(dest)}
    return lambda **params: pool.run(token_module, **options | params)


def test_a_token_is_made_once_and_never_shown(pool, token):
    (pool.top / "new").write_text(made(issued=100, key="K1"))
    assert token(check=True)["changed"] and token(create=False)["reason"] == "there is none"
    done = token()
    assert done["changed"] and done["claims"]["expires_in"] == DAY
    assert (pool.top / "asked").read_text() == f"-identity ex@pool -key K1 -authz ADVERTISE_STARTD -authz READ -lifetime {DAY}\n"
    assert not token()["changed"] and (pool.top / "tokens.d" / "pool").stat().st_mode & 0o777 == 0o600
    assert made(issued=100, key="K1") not in json.dumps(done)
    assert token(dest=None, return_token=True)["token"] == made(issued=100, key="K1")
    assert token(state="absent")["changed"] and not token(state="absent")["changed"]


def test_tokens_that_are_not_wanted_go(pool, token):
    for name in ("flock-a", "flock-b", "pool"):
        (pool.top / "tokens.d").mkdir(exist_ok=True)
        (pool.top / "tokens.d" / name).write_text(made())
    old = {"state": "absent", "identity": None, "dest": str(pool.top / "tokens.d" / "flock-*"), "keep": ["flock-b"]}
    assert token(check=True, **old)["changed"] and token(**old)["changed"] and not token(**old)["changed"]
    assert sorted(path.name for path in (pool.top / "tokens.d").iterdir()) == ["flock-b", "pool"]


def test_another_hosts_token_is_looked_at(token):
    assert "its key is POOL, not K1" in token(token=made(issued=100))["msg"]
    assert token(token=made(issued=100, key="K1"))["changed"]


def test_a_manager_that_has_its_key_before_its_name_is_waited_for(pool, token):
    """Nothing is signed in the name that the package brings."""
    (pool.top / "new").write_text(made(issued=100, key="K1"))
    name = "if [ -e once ]; then touch named; echo main.pool; else touch once; echo localhost; fi"
    pool.command("condor_config_val", f"#!/bin/sh\ncd {pool.top}; case $1 in TRUST_DOMAIN) {name} ;; *) pwd ;; esac\n")
    pool.command("condor_token_create", f"#!/bin/sh\n[ -e {pool.top}/named ] && cat {pool.top}/new\n")
    assert token(issuer="main.pool", timeout=5)["changed"]


def test_no_key_is_told(token):
    assert token(key="K9")["msg"].startswith("There is no key K9 to sign the token of ex@pool with.\nAllowed: ")


@pytest.mark.parametrize(
    ("slots", "state", "running"),
    [
        ([], "off", 0),
        ([SLOT], "active", 0),
        ([SLOT, PIECE, PIECE], "active", 2),
        ([SLOT | {"Draining": True, "State": "Drained", "Activity": "Retiring"}, PIECE], "draining", 1),
        ([SLOT | {"Draining": True, "State": "Drained"}, PIECE], "draining", 1),
        ([SLOT | {"Draining": True, "State": "Drained", "DrainReason": "disks"}], "drained", 0),
        ([SLOT | {"SlotType": "Static", "State": "Claimed", "Activity": "Busy"}], "active", 1),
    ],
)
def test_a_nodes_state(slots, state, running):
    node = nodes.of("node", slots)
    assert (node.state, node.running) == (state, running)
    assert node.reason == ("disks" if state == "drained" else "")


@pytest.mark.parametrize(
    ("state", "wanted", "action"),
    [
        ("active", "drained", "drain"),
        ("draining", "drained", "wait"),
        ("drained", "drained", ""),
        ("off", "drained", ""),
        ("active", "active", ""),
        ("drained", "active", "cancel"),
        ("draining", "active", "cancel"),
        ("off", "active", "on"),
        ("active", "off", "off"),
        ("off", "off", ""),
    ],
)
def test_what_is_due_for_a_node(state, wanted, action):
    assert nodes.action(nodes.Node("node", state, reason="disks"), wanted, "disks", False) == action


def test_somebody_elses_drain_stays():
    node = nodes.Node("node", "drained", reason="disks")
    with pytest.raises(htcondor.CondorError, match="is drained for 'disks'"):
        nodes.action(node, "active", "Ansible", False)
    assert nodes.action(node, "active", "Ansible", True) == "cancel"


@pytest.mark.parametrize(
    ("running", "retirement", "how", "refused"), [(0, 0, "fast", 0), (1, 60, "graceful", 0), (1, 0, "graceful", 1), (1, 60, "fast", 1)]
)
def test_jobs_are_not_ended_unasked(running, retirement, how, refused):
    node = nodes.Node("node", "active", running=running, retirement=retirement)
    nodes.refuse_evictions(node, how, True)
    if refused:
        with pytest.raises(htcondor.CondorError, match="would end them at once"):
            nodes.refuse_evictions(node, how, False)
    else:
        nodes.refuse_evictions(node, how, False)


def test_a_node_is_drained_once_and_comes_back(pool):
    """A startd that remembers what it was told."""
    drained = json.dumps([SLOT | {"Draining": True, "State": "Drained", "DrainReason": "Ansible"}])
    (pool.top / "active").write_text(json.dumps([SLOT]))
    (pool.top / "drained").write_text(drained)
    pool.command("condor_config_val", "#!/bin/sh\necho node\n")
    pool.command("condor_status", f"#!/bin/sh\nif [ -e {pool.top}/is ]; then cat {pool.top}/drained; else cat {pool.top}/active; fi\n")
    pool.command("condor_drain", f"#!/bin/sh\ncase $1 in -cancel) rm {pool.top}/is ;; *) touch {pool.top}/is ;; esac\n")
    assert pool.run(htcondor_node, state="drained", check=True)["changed"]
    assert pool.run(htcondor_node, state="drained")["was"] == "active"
    assert not pool.run(htcondor_node, state="drained")["changed"]
    assert "is drained for 'Ansible'" in pool.run(htcondor_node, state="active", reason="another")["msg"]
    assert pool.run(htcondor_node, state="active")["changed"] and not pool.run(htcondor_node, state="active")["changed"]


def test_a_drain_that_takes_too_long_is_taken_back(pool):
    (pool.top / "slots").write_text(json.dumps([SLOT, PIECE]))
    pool.command("condor_config_val", "#!/bin/sh\necho node\n")
    pool.command("condor_status", f"#!/bin/sh\ncat {pool.top}/slots\n")
    pool.command("condor_drain", f"#!/bin/sh\necho $1 >>{pool.top}/told\n")
    done = pool.run(htcondor_node, state="drained", timeout=0.1, on_timeout="cancel")
    assert done["msg"].startswith("node is active with 1 jobs after 0.1 s, not drained.")
    assert (pool.top / "told").read_text() == "-graceful\n-cancel\n"


def test_a_host_without_a_startd_is_drained_without_asking_its_pool(pool):
    pool.command("condor_config_val", "#!/bin/sh\necho node\n")
    pool.command("condor_status", "#!/bin/sh\nexit 1\n")
    assert "condor_status" in pool.run(htcondor_node, state="drained")["msg"]
    (pool.top / "proc" / "11" / "stat").unlink()
    done = pool.run(htcondor_node, state="drained")
    assert (done["changed"], done["was"], done["running"]) == (False, "off", 0)
    assert "condor_status" in pool.run(htcondor_node, state="drained", name="another")["msg"]


@pytest.mark.parametrize(("name", "direct", "was"), [("node", "cat", "active"), ("node", "false", "off"), ("other", "cat", "off")])
def test_a_node_that_the_collector_forgot_is_not_off(pool, name, direct, was):
    """The host's own startd says so, if it answers; of another host nobody knows."""
    (pool.top / "slots").write_text(json.dumps([SLOT, PIECE]))
    pool.command("condor_config_val", "#!/bin/sh\necho node\n")
    pool.command("condor_status", f"#!/bin/sh\n[ $1 != -direct ] || {direct} {pool.top}/slots\n")
    assert pool.run(htcondor_node, name=name, state="drained", check=True)["was"] == was


def test_nothing_to_restart_asks_nobody(pool):
    pool.command("condor_config_val", "#!/bin/sh\necho node\n")
    assert not pool.run(htcondor_node, state="current")["changed"]


@pytest.mark.parametrize(
    ("expect", "told"),
    [
        (["READ", "ADVERTISE_STARTD"], ""),
        (["READ"], "By the collector, ADVERTISE_STARTD is allowed."),
        (["READ", "WRITE", "ADVERTISE_STARTD"], "By the collector, WRITE is refused."),
    ],
)
def test_permissions(pool, expect, told):
    pool.command("condor_ping", f"#!/bin/sh\ncat <<'END'\n{PING}END\nexit 1\n")
    done = pool.run(htcondor_authz_info, levels=["READ", "WRITE", "ADVERTISE_STARTD"], expect=expect)
    assert done["levels"]["ADVERTISE_STARTD"] == {"allowed": True, "method": "IDTOKENS", "identity": "ex@main.pool.test"}
    assert done.get("msg", "").startswith(told)
    assert "told all levels" in pool.run(htcondor_authz_info, levels=["DAEMON"])["msg"]


def test_jobs(pool):
    """What is submitted, and how each job ended."""
    user = pwd.getpwuid(os.getuid())
    ended = [{"ProcId": 0, "JobStatus": 4, "ExitCode": 0, "LastRemoteHost": "slot1_1@node"}]
    pool.command("runuser", '#!/bin/sh\nshift 3\nexec "$@"\n')
    pool.command("condor_submit", f"#!/bin/sh\ncat >{pool.top}/submitted\necho 7.0 - 7.0\n")
    pool.command("condor_q", "#!/bin/sh\n")
    pool.command("condor_history", f"#!/bin/sh\necho '{json.dumps(ended)}'\n")
    options = {"module": htcondor_job, "user": user.pw_name, "description": {"executable": "/bin/true", "transfer_executable": False}}
    assert pool.run(check=True, **options)["changed"] and not (pool.top / "submitted").exists()
    done = pool.run(**options)
    assert done["jobs"] == [{"proc": 0, "status": "completed", "exit_code": 0, "host": "node", "hold_reason": ""}] and done["cluster"] == 7
    text = (pool.top / "submitted").read_text()
    assert text == f"initialdir = {user.pw_dir}\nexecutable = /bin/true\ntransfer_executable = false\nqueue 1\n"
    held = [{"ProcId": 0, "JobStatus": 5, "HoldReason": "no such file"}]
    pool.command("condor_q", f"#!/bin/sh\necho '{json.dumps(held)}'\n")
    pool.command("condor_history", "#!/bin/sh\n")
    pool.command("condor_rm", f"#!/bin/sh\necho $* >{pool.top}/removed\n")
    done = pool.run(**options)
    assert done["msg"].startswith("7.0 is held. no such file\nAllowed: ") and (pool.top / "removed").read_text() == "7\n"
    assert pool.run(**options | {"user": "nobody-at-all"})["msg"].startswith("There is no user nobody-at-all.")
