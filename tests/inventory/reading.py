"""How Ansible reads an inventory, and how a role sees its values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import audit
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

from wiring import Facility

TOP = Path(__file__).parents[2]
PRODUCTION = TOP / audit.INVENTORY
ROLES = sorted(path.name for path in (TOP / "roles").iterdir())


@dataclass(frozen=True)
class Inventory:
    """An inventory directory. ``groups``: group -> hosts, as Ansible's own variable of that name; ``sites``: hosts that are in a site."""

    loader: DataLoader
    manager: InventoryManager
    variables: VariableManager
    directory: Path

    @property
    def groups(self) -> dict[str, list[str]]:
        return {name: [host.name for host in group.get_hosts()] for name, group in self.manager.groups.items()}

    @property
    def hosts(self) -> list[str]:
        return sorted(self.groups["site"])

    def raw(self, host: str) -> dict[str, Any]:
        """Everything that is set for ``host``, not rendered."""
        return self.variables.get_vars(host=self.manager.get_host(host), include_hostvars=False)

    def value(self, host: str, key: str) -> Any:
        """One value as a role of ``host`` sees it; the role's own default where the inventory says nothing."""
        variables = self.raw(host)
        return plain(Templar(self.loader, variables={**defaults(key), **variables}).template(variables.get(key, defaults(key).get(key))))

    def table(self, name: str) -> Any:
        """A table that is the same for every host, such as plan or connections."""
        return self.value(self.hosts[0], name)

    def layers(self) -> list[audit.Layer]:
        """The groups with the names of the variables that they set, in files and in the group itself; not all's."""
        return [
            audit.Layer(
                name=group.name,
                depth=group.depth,
                children=frozenset(child.name for child in group.child_groups),
                hosts=frozenset(host.name for host in group.get_hosts()),
                keys=frozenset([*group.vars, *(key for file in self.files(group.name) for key in audit.load(file) or {})]),
            )
            for group in self.manager.groups.values()
            if group.name != "all"
        ]

    def files(self, group: str) -> list[Path]:
        return sorted((self.directory / "group_vars" / group).glob("*.yml"))


@cache
def defaults(key: str) -> dict[str, Any]:
    """The defaults of the role that the variable ``key`` belongs to."""
    role = max((name for name in ROLES if key.startswith(f"{name}_")), key=len, default=None)
    return yaml.safe_load((TOP / "roles" / role / "defaults" / "main.yml").read_text()) or {} if role else {}


def plain(value: Any) -> Any:
    """``value`` without Ansible's own types and tags."""
    return json.loads(json.dumps(value, default=str))


def read(directory: Path, *overlays: Path) -> Inventory:
    """The inventory in ``directory``, with what lies over it; what cannot be parsed is an error."""
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(directory), *map(str, overlays)])
    return Inventory(loader, manager, VariableManager(loader=loader, inventory=manager), directory)


def ansible_inventory(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """ansible-inventory with ``arguments``."""
    return ansible("inventory", *arguments, **environment)


def ansible(command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A command of the running virtual environment's Ansible (adhoc, inventory), with the repository's configuration."""
    words = [sys.executable, "-m", "ansible", command, *arguments]
    return subprocess.run(words, cwd=TOP, env=os.environ | environment, capture_output=True, text=True, check=False)


def everything_wrong(inventory: Inventory) -> list[str]:
    """The messages of all checks of audit.py."""
    plan, connections, fallback = (inventory.table(name) for name in ("plan", "connections", "fallback"))
    found = [
        *audit.inventory_problems(inventory.groups, plan, connections, fallback),
        *audit.layer_problems(inventory.layers()),
        *audit.file_problems(inventory.directory, inventory.groups, plan["sites"], ROLES),
    ]
    if found:
        return found
    hosts, facility = {host: inventory.raw(host) for host in inventory.hosts}, Facility(inventory.groups, plan, fallback)
    found = audit.placement_problems(hosts, facility)
    return found or audit.tier_problems({host: own["shutdown_tier"] for host, own in hosts.items()}, connections, facility)
