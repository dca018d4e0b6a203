"""What others see of a batch: the event stream that AWX reads, junit, the times of tasks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import ansible_runner
import pytest

from conftest import HERE, HOSTS, TOP, inside

INVENTORIES = [str(TOP / "molecule" / "shared" / "inventory.yml"), str(HERE / "inventory.yml")]
VARIABLES = {"way": "batch", "file": "big.yml", "lsst_ldf_batch": "true", "letter": "o"}
ENVIRONMENT = {"ANSIBLE_CONFIG": str(TOP / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(HERE / "roles")}


@pytest.fixture
def work_to_do(pair):
    inside("batch", "rm -f /srv/big /srv/after")


def test_event_stream(work_to_do, tmp_path):
    """One event a batch; its result names what changed, and its counts are those of the tasks."""
    done = ansible_runner.run(
        private_data_dir=str(tmp_path),
        project_dir=str(TOP),
        playbook=str(HERE / "faults.yml"),
        inventory=INVENTORIES,
        limit=HOSTS["batch"],
        extravars=VARIABLES,
        envvars=ENVIRONMENT,
        quiet=True,
    )
    assert done.status == "successful", done.stdout.read()
    results = [event["event_data"]["res"] for event in done.events if event["event"] == "runner_on_ok"]
    assert [result["batch"] for result in results] == [{"ok": 2, "changed": 2, "ignored": 0, "skipped": 0, "not_run": 0}]
    assert [task["name"] for task in results[0]["tasks"]] == ["Write what is too big to travel at once", "Go on"]
    assert done.stats["changed"] == {HOSTS["batch"]: 1}


def test_junit_and_times(work_to_do, tmp_path):
    """Both callbacks see the batch as the one task that it is, and a person sees a line for each task that changed."""
    more = {"ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit,ansible.posix.profile_tasks", "JUNIT_OUTPUT_DIR": str(tmp_path)}
    command = ["ansible-playbook", *(f"--inventory={path}" for path in INVENTORIES), str(HERE / "faults.yml"), "--limit", HOSTS["batch"]]
    command += [argument for key, value in VARIABLES.items() for argument in ("-e", f"{key}={value}")]
    done = subprocess.run(command, cwd=TOP, env=os.environ | ENVIRONMENT | more, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = ElementTree.parse(next(Path(tmp_path).glob("*.xml"))).iter("testcase")
    assert [case.get("name") for case in cases if "In one trip" in case.get("name")]
    assert "In one trip -----" in done.stdout
    assert f"changed: [{HOSTS['batch']}] => Go on" in done.stdout


def test_a_label_that_cannot_be_rendered(pair):
    """It fails nothing: a warning, and the item itself, as ansible-core from 2.20 on has it."""
    inside("batch", "rm -f /srv/label*")
    command = ["ansible-playbook", *(f"--inventory={path}" for path in INVENTORIES), str(HERE / "faults.yml"), "--limit", HOSTS["batch"]]
    command += ["-e", "way=batch", "-e", "file=label.yml", "-e", "lsst_ldf_batch=true"]
    done = subprocess.run(command, cwd=TOP, env=os.environ | ENVIRONMENT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"changed: [{HOSTS['batch']}] => Write two (item=2)" in done.stdout
    assert "A label of loop_control cannot be rendered" in done.stderr
    inside("batch", "cat /srv/label1 /srv/label2")
