"""Whichever task fails: the same of the others has happened, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from conftest import HERE, both, same_hosts

TASKS = yaml.safe_load(Path(HERE, "roles", "torture", "tasks", "torture.yml").read_text())
# Tasks that a broken variable makes fail, but those that never run or always fail.
BREAKABLE = [task["name"] for task in TASKS if "broken ==" in str(task) or "broken !=" in str(task)]


@pytest.mark.parametrize("broken", BREAKABLE)
def test_a_failure_anywhere(pair, broken):
    """The tasks before the broken one have run, those after it have not, the message says which."""
    told = both(broken=broken)
    assert told["batch"].rc == 2 and any(name.startswith(broken) for name in told["batch"].failed)
    same_hosts()
