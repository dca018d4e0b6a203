#!/usr/bin/python
"""Say in which state the DAQ's partitions and sources are, and wait for one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: daq_partition_info
short_description: Say in which state the DAQ's partitions and sources are, and wait for one
version_added: 0.3.0
description:
  - Runs a command of the camera's DAQ SDK on the host and tells what it printed with its types.
  - B(The command and its output are those of the stand-in) in C(lab/standins/daq-sdk). What the real SDK's commands are called and print is
    not public, and this has never been run with them.
options:
  command:
    description: The SDK's command. It is given O(backing_dir) and prints JSON.
    type: path
    default: /opt/lsst/daq-sdk/current/x86/bin/daq_partitions
  backing_dir:
    description: Directory of the DAQ's services.
    type: path
    default: /var/lib/vrce
  wait_for:
    description: Ask again until all of this is so.
    type: dict
    suboptions:
      partitions:
        description: Partitions, and the state of each, V(up) or V(down).
        type: dict
        default: {}
      sources:
        description: How many sources, of all partitions together.
        type: dict
        suboptions:
          state:
            description: The state they are in.
            type: str
            choices: [up, down]
            default: up
          at_least:
            description: So many or more.
            type: int
            required: true
  timeout:
    description: Seconds to wait for it. Nobody waits in check mode.
    type: float
    default: 60
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Wait until all eight virtual RCEs are there
  lsst.ldf.daq_partition_info:
    wait_for:
      partitions: {vrce: up}
      sources: {at_least: 8}
    timeout: 30
"""

RETURN = r"""
partitions:
  description: The partitions.
  type: list
  elements: dict
  returned: when the command answered
  contains:
    name:
      description: Its name; the stand-in has one, called like the directory of its services.
      type: str
    state:
      description: V(up) or V(down); the stand-in's is up when C(dsm) answers.
      type: str
    interface:
      description: The interface to the DAQ's network; empty when it is down.
      type: str
    servers:
      description: The daemons behind it, and the state of each.
      type: dict
      sample: {dsid: up, dsm: up}
    sources:
      description: Its sources with C(place), three numbers such as V(16/3/2), and C(state).
      type: list
      elements: dict
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils import daq_partition
from ansible_collections.lsst.ldf.plugins.module_utils.daq import DaqError
from ansible_collections.lsst.ldf.plugins.module_utils.waiting import poll


def main() -> None:
    module = AnsibleModule(daq_partition.SPEC, supports_check_mode=True)
    p = module.params
    found: list = []

    def ready() -> bool:
        found[:] = daq_partition.ask(p["command"], p["backing_dir"])
        return not daq_partition.unmet(found, p["wait_for"])

    try:
        daq_partition.check(p["wait_for"])
        if not poll(ready, 0 if module.check_mode else p["timeout"]) and not module.check_mode:
            raise DaqError(
                f"After {p['timeout']:g} s {'; '.join(daq_partition.unmet(found, p['wait_for']))}.\nAllowed: what wait_for says.\n"
                "Look at the DAQ's services, or correct wait_for."
            )
    except DaqError as error:
        module.fail_json(msg=str(error), partitions=[asdict(each) for each in found])
    module.exit_json(changed=False, partitions=[asdict(each) for each in found])


if __name__ == "__main__":
    main()
