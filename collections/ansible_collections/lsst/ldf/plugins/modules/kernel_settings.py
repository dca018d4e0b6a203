#!/usr/bin/python
"""Have the running kernel take settings."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_settings
short_description: Have the running kernel take settings
version_added: 0.1.0
description:
  - Sets what C(sysctl) sets, in the running kernel alone; what systemd-sysctl sets at boot is a file's business.
  - Names in one warning what the kernel refuses and why, such as a key or a congestion control that it does not have, or a key that is
    read-only in a container. A refusal neither fails nor counts as a change.
  - A key that is no longer among the settings gets back the value that it had before this module first set it.
  - In a container C(vm), C(fs) and C(kernel) are never written, because they are those of the whole machine.
options:
  name:
    description: A short word for these settings, usually the role. Settings of different names must not share keys.
    type: str
    required: true
  settings:
    description: Keys as in sysctl.d(5), and their values.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Knows from the last run what this kernel release refuses, without trying again.
  diff_mode:
    support: full
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Let one flow fill the long-haul network
  lsst.ldf.kernel_settings:
    name: sysctl
    settings:
      net.core.rmem_max: 2147483647
      net.ipv4.tcp_congestion_control: htcp
"""

RETURN = r"""
refused:
  description: What the kernel does not take, by key, with the value that it has instead and the reason.
  type: dict
  returned: always
  sample: {net.ipv4.tcp_congestion_control: {wanted: htcp, value: bbr, reason: "does not have this value, but reno bbr cubic"}}
"""

from platform import node

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.kernel import (
    SPEC,
    Kernel,
    explain,
    files_of,
    in_container,
    load_memory,
    normal,
    originals,
    save,
    settle,
)


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    files = files_of(module.params["name"])
    wanted = {key: normal(value) for key, value in module.params["settings"].items()}
    kernel = Kernel(in_container=in_container())
    try:
        memory = load_memory(*files)
        known = originals(kernel, wanted, memory)
        if not module.check_mode:
            # First: a run that is killed after its first setting must still know the way back. Released keys stay until they are back.
            save(files[0], {**memory.originals, **known})
        outcome = settle(kernel, wanted, memory, module.check_mode)
        refused = {key: refusal._asdict() for key, refusal in outcome.refused.items()}
        if not module.check_mode:
            save(files[0], known)
            save(files[1], refused)
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    if outcome.refused:
        module.warn(explain(node(), len(wanted), outcome.refused))
    before, after = ("".join(f"{key} = {values[side]}\n" for key, values in outcome.changes.items()) for side in (0, 1))
    module.exit_json(
        changed=bool(outcome.changes),
        refused=refused,
        diff={"before": before, "after": after},
    )


if __name__ == "__main__":
    main()
