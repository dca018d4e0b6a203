"""A snapshot holds what the roles install."""

from __future__ import annotations

import pytest
import yaml
from reading import TOP

ROLES = sorted(path.parent.parent.name for path in (TOP / "roles").glob("*/tasks/configure.yml"))


def installed(role: str) -> set[str]:
    """The packages that a role's tasks install; a template of them is the name of one of the role's defaults."""
    defaults = yaml.safe_load((TOP / "roles" / role / "defaults" / "main.yml").read_text()) or {}
    found: set[str] = set()
    for task in yaml.safe_load((TOP / "roles" / role / "tasks" / "configure.yml").read_text()):
        wanted = task.get("ansible.builtin.apt", {"state": "absent"})
        if wanted.get("state", "present") == "present":
            names = wanted["name"]
            names = defaults[names.strip("{} ")] if "{{" in names else names
            found |= {names} if isinstance(names, str) else set(names)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_snapshot_holds_what_a_role_installs(inventory, role):
    held = {entry["name"]: set(entry["packages"]) for entry in inventory.table("depot_packages")}
    assert held.get(role, set()) == installed(role)
