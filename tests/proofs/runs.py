"""Proofs over the running lab: whole runs of the playbooks through ansible-runner, and the hosts seen from outside Ansible."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner
import yaml

from plan import address

TOP = Path(__file__).parent.parent.parent
PLAN = yaml.safe_load((TOP / "inventories/production/group_vars/all/plan.yml").read_text())["plan"]


@dataclass(frozen=True)
class Run:
    """A finished run. ``stats``: host -> count per kind (changed, failures, dark, ok); ``events``: ansible-runner's event dicts."""

    rc: int
    stats: dict[str, dict[str, int]]
    events: list[dict[str, Any]]
    text: str

    def changed(self) -> dict[str, list[str]]:
        """Host -> names of the tasks that changed something on it, or would in check mode."""
        found: dict[str, list[str]] = {}
        for event in self.events:
            data = event.get("event_data", {})
            result = data.get("res", {})
            if event["event"] == "runner_on_ok" and result.get("changed"):
                # A batch names its own tasks.
                inside = [task["name"] for task in result.get("tasks", []) if task["state"] == "changed"]
                found.setdefault(data["host"], []).extend(inside or [data["task"]])
        return found

    def failed(self) -> list[str]:
        """Hosts on which a task failed or that could not be reached."""
        return sorted({*self.stats.get("failures", {}), *self.stats.get("dark", {})})


def run(*arguments: str, playbook: str = "site.yml") -> Run:
    """``ansible-playbook PLAYBOOK ARGUMENTS`` with the default inventory."""
    private = TOP / ".cache" / "runner"
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = ansible_runner.run(
        private_data_dir=str(private),
        project_dir=str(TOP),
        playbook=playbook,
        inventory=[str(TOP / "inventories" / "production"), str(TOP / "inventories" / "lab")],
        cmdline=" ".join(arguments),
        # ansible-runner puts its own callbacks in the place of those that ansible.cfg names, but adds them to these.
        envvars={"ANSIBLE_CONFIG": str(TOP / "ansible.cfg"), "ANSIBLE_CALLBACK_PLUGINS": str(TOP / "plugins" / "callback")},
        quiet=True,
        rotate_artifacts=1,
    )
    # Not the events' own words: what is said after the last of them, the summary, belongs to none.
    return Run(done.rc, done.stats or {}, list(done.events), done.stdout.read())


def killed(*arguments: str, host: str, when: str) -> None:
    """``ansible-playbook site.yml ARGUMENTS``, killed, with its children and what it runs on ``host``, once ``when`` succeeds there."""
    command = ["ansible-playbook", "site.yml", *arguments]
    with subprocess.Popen(command, cwd=TOP, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            # In one loop on the host: the next step begins within milliseconds.
            on(host, f"until {when}; do :; done; kill -KILL $(pgrep -f lsst_ldf_batch)")
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def on(host: str, command: str, check: bool = True) -> str:
    """What ``command`` printed as root on ``host``, by podman: without Ansible and without ssh."""
    wrapped = [str(TOP / "lab" / "podman"), "exec", "--interactive", host, "sh"]
    done = subprocess.run(wrapped, input=command, text=True, capture_output=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{host}: {command}: {done.stderr}"
    return done.stdout


def answers(host: str, port: int = 22) -> bool:
    """Whether ``host`` accepts a TCP connection at its primary address."""
    try:
        with socket.create_connection((address(host, PLAN), port), 2):
            return True
    except OSError:
        return False


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of ``condition``; AssertionError naming ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


def podman(*arguments: str, check: bool = True) -> str:
    """What ``podman ARGUMENTS`` printed."""
    return subprocess.run([str(TOP / "lab" / "podman"), *arguments], text=True, capture_output=True, check=check).stdout
