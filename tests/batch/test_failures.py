"""Whichever task fails: the same of the others has happened, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from conftest import HERE, both, same_hosts

TASKS = yaml.safe_load(Path(HERE, "roles", "torture", "tasks", "torture.yml").read_text())
# Tasks that a broken variable makes fail, but those that never run or always fail.
BREAKABLE = [number for number, task in enumerate(TASKS) if "broken ==" in str(task) or "broken !=" in str(task)]


@pytest.mark.parametrize("number", BREAKABLE, ids=lambda number: TASKS[number]["name"])
def test_a_failure_anywhere(pair, number, tmp_path):
    """The tasks before the broken one have run, those after it have not, the message says which. Its neighbours do for the whole file."""
    neighbours = tmp_path / "neighbours.yml"
    neighbours.write_text(yaml.safe_dump(TASKS[max(number - 2, 0) : number + 3]))
    broken = TASKS[number]["name"]
    told = both(broken=broken, file=str(neighbours))
    assert told["batch"].rc == 2 and any(name.startswith(broken) for name in told["batch"].failed)
    same_hosts()
