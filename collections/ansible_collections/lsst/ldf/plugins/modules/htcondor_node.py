#!/usr/bin/python
"""Take a machine out of an HTCondor pool and back without ending its jobs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_node
short_description: Take a machine out of an HTCondor pool and back without ending its jobs
version_added: 0.3.0
description:
  - A drain that HTCondor calls graceful ends all jobs at once unless the machine has a C(MAXJOBRETIREMENTTIME). This module refuses that,
    drains, and waits.
  - It runs on the machine itself, or for V(drained) and V(active) on the pool's manager.
options:
  state:
    description:
      - V(drained) has no job and takes none; a drain that somebody else began is waited for. A restart of HTCondor ends it.
        The host itself is as wanted when it has no startd; its pool is not asked.
      - V(off) has no startd. It ends when its jobs have ended, however long they take.
      - V(active) takes jobs.
      - V(current) has restarted the host's daemons if M(lsst.ldf.htcondor_config) has changed what they read only at their start.
        A startd is drained first, and takes jobs again after it, unless somebody else had drained it. A schedd's jobs go on.
    type: str
    choices: [active, drained, "off", current]
    required: true
  name:
    description: The machine; the host itself when not given.
    type: str
  how:
    description: How a drain treats jobs - V(graceful) lets them run for their retirement time, V(quick) lets them save, V(fast) kills them.
    type: str
    choices: [graceful, quick, fast]
    default: graceful
  allow_evict:
    description: Whether a drain may end jobs.
    type: bool
    default: false
  reason:
    description: What a drain is for. V(active) takes back a drain of this reason only.
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
    description: What becomes of a drain that took too long. V(keep) goes on, V(cancel) takes it back, V(fast) kills the jobs that are left.
    type: str
    choices: [keep, cancel, fast]
    default: keep
  act:
    description: When false, it is only said whether something is due.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Says what would happen, refusals included. A host without HTCondor is as wanted.
  diff_mode:
    support: full
    description: The state before and after.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Let the jobs end, for an hour at most
  lsst.ldf.htcondor_node:
    state: drained
    reason: new disks
    timeout: 3600
    on_timeout: cancel
"""

RETURN = r"""
was:
  description: The state before, of V(active), V(draining), V(drained) and V(off).
  type: str
  returned: success
running_before:
  description: Jobs that ran before.
  type: int
  returned: success
running:
  description: Jobs that run now.
  type: int
  returned: success
restarted:
  description: Daemons that V(current) restarted, or would.
  type: list
  elements: str
  returned: success
seconds:
  description: How long it took.
  type: int
  returned: success
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils import htcondor
from ansible_collections.lsst.ldf.plugins.module_utils import htcondor_node as nodes
from ansible_collections.lsst.ldf.plugins.module_utils.htcondor import CondorError, condor

SPEC = {
    "state": {"type": "str", "choices": ["active", "drained", "off", "current"], "required": True},
    "name": {"type": "str"},
    "how": {"type": "str", "choices": ["graceful", "quick", "fast"], "default": "graceful"},
    "allow_evict": {"type": "bool", "default": False},
    "reason": {"type": "str", "default": "Ansible"},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 600.0},
    "on_timeout": {"type": "str", "choices": ["keep", "cancel", "fast"], "default": "keep"},
    "act": {"type": "bool", "default": True},
}


def carry_out(p: dict, node: nodes.Node, action: str) -> None:
    """Do it and wait for it. CondorError when it takes too long."""
    if action == "drain":
        nodes.drain(node, p["how"], p["reason"])
    elif action == "cancel":
        condor("condor_drain", "-cancel", node.name)
    elif action:
        # An ended startd is asked for by its master.
        condor(f"condor_{action}", "-startd", *(["-peaceful"] if action == "off" else []), "-name", node.name)
    if not p["timeout"] or nodes.wait(node.name, p["state"], p["timeout"]):
        return
    if action in ("drain", "wait") and p["on_timeout"] != "keep":
        condor("condor_drain", "-cancel", node.name)
        if p["on_timeout"] == "fast":
            nodes.drain(node, "fast", p["reason"])
            if nodes.wait(node.name, p["state"], 60):
                return
    now = nodes.look(node.name)
    raise CondorError(
        f"{node.name} is {now.state} with {now.running} jobs after {p['timeout']:g} s, not {p['state']}.\n"
        "Allowed: a longer timeout, or on_timeout fast.\nRun again later; what began goes on, unless on_timeout is cancel."
    )


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    p, begin, act = module.params, time.monotonic(), module.params["act"] and not module.check_mode
    if not htcondor.installed() and not act:
        module.exit_json(changed=False, was="off", running_before=0, running=0, restarted=[], seconds=0)
    due: list[str] = []
    try:
        name = p["name"] or htcondor.value("FULL_HOSTNAME")
        # It may have no token yet, or its manager be down.
        idle = p["state"] == "drained" and not p["name"] and "startd" not in htcondor.daemons()
        if p["state"] == "current":
            due = sorted(htcondor.pending(htcondor.daemons()))
            if not due:
                module.exit_json(changed=False, was="active", running_before=0, running=0, restarted=[], seconds=0)
            node = nodes.look(name)
            if act:
                nodes.bring_up_to_date(name, due, p["timeout"], p["reason"])
        else:
            node = nodes.Node(name, "off") if idle else nodes.look(name)
            action = nodes.action(node, p["state"], p["reason"], p["force"])
            if action == "drain":
                nodes.refuse_evictions(node, p["how"], p["allow_evict"])
            if action and act:
                carry_out(p, node, action)
            due = [action] if action not in ("", "wait") else []
        running = nodes.look(name).running if act and not idle else node.running
    except CondorError as error:
        module.fail_json(msg=str(error), seconds=nodes.since(begin))
    restarted = due if p["state"] == "current" else []
    module.exit_json(
        changed=bool(due),
        was=node.state,
        running_before=node.running,
        running=running,
        restarted=restarted,
        seconds=nodes.since(begin),
        diff={
            "before": f"{node.state}\n",
            "after": f"{'restarted ' + ', '.join(restarted) if restarted else p['state'] if due else node.state}\n",
        },
    )


if __name__ == "__main__":
    main()
