#!/usr/bin/python
"""Make a file system on empty disks, and on no others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: filesystem
short_description: Make a file system on empty disks, and on no others
version_added: 0.1.0
description:
  - Makes a file system when all its disks are empty, and leaves it alone ever after. It is recognized by its label.
  - A disk that holds anything else is refused before anything is written, unless O(overwrite) names it.
  - A file system gets its label when it is whole, so that the next run does again what a killed one began.
  - With V(grown) and V(replaced), the disks of a mounted file system become those of O(devices).
options:
  name:
    description: Name of the file system, its label.
    type: str
    required: true
  type:
    description: Kind of the file system. Several disks make a mirror with V(btrfs); V(xfs) takes one, such as an array of md.
    type: str
    choices: [btrfs, xfs]
    required: true
  devices:
    description: All its disks.
    type: list
    elements: path
    required: true
  overwrite:
    description: Those disks of O(devices) whose content may be destroyed.
    type: list
    elements: path
    default: []
  quota:
    description: Whether directories of it will have quotas. A kernel that cannot keep them is refused.
    type: bool
    default: false
  state:
    description:
      - V(present) makes it. A new disk beside existing ones is refused.
      - V(grown) takes new disks in, or all of a disk that has grown.
      - V(replaced) puts one new disk of a btrfs in the place of the one that O(devices) no longer names, or that is dead.
    type: str
    choices: [present, grown, replaced]
    default: present
  path:
    description: Where it is mounted; needed for V(grown) and V(replaced).
    type: path
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Make the file system of the data
  lsst.ldf.filesystem:
    name: data
    type: xfs
    devices: [/dev/md/data]
"""

RETURN = r"""
commands:
  description: What was run, or would be.
  type: list
  elements: str
  returned: always
"""

import os
import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.disks import EDIT, DiskError, Disks, btrfs_members, creation, read_device, sort_disks

SPEC = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "choices": ["btrfs", "xfs"], "required": True},
    "devices": {"type": "list", "elements": "path", "required": True},
    "overwrite": {"type": "list", "elements": "path", "default": []},
    "quota": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "grown", "replaced"], "default": "present"},
    "path": {"type": "path"},
}
REQUIRED = [("state", "grown", ["path"]), ("state", "replaced", ["path"])]


def refuse_quota(module: AnsibleModule) -> None:
    """Raise DiskError when the kernel keeps no quotas of projects on XFS."""
    statistics = Path("/proc/fs/xfs")
    if not statistics.exists():
        module.run_command(["modprobe", "xfs"])
    if not (statistics / "xqmstat").exists():
        raise DiskError(
            f"kernel {os.uname().release} keeps no project quotas on XFS (CONFIG_XFS_QUOTA is off). Allowed: a kernel that does, "
            "type btrfs, or directories without quota. Edit: storage_filesystems or storage_directories in "
            "inventories/production/group_vars/*/storage.yml"
        )


def refuse_busy(path: str) -> None:
    """Raise DiskError when something has the disk in use that blkid does not see."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        raise DiskError(f"{path} looks empty but is in use ({error.strerror}). Allowed: a disk that nobody uses. {EDIT}") from None


def names(devices: list) -> str:
    return ", ".join(each.path for each in devices)


def present(module: AnsibleModule, disks: Disks) -> list[list[str]]:
    """The commands that make it; none when it is there."""
    p = module.params
    if disks.members and disks.empty:
        raise DiskError(
            f"{names(disks.empty)} is empty, and the file system {p['name']} is there without it. Allowed: "
            f"playbooks/grow-storage.yml to take it in, playbooks/replace-disk.yml to put it in a dead one's place. {EDIT}"
        )
    if disks.members:
        if disks.dead:
            module.warn(
                f"{names(disks.dead)} of the file system {p['name']} is dead. playbooks/replace-disk.yml puts another one in its place."
            )
        return []
    if disks.dead:
        raise DiskError(f"{names(disks.dead)} cannot be read. Allowed: disks that work. {EDIT}")
    for each in disks.empty:
        refuse_busy(each.path)
    return creation(p["name"], p["type"], [each.path for each in disks.empty])


def grown(module: AnsibleModule, disks: Disks) -> list[list[str]]:
    """The commands that take new disks, or new room, in."""
    p = module.params
    if p["type"] == "btrfs":
        return [["btrfs", "device", "add", "-f", *(each.path for each in disks.empty), p["path"]]] if disks.empty else []
    shown = module.run_command(["xfs_info", p["path"]], check_rc=True)[1]
    block, blocks = map(int, re.search(r"^data .*?bsize=(\d+)\s+blocks=(\d+)", shown, re.MULTILINE).groups())
    # Less than XFS's smallest piece is no room.
    return [["xfs_growfs", "-d", p["path"]]] if disks.members[0].size - block * blocks >= 64 * block else []


def replaced(module: AnsibleModule, disks: Disks) -> list[list[str]]:
    """The commands that put the new disk in the place of the one that is not wanted or dead."""
    p = module.params
    here = {Path(each.path).stat().st_rdev for each in disks.members}
    members = btrfs_members(module.run_command(["btrfs", "filesystem", "show", "--raw", p["path"]], check_rc=True)[1])
    leaving = [number for number, path in members.items() if not Path(path).is_block_device() or Path(path).stat().st_rdev not in here]
    if not leaving and not disks.empty:
        return []
    if len(leaving) != 1 or len(disks.empty) != 1:
        raise DiskError(
            f"{len(leaving)} of the disks of {p['name']} are to leave and {len(disks.empty)} new ones are named "
            f"({names(disks.empty) or 'none'}). Allowed: one for one, named in the other's place. {EDIT}"
        )
    # -r: from the other copies, and only where there is none from the one that leaves.
    return [["btrfs", "replace", "start", "-B", "-f", "-r", str(leaving[0]), disks.empty[0].path, p["path"]]]


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, required_if=REQUIRED, supports_check_mode=True)
    p = module.params
    try:
        if p["quota"] and p["type"] == "xfs":
            refuse_quota(module)
        disks = sort_disks(p["name"], p["type"], [read_device(path, module.run_command) for path in p["devices"]], p["overwrite"])
        if p["state"] != "present" and not (disks.members and os.path.ismount(p["path"])):
            raise DiskError(f"{p['name']} is not mounted on {p['path']}. Allowed: a file system that is in use. Run site.yml first")
        commands = {"present": present, "grown": grown, "replaced": replaced}[p["state"]](module, disks)
        for command in [] if module.check_mode else commands:
            code, shown, complaint = module.run_command(command)
            if code:
                raise DiskError(f"{' '.join(command)}: {(complaint or shown).strip()}")
    except DiskError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(commands), commands=[" ".join(command) for command in commands])


if __name__ == "__main__":
    main()
