"""A node of a Slurm cluster, with commands that answer like Slurm 24.11.5."""

from __future__ import annotations

import json
import os

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lsst.ldf.plugins.module_utils import slurm
from ansible_collections.lsst.ldf.plugins.modules import slurm_node

# Answers as a controller does that remembers what it was told: a node, and a job that ends when it was asked for so many times.
SCONTROL = """#!/bin/sh
top=$(dirname "$(dirname "$0")")
case "$*" in
"show node gone --json") echo '{"nodes": []}' ;;
"show node away --json") printf 'error: once\\nslurm_load_node error: Unable to contact slurm controller\\n' >&2; exit 1 ;;
"show node node --json")
    if [ -e "$top/drained" ]; then state='"IDLE","DRAIN"'; else state='"IDLE"'; fi
    printf '{"nodes": [{"name": "node", "state": [%s], "reason": "%s"}]}' "$state" "$(cat "$top/drained" 2>/dev/null)" ;;
"update NodeName=node State=DRAIN Reason="*) printf %s "${*#*Reason=}" >"$top/drained" ;;
"update NodeName=node State=RESUME") rm "$top/drained" ;;
*) echo "scontrol: invalid entity: $*" >&2; exit 1 ;;
esac
"""
SQUEUE = """#!/bin/sh
top=$(dirname "$(dirname "$0")")
cat "$top/jobs" 2>/dev/null
true
"""


def shown(*state: str, reason: str = "") -> str:
    """What scontrol shows of a node, but for what nobody reads."""
    return json.dumps({"nodes": [{"name": "node", "state": [*state], "reason": reason}]})


@pytest.mark.parametrize(
    ("words", "queued", "state"),
    [
        (("IDLE",), "", "active"),
        (("MIXED",), "7 alice\n", "active"),
        (("ALLOCATED", "COMPLETING"), "7 alice\n", "active"),
        (("MIXED", "DRAIN"), "7 alice\n", "draining"),
        (("IDLE", "DRAIN", "COMPLETING"), "7 alice\n", "draining"),
        (("IDLE", "DRAIN"), "", "drained"),
        (("DOWN", "DRAIN", "NOT_RESPONDING"), "", "drained"),
        (("DOWN", "NOT_RESPONDING"), "", "down"),
        (("IDLE", "NOT_RESPONDING"), "", "silent"),
        (("UNKNOWN",), "", "silent"),
    ],
)
def test_a_nodes_state(words, queued, state):
    node = slurm.of("node", shown(*words, reason="disks"), queued)
    assert (node.state, node.reason) == (state, "" if state == "active" else "disks")
    assert node.jobs == ((slurm.Job(7, "alice"),) if queued else ())


@pytest.mark.parametrize(
    ("state", "wanted", "action"),
    [
        ("active", "drained", "drain"),
        ("down", "drained", "drain"),
        ("silent", "drained", "drain"),
        ("draining", "drained", "wait"),
        ("drained", "drained", ""),
        ("active", "active", ""),
        ("draining", "active", "resume"),
        ("drained", "active", "resume"),
        ("down", "active", "resume"),
        ("silent", "active", "wait"),
    ],
)
def test_what_is_due_for_a_node(state, wanted, action):
    assert slurm.action(slurm.Node("node", state, "disks"), wanted, "disks", False) == action


@pytest.mark.parametrize("state", ["draining", "drained", "down"])
def test_somebody_elses_drain_stays(state):
    node = slurm.Node("node", state, "disks")
    with pytest.raises(slurm.SlurmError, match=f"node is {state} for 'disks'"):
        slurm.action(node, "active", "Ansible", False)
    assert slurm.action(node, "active", "Ansible", True) == "resume"
    assert slurm.action(node, "drained", "Ansible", False) in ("", "wait", "drain")


@pytest.mark.parametrize(
    ("told", "same"), [("disks", True), ("disks : Not responding", True), ("disks of bob", False), ("Not responding", False), ("", False)]
)
def test_what_slurm_adds_to_a_reason_changes_nothing(told, same):
    assert slurm.Node("node", "drained", told).is_for("disks") == same


@pytest.fixture
def cluster(tmp_path, monkeypatch, capsys):
    """Runs slurm_node over a node; ``jobs`` holds a line for each job that runs there, ``drained`` what for it is drained."""
    (tmp_path / "bin").mkdir()
    for name, text in (("scontrol", SCONTROL), ("squeue", SQUEUE)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    class Cluster:
        jobs, drained = tmp_path / "jobs", tmp_path / "drained"

        def run(self, check=False, **params):
            arguments = {"name": "node", "reason": "disks"} | params | {"_ansible_check_mode": check, "_ansible_diff": True}
            with patch_module_args(arguments), pytest.raises(SystemExit):
                slurm_node.main()
            return json.loads(capsys.readouterr().out)

    return Cluster()


def test_a_node_is_drained_once_and_comes_back(cluster):
    assert cluster.run(state="drained", check=True)["changed"] and not cluster.drained.exists()
    done = cluster.run(state="drained")
    assert (done["changed"], done["was"], done["state"], done["reason"], done["jobs"]) == (True, "active", "drained", "disks", [])
    assert done["diff"] == {"before": "active\n", "after": "drained\n"}
    assert not cluster.run(state="drained")["changed"] and not cluster.run(state="drained", reason="another")["changed"]
    assert "is drained for 'disks'" in cluster.run(state="active", reason="another")["msg"]
    assert cluster.run(state="active")["changed"] and not cluster.run(state="active")["changed"]


def test_jobs_are_shown_and_not_waited_for_unasked(cluster):
    cluster.jobs.write_text("7 alice\n8 bob\n")
    done = cluster.run(state="drained", timeout=0)
    assert done["state"] == "draining" and done["jobs"] == [{"id": 7, "user": "alice"}, {"id": 8, "user": "bob"}]


@pytest.mark.parametrize(
    ("drained", "on_timeout", "left"),
    [("", "keep", True), ("", "cancel", False), ("disks", "cancel", False), ("another", "cancel", True)],
)
def test_a_drain_that_takes_too_long_goes_on_or_is_taken_back(cluster, drained, on_timeout, left):
    """Somebody else's goes on in any case."""
    cluster.jobs.write_text("7 alice\n")
    if drained:
        cluster.drained.write_text(drained)
    done = cluster.run(state="drained", timeout=0.1, on_timeout=on_timeout)
    assert done["msg"].startswith("node is draining after 0.1 s, not drained; jobs run: 7 of alice.\nAllowed: a longer timeout.\n")
    assert cluster.drained.exists() == left


def test_a_controller_that_restarts_is_waited_for(cluster, monkeypatch):
    """It does not answer for a moment."""
    answers = [slurm.SlurmError("away"), slurm.Node("node", "draining"), slurm.Node("node", "drained")]

    def look(name):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(slurm, "look", look)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert slurm.wait("node", "drained", 5) and not answers


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone", "There is no node gone.\nAllowed: a node of the cluster"),
        (
            "away",
            "scontrol show node away --json failed: slurm_load_node error: Unable to contact slurm controller.\nAllowed: ",
        ),
    ],
)
def test_a_node_or_a_controller_that_is_none_is_told(cluster, name, words):
    assert cluster.run(name=name, state="drained")["msg"].startswith(words)


def test_a_host_without_slurm_is_checked_only(cluster, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert cluster.run(state="drained", check=True)["was"] == "silent"
    assert "No such file or directory: 'scontrol'.\nAllowed: a host of the cluster" in cluster.run(state="drained")["msg"]
