"""Tests are tested: ``prove.py bare`` before the first converge, ``prove.py stopped`` after it. Runs inside a Molecule scenario."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

TOP = Path(__file__).parent.parent.parent
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
UNIT_STEPS = {"lsst.ldf.unit": "name", "lsst.ldf.commit_confirm": "unit"}
# Sockets start it again as soon as anything is logged: nobody sees it stopped.
NEVER_STOPPED = ("systemd-journald",)


def tests(*arguments: str) -> subprocess.CompletedProcess:
    """A run of the scenario's tests."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", str(SCENARIO), *arguments], cwd=TOP / "molecule", text=True, capture_output=True, check=False
    )


def inside(host: str, *command: str) -> bool:
    """Whether ``command`` succeeds in the container ``host``."""
    return subprocess.run(["podman", "exec", host, *command], capture_output=True, check=False).returncode == 0


def units(role: str) -> list[str]:
    """The units that the role runs, read from its steps lsst.ldf.unit and lsst.ldf.commit_confirm."""
    found: list[str] = []
    for path in sorted((TOP / "roles" / role / "tasks").glob("*.yml")):
        for step in yaml.safe_load(path.read_text()) or []:
            for module, option in UNIT_STEPS.items():
                wanted = step.get(module, {})
                if isinstance(wanted, dict) and wanted.get("state", "started") == "started":
                    names = wanted.get(option, [])
                    found += [names] if isinstance(names, str) else names
    templated = [name for name in found if "{{" in name]
    # The scenario says what they are called there.
    named = (yaml.safe_load((SCENARIO / "inventory.yml").read_text())["molecule"].get("vars") or {}).get("molecule_units", [])
    if templated and not named:
        raise SystemExit(f"roles/{role}: unit {templated[0]!r} is a template; name it in the scenario's molecule_units for the proof")
    return list(dict.fromkeys(named + [name for name in found if name not in templated]))


def bare() -> None:
    """Every test fails on the bare hosts, and a check run over them ends well."""
    done = tests("--bare")
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    inventories = [f"--inventory={TOP}/molecule/shared/inventory.yml", f"--inventory={SCENARIO}/inventory.yml"]
    command = [
        "ansible-playbook",
        "--check",
        "-e",
        '{"lsst_ldf_batch_probes": true}',
        *inventories,
        str(TOP / "molecule" / "shared" / "converge.yml"),
    ]
    # The scenario's callback wants no change in a check run; on a bare host changes are what is expected.
    environment = {key: value for key, value in os.environ.items() if key != "ANSIBLE_CALLBACKS_ENABLED"}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"a check run over the bare hosts failed:\n{done.stdout}{done.stderr}")


def stopped() -> None:
    """For each unit of the role that can be stopped: stop it wherever it runs, see some test go red, start it again."""
    hosts = yaml.safe_load((SCENARIO / "inventory.yml").read_text())["molecule"]["hosts"]
    for unit in (unit for unit in units(SCENARIO.name) if unit not in NEVER_STOPPED):
        running = [host for host in hosts if inside(host, "systemctl", "is-active", unit)]
        if not running:
            raise SystemExit(f"{unit} runs on no host of the scenario, so nothing proves it")
        try:
            for host in running:
                inside(host, "systemctl", "stop", unit)
            done = tests("-m", "not disturbs", "--exitfirst")
        finally:
            for host in running:
                inside(host, "systemctl", "start", unit)
        if done.returncode != 1:
            where = ", ".join(running)
            raise SystemExit(f"with {unit} stopped on {where} no test went red (pytest ended with {done.returncode}):\n{done.stdout}")


if __name__ == "__main__":
    {"bare": bare, "stopped": stopped}[sys.argv[1]]()
