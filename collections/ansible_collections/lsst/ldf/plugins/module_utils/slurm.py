"""A node of a Slurm cluster: drained and taken back into use without ending a job.

The commands print JSON or text; what they say here was recorded from Slurm 24.11.5.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass

from ansible_collections.lsst.ldf.plugins.module_utils.waiting import poll

# Of a job that holds its node. One that is suspended does, too.
RUNNING = "RUNNING,SUSPENDED,CONFIGURING,COMPLETING,STOPPED,SIGNALING,STAGE_OUT"


class SlurmError(Exception):
    """What Slurm refused, or must not get; the message is for the operator, in three parts."""


@dataclass(frozen=True)
class Job:
    """A job on a node."""

    id: int
    user: str


@dataclass(frozen=True)
class Node:
    """A node as the controller knows it. ``state``: active, draining, drained, down, or silent, which is not heard of."""

    name: str
    state: str
    reason: str = ""
    jobs: tuple[Job, ...] = ()

    def is_for(self, reason: str) -> bool:
        """Whether this is why. Slurm adds what it finds itself, such as `` : Not responding`` of a node without slurmd for five minutes."""
        return self.reason == reason or self.reason.startswith(f"{reason} : ")


def slurm(*command: str, timeout: float = 60) -> str:
    """What a command prints. SlurmError with its words when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(
            f"{command[0]}: {error}.\nAllowed: a host of the cluster whose controller answers.\nSee its role slurm and slurmctld's journal."
        ) from None
    if done.returncode:
        # Its last line says what came of all the others.
        told = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
        raise SlurmError(
            f"{' '.join(command)} failed: {told}.\nAllowed: a host of the cluster whose controller answers.\nSee slurmctld's journal."
        )
    return done.stdout


def installed() -> bool:
    return shutil.which("scontrol") is not None


def of(name: str, shown: str, queued: str) -> Node:
    """The node of which scontrol (JSON) and squeue (a line a job: number, user) say this."""
    # Slurm finds nothing wrong with a node that it does not know.
    if not (nodes := json.loads(shown)["nodes"]):
        raise SlurmError(f"There is no node {name}.\nAllowed: a node of the cluster (sinfo --Node).\nCorrect the name, or slurm_nodes.")
    words = {*nodes[0]["state"]}
    jobs = tuple(Job(int(number), user) for number, user in (line.split() for line in queued.splitlines()))
    if "DRAIN" in words:
        state = "draining" if jobs else "drained"
    elif "DOWN" in words:
        state = "down"
    else:
        state = "silent" if words & {"NOT_RESPONDING", "UNKNOWN"} else "active"
    return Node(name, state, "" if state == "active" else nodes[0]["reason"], jobs)


def look(name: str) -> Node:
    """The node as it is now."""
    shown = slurm("scontrol", "show", "node", name, "--json")
    return of(name, shown, slurm("squeue", "--noheader", f"--nodelist={name}", f"--states={RUNNING}", "--format=%A %u"))


def action(node: Node, state: str, reason: str, force: bool) -> str:
    """What leads to ``state`` (active, drained): drain, wait, resume; empty for nothing. SlurmError when it must not be."""
    if state == "drained":
        # One that is down would take jobs as soon as it is back.
        return {"draining": "wait", "drained": ""}.get(node.state, "drain")
    # Slurm refuses to resume one that it only waits for.
    if node.state in ("active", "silent"):
        return {"active": "", "silent": "wait"}[node.state]
    if not node.is_for(reason) and not force:
        raise SlurmError(
            f"{node.name} is {node.state} for {node.reason!r}.\nAllowed: the reason {reason!r}, which is this one's.\n"
            "Ask who did it, or use force."
        )
    return "resume"


def update(name: str, action: str, reason: str) -> None:
    """Drain or resume the node. Neither ends a job."""
    slurm("scontrol", "update", f"NodeName={name}", f"State={action.upper()}", *([f"Reason={reason}"] if action == "drain" else []))


def wait(name: str, state: str, timeout: float) -> bool:
    """Whether the node is in this state within ``timeout`` seconds. A controller that restarts meanwhile is waited for."""

    def there() -> bool:
        try:
            return look(name).state == state
        except SlurmError:
            return False

    return bool(poll(there, timeout))


def bring(node: Node, state: str, reason: str, force: bool, timeout: float, cancel: bool) -> None:
    """Have the node in ``state`` within ``timeout`` seconds (0: do not wait). SlurmError when it takes longer.

    ``cancel``: then a drain for this ``reason`` is taken back; it goes on otherwise, and so does everybody else's.
    """
    due = action(node, state, reason, force)
    if due in ("drain", "resume"):
        update(node.name, due, reason)
    if not due or not timeout or wait(node.name, state, timeout):
        return
    now = look(node.name)
    if cancel and now.state == "draining" and now.is_for(reason):
        update(node.name, "resume", reason)
    left = ", ".join(f"{job.id} of {job.user}" for job in now.jobs)
    raise SlurmError(
        f"{node.name} is {now.state} after {timeout:g} s, not {state}{f'; jobs run: {left}' if left else ''}.\n"
        "Allowed: a longer timeout.\nRun again later; what began goes on, unless on_timeout is cancel."
    )
