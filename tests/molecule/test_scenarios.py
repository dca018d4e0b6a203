"""Every role's Molecule scenario, from creation to destruction, as one test each."""

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent.parent
ROLES = sorted(path.name for path in (TOP / "roles").iterdir() if path.is_dir())
# The longest ones go first, each with a worker of its own: pytest gives three workers a third of the list each.
LONGEST = ("control", "depot", "dtn")
ORDER = [role for third in range(3) for role in sorted(ROLES, key=lambda role: role not in LONGEST)[third::3]]


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
    """``molecule test`` ends well; its log is kept, and what failed is shown when it does not."""
    done = subprocess.run(
        ["molecule", "test", "-s", role], cwd=TOP, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    log = TOP / ".cache" / "logs" / f"molecule-{role}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stdout)
    lines = done.stdout.splitlines()
    wrong = [number for number, line in enumerate(lines) if re.match(r"(\[ERROR\]|fatal|failed|CRITICAL|ERROR)", line)]
    told = {near for number in wrong for near in range(number - 3, number + 25)}
    assert done.returncode == 0, f"whole log: {log}\n" + "\n".join(line for number, line in enumerate(lines) if number in told)
