#!/usr/bin/python
"""Hold exactly the named packages."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_hold
short_description: Hold exactly the named packages
version_added: 0.1.0
description:
  - Puts the packages on hold for dpkg and apt, installed or not, and lifts every other hold.
options:
  name:
    description: The packages, all of them.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Hold the name server
  lsst.ldf.apt_hold:
    name: [bind9]
"""

RETURN = r"""
held:
  description: The packages that are on hold after the task.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={"name": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True)
    wanted = set(module.params["name"])
    _, shown, _ = module.run_command(["apt-mark", "showhold"], check_rc=True)
    held = set(shown.split())
    for verb, names in (("hold", wanted - held), ("unhold", held - wanted)):
        if names and not module.check_mode:
            code, _, complaint = module.run_command(["apt-mark", verb, *sorted(names)])
            if code:
                module.fail_json(
                    msg=f"apt-mark {verb} {' '.join(sorted(names))}: {complaint.strip()}\nAllowed: names of packages that apt knows. "
                    "Correct package_held in inventories/production/group_vars/*/package.yml."
                )
    module.exit_json(
        changed=held != wanted,
        held=sorted(wanted),
        diff={"before": "".join(f"{name}\n" for name in sorted(held)), "after": "".join(f"{name}\n" for name in sorted(wanted))},
    )


if __name__ == "__main__":
    main()
