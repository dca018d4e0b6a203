#!/usr/bin/python
"""Directories that a file system keeps within a size."""

from __future__ import annotations

DOCUMENTATION = r"""
module: quota
short_description: Directories that a file system keeps within a size
version_added: 0.1.0
description:
  - Makes a directory a subvolume (btrfs) or a project (XFS), and limits what it may hold. The file system itself stops whoever writes more.
  - A limit below what the directory holds is refused.
options:
  path:
    description: The directory. It is made when it is not there.
    type: path
    required: true
  filesystem:
    description: Where the file system is mounted that holds it.
    type: path
    required: true
  type:
    description: The file system's kind.
    type: str
    choices: [btrfs, xfs]
    required: true
  size:
    description: What it may hold, such as V(3200G); empty for no limit.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: A directory whose file system is not mounted yet counts as one to be made.
  diff_mode:
    support: none
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Limit what projects hold
  lsst.ldf.quota:
    path: /data/project
    filesystem: /data
    type: xfs
    size: 3200G
"""

RETURN = r"""
used:
  description: Bytes that the directory holds.
  type: int
  returned: always
"""

import json
import os
import zlib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.disks import DiskError, bytes_of, refuse_less_than_used

SPEC = {
    "path": {"type": "path", "required": True},
    "filesystem": {"type": "path", "required": True},
    "type": {"type": "str", "choices": ["btrfs", "xfs"], "required": True},
    "size": {"type": "str", "default": ""},
}
# The inode number of the top of every subvolume.
SUBVOLUME = 256


class Btrfs:
    """A subvolume with a limit. Simple quotas: what a subvolume wrote counts for it, also while only a snapshot still has it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.run, self.path, self.top = module.run_command, Path(module.params["path"]), module.params["filesystem"]

    def exists(self) -> bool:
        """Whether it is there. Raises DiskError for an ordinary directory with something in it."""
        if not self.path.is_dir():
            return False
        if self.path.stat().st_ino == SUBVOLUME:
            return True
        if any(self.path.iterdir()):
            raise DiskError(
                f"{self.path} is an ordinary directory and holds files. Allowed: an empty one, or none, which becomes a subvolume. "
                "Move its files away, or take quota and snapshots off it in storage_directories"
            )
        return False

    def make(self) -> None:
        if self.path.is_dir():
            self.path.rmdir()
        self.run(["btrfs", "subvolume", "create", str(self.path)], check_rc=True)

    def read(self) -> tuple[int, int]:
        """Used and allowed bytes; the latter 0 for no limit."""
        code, shown, _ = self.run(["btrfs", "--format", "json", "qgroup", "show", "--raw", "-r", "-F", str(self.path)])
        rows = json.loads(shown).get("qgroup-show", []) if code == 0 else []
        limits = [(row["referenced"], row["max_referenced"]) for row in rows]
        used, limit = limits[0] if limits else (0, 0)
        return int(used), 0 if limit in ("none", 0) else int(limit)

    def write(self, limit: int) -> None:
        if self.run(["btrfs", "qgroup", "show", self.top])[0]:
            self.run(["btrfs", "quota", "enable", "--simple", self.top], check_rc=True)
        self.run(["btrfs", "qgroup", "limit", str(limit or "none"), str(self.path)], check_rc=True)


class Xfs:
    """A project with a limit. Its number is made from its path, so that it needs no list of projects."""

    def __init__(self, module: AnsibleModule) -> None:
        self.run, self.path, self.top = module.run_command, Path(module.params["path"]), module.params["filesystem"]
        self.number = zlib.crc32(bytes(self.path)) >> 1

    def exists(self) -> bool:
        return self.path.is_dir()

    def make(self) -> None:
        self.path.mkdir(0o755)

    def read(self) -> tuple[int, int]:
        """Used and allowed bytes; the latter 0 for no limit."""
        rows = [line.split() for line in self._quota("report -p -n -N -b").splitlines()]
        return next(((int(row[1]) * 1024, int(row[3]) * 1024) for row in rows if row and row[0] == f"#{self.number}"), (0, 0))

    def write(self, limit: int) -> None:
        self._quota(f"project -s -p {self.path} {self.number}")
        self._quota(f"limit -p bhard={limit} {self.number}")

    def _quota(self, command: str) -> str:
        return self.run(["xfs_quota", "-x", "-c", command, self.top], check_rc=True)[1]


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    p = module.params
    try:
        limit = bytes_of(p["size"])
        if not os.path.ismount(p["filesystem"]):
            if module.check_mode:
                module.exit_json(changed=True, used=0)
            raise DiskError(f"{p['filesystem']} is not mounted. Allowed: a mounted file system. Look at systemctl status {p['filesystem']}")
        directory = {"btrfs": Btrfs, "xfs": Xfs}[p["type"]](module)
        there = directory.exists()
        # A limit that was never set is none.
        used, allowed = directory.read() if there and (limit or p["type"] == "btrfs") else (0, 0)
        if there and allowed != limit:
            # What has not reached the disk yet counts, too.
            module.run_command(["sync", "--file-system", p["path"]])
            used = directory.read()[0]
        refuse_less_than_used(p["path"], limit, used)
        changed = not there or allowed != limit
        if not there and not module.check_mode:
            directory.make()
        if allowed != limit and not module.check_mode:
            directory.write(limit)
    except DiskError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, used=used)


if __name__ == "__main__":
    main()
