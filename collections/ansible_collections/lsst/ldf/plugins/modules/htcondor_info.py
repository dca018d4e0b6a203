#!/usr/bin/python
"""Ask an HTCondor pool what it has, and wait until it has it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_info
short_description: Ask an HTCondor pool what it has, and wait until it has it
version_added: 0.3.0
description:
  - The ClassAds of a pool's slots, daemons or jobs with their types; nothing found is an empty list, not an empty text.
options:
  query:
    description: What to ask for. V(jobs) and V(history) are those of the host's own schedd.
    type: str
    choices: [slots, masters, schedds, submitters, negotiators, collectors, any, jobs, history]
    required: true
  constraint:
    description: A ClassAd expression that they fulfil, such as C(State == "Claimed").
    type: str
  attributes:
    description: Only these of each; all when none is given.
    type: list
    elements: str
    default: []
  limit:
    description: No more than so many.
    type: int
  wait_for:
    description: Ask again until so many are found.
    type: dict
    suboptions:
      at_least:
        description: So many or more.
        type: int
        default: 0
      at_most:
        description: So many or fewer.
        type: int
  timeout:
    description: Seconds to wait for them. Nobody waits in check mode.
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
- name: Wait until both machines offer slots
  lsst.ldf.htcondor_info:
    query: slots
    constraint: SlotType == "Partitionable"
    attributes: [Name, TotalCpus]
    wait_for: {at_least: 2}
    timeout: 30
"""

RETURN = r"""
ads:
  description: What was found. An expression that HTCondor did not evaluate is its text.
  type: list
  elements: dict
  returned: success
  sample: [{Name: slot1@execute01.example.org, TotalCpus: 4}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.htcondor import CondorError, ads
from ansible_collections.lsst.ldf.plugins.module_utils.waiting import poll

COMMANDS = {
    "slots": ["condor_status"],
    "masters": ["condor_status", "-master"],
    "schedds": ["condor_status", "-schedd"],
    "submitters": ["condor_status", "-submitters"],
    "negotiators": ["condor_status", "-negotiator"],
    "collectors": ["condor_status", "-collector"],
    "any": ["condor_status", "-any"],
    "jobs": ["condor_q", "-allusers"],
    "history": ["condor_history"],
}
SPEC = {
    "query": {"type": "str", "choices": list(COMMANDS), "required": True},
    "constraint": {"type": "str"},
    "attributes": {"type": "list", "elements": "str", "default": []},
    "limit": {"type": "int"},
    "wait_for": {"type": "dict", "options": {"at_least": {"type": "int", "default": 0}, "at_most": {"type": "int"}}},
    "timeout": {"type": "float", "default": 60.0},
}


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    p = module.params
    command = COMMANDS[p["query"]] + (["-constraint", p["constraint"]] if p["constraint"] else [])
    command += ["-limit", str(p["limit"])] if p["limit"] else []
    least, most = (p["wait_for"] or {}).get("at_least", 0), (p["wait_for"] or {}).get("at_most")
    found: list = []

    def enough() -> bool:
        found[:] = ads(command, p["attributes"])
        return least <= len(found) and (most is None or len(found) <= most)

    try:
        if not poll(enough, 0 if module.check_mode else p["timeout"]) and not module.check_mode:
            wanted = f"{least} or more" if most is None else f"{least} to {most}"
            raise CondorError(
                f"{' '.join(command)} found {len(found)} after {p['timeout']:g} s.\nAllowed: {wanted}.\n"
                "Look at the daemons' logs, or correct constraint or wait_for."
            )
    except CondorError as error:
        module.fail_json(msg=str(error), ads=found)
    module.exit_json(changed=False, ads=found)


if __name__ == "__main__":
    main()
