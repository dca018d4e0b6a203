"""One set of tests for Molecule, the lab and production: which machines they run on and what they know of them.

A settings directory holds a JSON file a machine (module lsst.ldf.role_settings): how to reach it and the options of its roles.
A test module ``molecule/<role>/test_<role>.py`` runs once on every machine that has the role.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import testinfra

TOP = Path(__file__).parent.parent
# The sizes and times of the long runs (make prove-long).
LONG = bool(os.environ.get("LSST_LONG"))
# In the environment only while Molecule runs the tests: the scenario's directory.
SCENARIO = "MOLECULE_SCENARIO_DIRECTORY"


@dataclass
class Machine:
    """A machine under test. ``settings``: role -> option -> value; ``connection``: Ansible's connection variables."""

    name: str
    connection: dict[str, Any]
    settings: dict[str, dict[str, Any]]

    @property
    def in_molecule(self) -> bool:
        """Whether it is a scenario's container, reached by podman and not by ssh."""
        return self.connection.get("ansible_connection", "").endswith("podman")

    @cached_property
    def host(self):
        """testinfra's handle of the machine."""
        if self.in_molecule or self.connection.get("lsst_ldf_tests_connection") == "podman":
            return testinfra.get_host(f"podman://{self.name}")
        # A socket in the checkout. Its path is short, because with what ssh adds it must not be longer than 107 characters.
        control = TOP / ".cache" / "cp" / f"{zlib.crc32(self.name.encode()):08x}"
        control.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        address = f"ssh://{self.connection['ansible_user']}@{self.connection.get('ansible_host', self.name)}"
        arguments = self.connection.get("ansible_ssh_common_args", "")
        return testinfra.get_host(address, sudo=True, controlpath=str(control), ssh_extra_args=arguments)


@cache
def machines(directory: Path) -> dict[str, Machine]:
    """Every machine that has a file in ``directory``, by name."""
    found = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    return {entry["name"]: Machine(**entry) for entry in found}


# Here and not in pytest.ini, which Molecule's verifier does not read.
MARKERS = (
    "reads: looks and changes nothing",
    "writes: writes under names of its own and removes them",
    "disturbs: stops, breaks or restarts something",
    "where(predicate): runs on those machines (conftest.py) of which it is true",
    "once: runs on one machine of all that have the role",
    "invariant(reason): passes on a bare host too",
)


def pytest_configure(config):
    """Make the markers known."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_addoption(parser):
    """Options of the runs that playbooks/verify.yml and molecule/shared/prove.py start."""
    ephemeral = os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY")
    default = Path(ephemeral) / "settings" if ephemeral else TOP / ".cache" / "verify"
    parser.addoption("--settings", type=Path, default=default, help="directory with a JSON file a machine")
    parser.addoption("--machines", default="", help="only these machines, separated by commas")
    parser.addoption("--bare", action="store_true", help="the hosts are bare: a test that passes is no test, unless marked invariant")


def under_test(config) -> list[Machine]:
    """The machines of this run."""
    wanted = set(filter(None, config.getoption("machines").split(",")))
    return [m for m in machines(config.getoption("settings")).values() if not wanted or m.name in wanted]


def pytest_generate_tests(metafunc):
    """Run a test on every machine that has the role of its module, or on those that its markers ``where`` and ``once`` leave of them."""
    if "machine" not in metafunc.fixturenames:
        return
    role = Path(metafunc.module.__file__).parent.name
    have = [m for m in under_test(metafunc.config) if role in m.settings]
    if "others" in metafunc.fixturenames and len(have) < 2:
        have = []
    for mark in metafunc.definition.iter_markers("where"):
        have = [m for m in have if mark.args[0](m)]
    if metafunc.definition.get_closest_marker("once"):
        have = have[-1:]
    metafunc.parametrize("machine", have, ids=[m.name for m in have], scope="session")


def pytest_collection_modifyitems(config, items):
    """A run over no machine at all must not end well, and in its own scenario every test has a machine."""
    if not under_test(config):
        raise pytest.UsageError(f"no machine in {config.getoption('settings')}. Run playbooks/verify.yml or molecule converge first.")
    for item in items:
        if not {"reads", "writes", "disturbs"} & {mark.name for mark in item.iter_markers()}:
            raise pytest.UsageError(f"{item.nodeid} is not marked reads, writes or disturbs.")
    nowhere = [item for item in items if not isinstance(item.callspec.params["machine"], Machine)]
    if nowhere and SCENARIO in os.environ:
        raise pytest.UsageError(f"{nowhere[0].nodeid} runs on no machine of its scenario.")
    items[:] = [item for item in items if item not in nowhere]
    config.hook.pytest_deselected(items=nowhere)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """On bare hosts (--bare) red is green: a test that passes there proves nothing."""
    report = yield
    if not item.config.getoption("bare") or item.get_closest_marker("invariant") or report.when == "teardown":
        return report
    if report.failed:
        report.outcome, report.longrepr = "passed", None
    elif report.when == "call":
        report.outcome, report.longrepr = (
            "failed",
            f"{item.nodeid} passes on a bare host: it proves nothing. Ask the service, or mark it invariant.",
        )
    return report


@pytest.fixture
def host(machine):
    """testinfra's handle of the machine under test."""
    return machine.host


