#!/usr/bin/python
"""Take a node of a Slurm cluster out of use and back without ending its jobs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_node
short_description: Take a node of a Slurm cluster out of use and back without ending its jobs
version_added: 0.3.0
description:
  - A drained node takes no job; those that run go on, and are waited for. Nothing here ends a job.
  - It runs as root or as Slurm's own user on any host of the cluster.
options:
  state:
    description:
      - V(drained) has no job and takes none; a drain that somebody else began is waited for. A restart of Slurm does not end it.
      - V(active) takes jobs.
    type: str
    choices: [active, drained]
    required: true
  name:
    description: The node; the host itself when not given.
    type: str
  reason:
    description: What a drain is for. V(active) takes back a drain of this reason only, or a node that is down for it.
    type: str
    default: Ansible
  force:
    description: Whether V(active) takes back whichever drain.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the last job; 0 does not wait.
    type: float
    default: 600
  on_timeout:
    description: What becomes of a drain that took too long. V(keep) goes on, V(cancel) takes it back if it is for this reason.
    type: str
    choices: [keep, cancel]
    default: keep
attributes:
  check_mode:
    support: full
    description: Says what would happen, refusals included. A host without Slurm is as wanted.
  diff_mode:
    support: full
    description: The state before and after.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Let the jobs end, for an hour at most
  lsst.ldf.slurm_node:
    state: drained
    reason: new disks
    timeout: 3600
    on_timeout: cancel

- name: Take jobs again
  lsst.ldf.slurm_node:
    name: ncsa-slurm-node01
    state: active
    reason: new disks
  delegate_to: ncsa-slurm-controller01
"""

RETURN = r"""
was:
  description: The state before, of V(active), V(draining), V(drained), V(down) and V(silent), which is not heard of.
  type: str
  returned: success
state:
  description: The state now.
  type: str
  returned: success
reason:
  description: What the node is drained or down for; empty for one in use.
  type: str
  returned: success
jobs:
  description: The jobs that run there now.
  type: list
  elements: dict
  returned: success
  contains:
    id: {description: The job's number., type: int}
    user: {description: Whose it is., type: str}
seconds:
  description: How long it took.
  type: int
  returned: success
"""

import os
import time
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils import slurm

SPEC = {
    "state": {"type": "str", "choices": ["active", "drained"], "required": True},
    "name": {"type": "str"},
    "reason": {"type": "str", "default": "Ansible"},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 600.0},
    "on_timeout": {"type": "str", "choices": ["keep", "cancel"], "default": "keep"},
}


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    p, begin = module.params, time.monotonic()
    name = p["name"] or os.uname().nodename.split(".")[0]
    if module.check_mode and not slurm.installed():
        module.exit_json(changed=False, was="silent", state="silent", reason="", jobs=[], seconds=0)
    try:
        before = now = slurm.look(name)
        due = slurm.action(before, p["state"], p["reason"], p["force"])
        if not module.check_mode:
            slurm.bring(before, p["state"], p["reason"], p["force"], p["timeout"], p["on_timeout"] == "cancel")
            now = slurm.look(name)
    except slurm.SlurmError as error:
        module.fail_json(msg=str(error), seconds=round(time.monotonic() - begin))
    changed = due in ("drain", "resume")
    module.exit_json(
        changed=changed,
        was=before.state,
        state=now.state,
        reason=now.reason,
        jobs=[asdict(job) for job in now.jobs],
        seconds=round(time.monotonic() - begin),
        diff={"before": f"{before.state}\n", "after": f"{p['state'] if changed else before.state}\n"},
    )


if __name__ == "__main__":
    main()
