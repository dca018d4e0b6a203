"""One set of tests for Molecule, the lab and production: which machines they run on and what they know of them.

A settings directory holds a JSON file a machine (module lsst.ldf.role_settings): how to reach it and the options of its roles.
A test module ``molecule/<role>/test_<role>.py`` runs once on every machine that has the role.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import testinfra

TOP = Path(__file__).parent.parent


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
        if self.in_molecule:
            return testinfra.get_host(f"podman://{self.name}")
        # A socket in the checkout; testinfra formats the command, hence %%.
        (TOP / ".cache" / "cp").mkdir(mode=0o700, parents=True, exist_ok=True)
        address = f"ssh://{self.connection['ansible_user']}@{self.connection.get('ansible_host', self.name)}"
        arguments = self.connection.get("ansible_ssh_common_args", "")
        return testinfra.get_host(address, sudo=True, controlpath=f"{TOP}/.cache/cp/%%C", ssh_extra_args=arguments)


@cache
def machines(directory: Path) -> dict[str, Machine]:
    """Every machine that has a file in ``directory``, by name."""
    found = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    return {entry["name"]: Machine(**entry) for entry in found}


def pytest_addoption(parser):
    """Options of the runs that playbooks/verify.yml and molecule/shared/prove.py start."""
    ephemeral = os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY")
    default = Path(ephemeral) / "settings" if ephemeral else TOP / ".cache" / "verify"
    parser.addoption("--settings", type=Path, default=default, help="directory with a JSON file a machine")
    parser.addoption("--machines", default="", help="only these machines, separated by commas")
    parser.addoption("--bare", action="store_true", help="the hosts are bare: a test that passes is no test, unless marked invariant")


def pytest_generate_tests(metafunc):
    """Run a test on every machine that has the role of its module."""
    if "machine" not in metafunc.fixturenames:
        return
    role = Path(metafunc.module.__file__).parent.name
    wanted = set(filter(None, metafunc.config.getoption("machines").split(",")))
    have = [m for m in machines(metafunc.config.getoption("settings")).values() if role in m.settings and (not wanted or m.name in wanted)]
    metafunc.parametrize("machine", have, ids=[m.name for m in have], scope="session")


def pytest_collection_modifyitems(config, items):
    """A run over no machine at all must not end well."""
    if not machines(config.getoption("settings")):
        raise pytest.UsageError(f"no machine in {config.getoption('settings')}. Run playbooks/verify.yml or molecule converge first.")
    for item in items:
        if not {"reads", "writes", "disturbs"} & {mark.name for mark in item.iter_markers()}:
            raise pytest.UsageError(f"{item.nodeid} is not marked reads, writes or disturbs.")


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
    """testinfra's handles of the other machines that have the role under test."""
    role = request.path.parent.name
    everyone = machines(request.config.getoption("settings")).values()
    return [other.host for other in everyone if other.name != machine.name and role in other.settings]
