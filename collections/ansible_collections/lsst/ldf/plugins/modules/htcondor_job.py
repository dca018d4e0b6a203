#!/usr/bin/python
"""Run jobs in an HTCondor pool and say how they ended, or why they did not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_job
short_description: Run jobs in an HTCondor pool and say how they ended, or why they did not
version_added: 0.3.0
description:
  - Submits at the host's schedd, waits for all of them, and returns each one's exit code and machine. Jobs that are held, or that do not
    end in time, fail the task, with HTCondor's explanation why they do not run.
options:
  description:
    description: The submit description, name and value, without C(queue). C(initialdir) is the user's home unless it says another.
    type: dict
    required: true
  count:
    description: How many.
    type: int
    default: 1
  user:
    description: Whose they are. Root's are refused by HTCondor.
    type: str
    required: true
  wait:
    description: Whether to wait until they have ended.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for all of them.
    type: float
    default: 300
  remove_on_timeout:
    description: Whether those that did not end in time, or are held, are removed.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Submits nothing, and reports a change.
  diff_mode:
    support: none
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: See that jobs run as their owner
  lsst.ldf.htcondor_job:
    user: alice
    count: 4
    description:
      executable: /usr/bin/id
      transfer_executable: false
      should_transfer_files: true
      request_memory: 100
"""

RETURN = r"""
cluster:
  description: The jobs' number.
  type: int
  returned: always, but in check mode
jobs:
  description: Each job, with C(proc), C(status) (such as V(completed), V(idle), V(held)), C(exit_code), C(host) and C(hold_reason).
  type: list
  elements: dict
  returned: always, but in check mode
analysis:
  description: Why they do not run.
  type: str
  returned: when jobs are idle at the end
"""

import pwd
import re
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.htcondor import CondorError, ads, condor, written
from ansible_collections.lsst.ldf.plugins.module_utils.waiting import poll

SPEC = {
    "description": {"type": "dict", "required": True},
    "count": {"type": "int", "default": 1},
    "user": {"type": "str", "required": True},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 300.0},
    "remove_on_timeout": {"type": "bool", "default": True},
}
# JobStatus of the manual.
STATUS = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "transferring", 7: "suspended"}
ATTRIBUTES = ("ProcId", "JobStatus", "ExitCode", "LastRemoteHost", "RemoteHost", "HoldReason")


def submit(p: dict) -> int:
    """The number of the new cluster."""
    try:
        home = pwd.getpwnam(p["user"]).pw_dir
    except KeyError:
        raise CondorError(f"There is no user {p['user']}.\nAllowed: one of this host.\nCorrect user.") from None
    text = written([], {"initialdir": home} | p["description"]) + f"queue {p['count']}\n"
    told = condor("runuser", "-u", p["user"], "--", "condor_submit", "-terse", "-", stdin=text)
    return int(re.match(r"(\d+)\.", told).group(1))


def job(ad: dict) -> dict:
    """A job as the result tells it, from its ClassAd."""
    host = ad.get("RemoteHost") or ad.get("LastRemoteHost") or ""
    return {
        "proc": ad["ProcId"],
        "status": STATUS.get(ad["JobStatus"], "unknown"),
        "exit_code": ad.get("ExitCode"),
        "host": host.rpartition("@")[2],
        "hold_reason": ad.get("HoldReason", "") if ad["JobStatus"] == 5 else "",
    }


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    p = module.params
    if module.check_mode:
        module.exit_json(changed=True)
    left: list[dict] = []

    def ended() -> bool:
        left[:] = ads(["condor_q", str(cluster), "-allusers"], ATTRIBUTES)
        return not left or all(ad["JobStatus"] == 5 for ad in left)

    try:
        cluster = submit(p)
        if p["wait"]:
            poll(ended, p["timeout"])
        else:
            ended()
        past = ads(["condor_history", str(cluster), "-limit", str(p["count"])], ATTRIBUTES)
        result = {"changed": True, "cluster": cluster, "jobs": sorted(map(job, past + left), key=lambda each: each["proc"])}
        if not p["wait"]:
            module.exit_json(**result)
        if any(ad["JobStatus"] == 1 for ad in left):
            command = ["condor_q", "-better-analyze", str(cluster)]
            result["analysis"] = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
        if left and p["remove_on_timeout"]:
            condor("condor_rm", str(cluster))
    except CondorError as error:
        module.fail_json(msg=str(error))
    failed = [f"{cluster}.{each['proc']} is {each['status']}" for each in result["jobs"] if each["status"] != "completed"]
    failed += [f"{cluster}.{each['proc']} ended with {each['exit_code']}" for each in result["jobs"] if each["exit_code"]]
    if failed:
        why = next((each["hold_reason"] for each in result["jobs"] if each["hold_reason"]), "") or result.get("analysis", "")
        module.fail_json(
            msg=f"{'; '.join(failed)}. {why}\nAllowed: jobs that end with 0 within {p['timeout']:g} s.\nCorrect the description.", **result
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
