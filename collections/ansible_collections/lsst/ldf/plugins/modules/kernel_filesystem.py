#!/usr/bin/python
"""Say which file systems the running kernel cannot mount."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_filesystem
short_description: Say which file systems the running kernel cannot mount
version_added: 0.3.0
description:
  - A file system is known to the kernel, or a module of it can be loaded. One that is neither is a warning; nothing fails, nothing changes.
options:
  name:
    description: The file systems, as C(mount -t) has them.
    type: list
    elements: str
    required: true
  otherwise:
    description: What an operator can do instead, for the warning.
    type: str
    required: true
attributes:
  check_mode:
    support: full
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: See whether the kernel has an NFS client
  lsst.ldf.kernel_filesystem:
    name: [nfs4]
    otherwise: nfs-ls, nfs-cat and nfs-cp of libnfs-utils
"""

RETURN = r"""
missing:
  description: The file systems that it cannot mount.
  type: list
  elements: str
  returned: always
"""

import platform
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

FILESYSTEMS = Path("/proc/filesystems")


def known(text: str) -> set[str]:
    """The names in ``text``, the content of /proc/filesystems."""
    return {line.split()[-1] for line in text.splitlines() if line.strip()}


def main() -> None:
    spec = {"name": {"type": "list", "elements": "str", "required": True}, "otherwise": {"type": "str", "required": True}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    there = known(FILESYSTEMS.read_text())

    def loadable(name: str) -> bool:
        """Whether a module of the running kernel has it; a host without modprobe has none."""
        modprobe = module.get_bin_path("modprobe")
        return bool(modprobe) and module.run_command([modprobe, "--dry-run", "--quiet", f"fs-{name}"])[0] == 0

    missing = [name for name in module.params["name"] if name not in there and not loadable(name)]
    if missing:
        module.warn(
            f"The kernel {platform.release()} cannot mount {', '.join(missing)}. Allowed: a kernel that can, or "
            f"{module.params['otherwise']}. Boot another kernel, or take the host out of the group."
        )
    module.exit_json(changed=False, missing=missing)


if __name__ == "__main__":
    main()
