"""Two containers, one for each way, and what a run over one of them told and left behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.batch_runner import failed
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
TOP = HERE.parent.parent
# A pair for each of pytest's processes; inventory.yml knows as many.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
HOSTS = {way: f"batch-{way}-{WORKER}" for way in ("include", "batch")}


class ByContainers(LoadScopeScheduling):
    """A file's tests share a pair of containers and go to one process; every role has containers of its own."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "test_roles.py" in nodeid else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config, log):
    return ByContainers(config, log)


@dataclass
class Told:
    """What a run said. ``changed``, ``failed``: names of tasks, with the item of a loop; ``handlers``: names; ``diffs``: in order."""

    rc: int
    changed: list[str]
    failed: list[str]
    handlers: list[str]
    diffs: list[Any]
    text: str

    @property
    def outcome(self) -> tuple[Any, ...]:
        """All that has to be the same for both ways."""
        return self.rc, sorted(self.changed), sorted(self.failed), sorted(self.handlers)


def podman(*arguments: str, stdin: str | bytes = b"", check: bool = True) -> str:
    """What podman printed."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([TOP / "lab" / "podman", *arguments], input=data, capture_output=True, check=False)
    assert done.returncode == 0 or not check, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


def start(name: str) -> None:
    """A freshly booted container with Debian and Python."""
    subprocess.run(["bash", TOP / "molecule" / "shared" / "boot.sh", name], check=True, capture_output=True)


@pytest.fixture(scope="session")
def pair():
    """Both containers, removed at the end."""
    for name in HOSTS.values():
        start(name)
    yield HOSTS
    for name in HOSTS.values():
        podman("rm", "--force", "--time", "0", "--volumes", name)


@pytest.fixture(scope="module")
def fresh(pair):
    """Both containers as new, for a module's first test."""
    for name in pair.values():
        start(name)
    return pair


def judge(task: str, result: dict[str, Any], told: Told) -> None:
    """Sort the result of an ordinary task, item by item when it loops."""
    for one in result.get("results", [result]):
        item = one.get("_ansible_item_label", one.get("item"))
        name = f"{task} (item={item['name'] if isinstance(item, dict) else item})" if "results" in result else task
        # The callback drops "failed" from items; an exception stays.
        if failed(one) or "exception" in one:
            told.failed.append(name)
        elif one.get("changed"):
            told.changed.append(name)
        if one.get("changed") and one.get("diff"):
            told.diffs += one["diff"] if isinstance(one["diff"], list) else [one["diff"]]


def play(arguments: list[str], meanwhile: Callable[[int], None] | None = None, **environment: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, text and the JSON callback's report of an ansible-playbook. ``meanwhile`` is called with its process number."""
    own = {"ANSIBLE_CONFIG": str(TOP / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_NOCOLOR": "1"}
    command = ["ansible-playbook", f"--inventory={TOP}/molecule/shared/inventory.yml", *arguments]
    pipes = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | own | environment, cwd=TOP, **pipes) as process:
        if meanwhile:
            meanwhile(process.pid)
        stdout, stderr = process.communicate()
    assert "{\n" in stdout, stdout + stderr
    begin = stdout.index("{\n")
    report = json.JSONDecoder().raw_decode(stdout[begin:])[0]
    return process.returncode, stdout[:begin] + json.dumps(report, indent=1) + stderr, report


def outcome(rc: int, text: str, report: dict[str, Any], host: str) -> Told:
    """What a run said of ``host``."""
    told = Told(rc, [], [], [], [], text)
    for play in report["plays"]:
        for task in play["tasks"]:
            name, result = task["task"]["name"].rpartition(" : ")[2], task["hosts"].get(host)
            if result is None:
                continue
            if name in ("First", "Second", "For first", "For second"):
                told.handlers.append(name)
            elif "batch" in result:
                told.changed += [each["name"] for each in result["tasks"] if each["state"] == "changed"]
                told.failed += [each["name"] for each in result["tasks"] if each["state"] in ("failed", "ignored")]
                told.diffs += result.get("diff", [])
            elif name not in ("One by one", "In one trip"):
                judge(name, result, told)
            elif result.get("failed"):
                told.failed.append(name)
    return told


def run(
    way: str,
    *arguments: str,
    on: str | None = None,
    playbook: str = "site.yml",
    meanwhile: Callable[[int], None] | None = None,
    **variables: Any,
) -> Told:
    """Play the torture, or another ``playbook``, on one container, by ``way``; ``on``: the way whose container it is, when another."""
    host, chosen = HOSTS[on or way], json.dumps({"way": way, "lsst_ldf_batch": True} | variables)
    command = [f"--inventory={HERE}/inventory.yml", str(HERE / playbook), "--limit", host, "-e", chosen, *arguments]
    return outcome(*play(command, meanwhile, ANSIBLE_ROLES_PATH=str(HERE / "roles")), host)


def state(host: str) -> list[str]:
    """What a container holds: files with kind, mode, owners and content, the units, the packages."""
    return podman("exec", "-i", host, "bash", stdin=(HERE / "state.sh").read_bytes()).splitlines()


def inside(way: str, script: str) -> None:
    """Run a script in a container."""
    podman("exec", "-i", HOSTS[way], "bash", "-e", stdin=script)


def shown(diffs: list[Any]) -> list[tuple[Any, Any]]:
    """What diffs say; without those of a copied tree's files, which ansible-core drops."""
    kept = [diff for diff in diffs if "/tree/" not in f"{diff.get('before_header')}{diff.get('after_header')}"]
    return [(diff.get("before"), diff.get("after")) for diff in kept]


def both(*arguments: str, **variables):
    """Run both ways, each over its own container; the outcomes are compared, and returned by way."""
    with ThreadPoolExecutor() as pool:
        runs = {way: pool.submit(run, way, *arguments, **variables) for way in ("include", "batch")}
    told = {way: each.result() for way, each in runs.items()}
    assert told["batch"].outcome == told["include"].outcome
    assert shown(told["batch"].diffs) == shown(told["include"].diffs)
    return told


def quiet(told) -> bool:
    """Whether nothing changed but what never gets done, and in check mode the command that a real run ignores."""
    return set(told.changed) - {"Fails but goes on"} == {"Checked only"}


def same_hosts() -> None:
    """Both containers hold the same."""
    one, other = state(HOSTS["include"]), state(HOSTS["batch"])
    assert one == other, sorted(set(one) ^ set(other))
