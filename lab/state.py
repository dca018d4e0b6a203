"""Where the lab keeps what it makes, and what it knows of production's inventory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keys
import plan as address_plan

TOP = Path(__file__).resolve().parents[1]
STATE = TOP / ".cache/lab"
SECRETS = STATE / "secrets"
# A directory a container, which sees it as /etc/lab.
MACHINES = STATE / "machines"
# The sockets of Ansible's connections.
CONTROL = STATE / "cp"
# The names of the links that carry nothing.
CUT = STATE / "cut"
SSH_CONFIG = STATE / "ssh_config"
# The name of the packages' snapshot that the hosts install from, where a control host sees it too, and what says which packages it holds.
SNAPSHOT = SECRETS / "snapshot"
PACKAGES = TOP / "inventories/production/group_vars/all/depot.yml"
# Packages that the depots fetched; outlives the lab, so that the next one fetches nothing twice.
APT_CACHE = STATE / "apt-cache"
# A directory a site, for those of its hosts that in production share a file system.
SHARED = STATE / "shared"


class LabError(Exception):
    """The lab cannot do what was asked; the message is meant for the operator."""


@dataclass(frozen=True)
class Inventory:
    """What the lab needs to know of production's inventory. ``no_services``: groups that say where or for which camera, not what."""

    plan: dict[str, Any]
    groups: dict[str, list[str]]
    no_services: frozenset[str]
    login: str


def read_inventory() -> Inventory:
    """Groups, plan and login user from inventories/production. Imported here: Ansible takes half a second to load."""
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.vars.manager import VariableManager

    init_plugin_loader()
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=["inventories/production"])
    hosts = manager.get_hosts()
    if not hosts:
        raise LabError("inventories/production has no hosts. Allowed: at least one. Look into its <site>.yml files.")
    variables = VariableManager(loader=loader, inventory=manager).get_vars(host=hosts[0], include_hostvars=False)
    groups = {name: [host.name for host in group.get_hosts()] for name, group in manager.groups.items()}
    no_services = {"all", "ungrouped", "camera", "place"}
    for name in ("camera", "place"):
        if name in manager.groups:
            no_services |= {group.name for group in manager.groups[name].get_descendants()}
    return Inventory(plain(variables["plan"]), groups, frozenset(no_services), str(variables["ansible_user"]))


def plain(value: Any) -> Any:
    """Without Ansible's tags, which the json module and string methods need not know."""
    return json.loads(json.dumps(value, default=str))


def prepare(inventory: Inventory) -> None:
    """What every command that talks to hosts needs: secrets, a login certificate that is still valid, directories, ssh's configuration."""
    control: dict[str, list[str]] = {}
    for host in sorted(inventory.groups.get("control", [])):
        control.setdefault(address_plan.site_of(host, inventory.plan), []).append(address_plan.address(host, inventory.plan))
    keys.make(SECRETS, inventory.plan["sites"], inventory.login, inventory.plan["domain"], control)
    for directory in (MACHINES, CONTROL):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    SSH_CONFIG.write_text(ssh_config(inventory))


def cut_links() -> list[str]:
    return CUT.read_text().split() if CUT.exists() else []


def ssh_config(inventory: Inventory) -> str:
    """How ssh logs in to the lab's hosts by name: with the lab's key and authorities alone, as inventories/lab says it for Ansible."""
    common = {
        "User": inventory.login,
        "BatchMode": "yes",
        "ConnectTimeout": "5",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": f'"{SECRETS}/id"',
        "CertificateFile": f'"{SECRETS}/id-cert.pub"',
        "UserKnownHostsFile": f'"{SECRETS}/known_hosts"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlgorithms": "ssh-ed25519-cert-v01@openssh.com",
        # A quarter of the processor time of the default one.
        "KexAlgorithms": "curve25519-sha256",
        "ControlPath": "none",
    }
    lines = ["# Written by lab.py from the plan."]
    for site in inventory.plan["sites"]:
        for host in address_plan.hosts_of(site, inventory.plan):
            address, alias = address_plan.address(host, inventory.plan), address_plan.fqdn(host, inventory.plan)
            lines += [f"Host {host} {alias}", f"  HostName {address}", f"  HostKeyAlias {alias}"]
    return "\n".join([*lines, "Host *", *(f"  {key} {value}" for key, value in common.items()), ""])
