"""The inventory as Ansible reads it, once for all tests, and a copy for those that change it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from reading import PRODUCTION, Inventory, read


@pytest.fixture(scope="session")
def inventory() -> Inventory:
    return read(PRODUCTION)


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of production's inventory, to be changed."""
    return Path(shutil.copytree(PRODUCTION, tmp_path / "production"))
