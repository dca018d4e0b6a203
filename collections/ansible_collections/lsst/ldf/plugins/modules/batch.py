#!/usr/bin/python
"""Documentation of the action lsst.ldf.batch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: batch
short_description: Run a flat tasks file in one trip to the host
version_added: 0.2.0
description:
  - Means the same as M(ansible.builtin.include_tasks) for a flat list of tasks that do not depend on one another's results.
  - The control side evaluates all tasks, with ansible-core's own actions; the host runs their modules, ansible-core's own, one after
    another. A host that is as it should be costs one trip, and no module runs for what a probe knows to be so already.
  - Known keywords of a task are C(name), C(when), C(loop) with C(loop_var), C(index_var) and C(label), C(vars), C(notify), C(no_log),
    C(diff), C(check_mode), C(environment), C(ignore_errors), C(tags) and C(args). Any other, and an action that needs the control side
    between two steps, is refused before anything runs.
  - C(become) belongs on the batch's own task, the play or the role.
options:
  file:
    description: A tasks file, searched for as M(ansible.builtin.include_tasks) does. May be given as free form.
    type: str
    required: true
notes:
  - The variable C(lsst_ldf_batch) (bool, true when not given) set to false has each task run by itself; so does an ansible-core that the
    tests do not cover or a connection without pipelining. One warning says so.
  - The variable C(lsst_ldf_batch_probes) (bool or a list of module names, true when not given) says for which modules a probe may answer.
  - The recap counts a batch as one task. Its result counts its tasks in C(batch) and names those that changed or failed in C(tasks).
  - Handlers that a task notified before a later one failed, or before the run was killed, are notified by the next run.
  - In check mode C(lsst.ldf.unit) knows which files the earlier tasks of the batch would change.
attributes:
  check_mode:
    support: full
    description: Each task as it does by itself.
  diff_mode:
    support: full
    description: The differences of all changed tasks, in their order.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Configure chrony
  lsst.ldf.batch: configure.yml

- name: Configure it with no probe at all, to look for drift that a probe could miss
  lsst.ldf.batch: configure.yml
  vars:
    lsst_ldf_batch_probes: false
"""

RETURN = r"""
batch:
  description: How many of the file's tasks ended how.
  type: dict
  returned: always
  sample: {ok: 4, changed: 1, ignored: 0, skipped: 0, not_run: 0}
tasks:
  description: The tasks and items that changed or failed.
  type: list
  elements: dict
  returned: always
  sample: [{name: Install chrony, state: changed}]
failed_result:
  description: What the failed module returned.
  type: dict
  returned: on failure, unless no_log hides it
"""
