"""Every role's Molecule scenario, from creation to destruction, as one test each."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent.parent
ROLES = sorted(path.name for path in (TOP / "roles").iterdir() if path.is_dir())
# The longest ones go first, each with a worker of its own: pytest gives each worker its share of the list.
LONGEST = ["control", "bps", "object_store", "daq_mgt", "daq_client", "depot", "storage", "log_collector", "htcondor", "slurm"]
LONGEST += ["job_history", "dtn", "nameserver"]
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
ORDER = [role for share in range(WORKERS) for role in sorted(ROLES, key=lambda role: role not in LONGEST)[share::WORKERS]]


def test_every_role_has_a_scenario():
    """Roles and scenarios are the same list."""
    assert sorted(path.parent.name for path in (TOP / "molecule").glob("*/molecule.yml")) == ROLES


def test_no_two_scenarios_share_an_address():
    """Their containers are on one wire, at the same time."""
    texts = {path.parent.name: path.read_text() for path in (TOP / "molecule").glob("*/inventory.yml")}
    found = [(name, address) for name, text in texts.items() for address in set(re.findall(r"\baddress: ([0-9.]+)", text))]
    addresses = [address for _, address in found]
    assert not [each for each in found if addresses.count(each[1]) > 1]


@pytest.mark.parametrize("role", ORDER)
def test_scenario(role):
    """``molecule test`` ends well; its log is kept with the second of each line, and what failed is shown when it does not.

    What its converge did and left is recorded for tests/batch/test_roles.py.
    """
    record = TOP / ".cache" / "records" / role
    shutil.rmtree(record, ignore_errors=True)
    record.mkdir(parents=True)
    environment = os.environ | {"LSST_RECORD": str(record), "LSST_RECORD_STATE": str(TOP / "tests/batch/state.sh")}
    log = TOP / ".cache" / "logs" / f"molecule-{role}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    begin, lines = time.monotonic(), []
    command = ["molecule", "test", "-s", role]
    with (
        subprocess.Popen(command, cwd=TOP, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
        log.open("w", buffering=1) as kept,
    ):
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            kept.write(f"{time.monotonic() - begin:6.1f} {line}")
    wrong = [number for number, line in enumerate(lines) if re.match(r"(\[ERROR\]|fatal|failed|CRITICAL|ERROR|_+ test_|E  )", line)]
    told = {near for number in wrong for near in range(number - 3, number + 25)}
    assert process.returncode == 0, f"whole log: {log}\n" + "\n".join(line for number, line in enumerate(lines) if number in told)