@pytest.fixture
def settings(machine, request) -> dict[str, Any]:
    """The options of the role under test on this machine, as the role sees them; no_log ones are left out."""
    return machine.settings[request.path.parent.name]


@pytest.fixture
def others(machine, request) -> list:
    """testinfra's handles of the other machines that have the role under test; there is one at least."""
    role = request.path.parent.name
    return [other.host for other in under_test(request.config) if other.name != machine.name and role in other.settings]


@pytest.fixture
def apply(machine, request) -> Callable[..., subprocess.CompletedProcess]:
    """Applies the role under test once more: ``apply("--check", option=value)``; ``to``: other machines than the one under test."""
    playbook = [f"--tags={request.path.parent.name}", "site.yml"]
    if SCENARIO in os.environ:
        playbook = ["molecule/shared/converge.yml"]

    def run(*arguments: str, to: Iterable[Machine] = (machine,), **variables: Any) -> subprocess.CompletedProcess:
        return ansible("ansible-playbook", f"--limit={','.join(m.name for m in to)}", *arguments, *playbook, **variables)

    return run


def call(program: str, *arguments: str, **variables: Any) -> dict[str, Any]:
    """What subprocess needs to run a program of Ansible, over the scenario's inventory if there is one."""
    command = [program, f"--extra-vars={json.dumps(variables)}", *arguments]
    if scenario := os.environ.get(SCENARIO):
        command[1:1] = [f"--inventory={each}/inventory.yml" for each in (TOP / "molecule/shared", scenario)]
    # Molecule's callback wants no change in a check run; here changes are what is expected.
    environment = {key: value for key, value in os.environ.items() if key != "ANSIBLE_CALLBACKS_ENABLED"}
    # Tests read the result of a single module.
    environment |= {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"} if program == "ansible" else {}
    return {"args": command, "cwd": TOP, "env": environment, "text": True}


def ansible(program: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess:
    """Run a program of Ansible."""
    return subprocess.run(**call(program, *arguments, **variables), capture_output=True, check=False)


def operate(playbook: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess:
    """Run one of the playbooks of operations."""
    return ansible("ansible-playbook", *arguments, f"playbooks/{playbook}.yml", **variables)


def words(done: subprocess.CompletedProcess) -> str:
    """What a run said, in one line."""
    return " ".join((done.stdout + done.stderr).split())


def changed(done: subprocess.CompletedProcess) -> bool:
    """Whether a run of ``apply``, which must have ended well, changed anything or would."""
    assert done.returncode == 0, done.stdout + done.stderr
    return re.search(r"changed=[1-9]", done.stdout) is not None


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """What ``condition`` returned when it was something; AssertionError, which names ``what``, after ``seconds``."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.3)
    return found


def restart(machine: Machine) -> None:
    """Restart a scenario's container and wait until it has booted. Restarts of the lab's hosts have their own proof."""
    subprocess.run(["podman", "restart", machine.name], check=True, capture_output=True)
    for _ in range(150):
        # Right after its start not even systemd answers.
        if machine.host.run("systemctl is-system-running --wait").stdout.strip() in ("running", "degraded"):
            return
        time.sleep(0.2)
    pytest.fail(f"{machine.name} did not boot within 30 s")
