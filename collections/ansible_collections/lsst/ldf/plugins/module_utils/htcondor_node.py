"""A machine where jobs run: taken out of its pool, and back, without ending a job that somebody waits for."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from ansible_collections.lsst.ldf.plugins.module_utils import htcondor
from ansible_collections.lsst.ldf.plugins.module_utils.htcondor import CondorError, condor
from ansible_collections.lsst.ldf.plugins.module_utils.waiting import poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

ATTRIBUTES = ("Name", "SlotType", "State", "Activity", "Draining", "DrainReason", "MaxJobRetirementTime", "DaemonStartTime", "TotalCpus")


@dataclass(frozen=True)
class Node:
    """A node as its pool knows it. ``state``: active, draining, drained or off; ``retirement``: seconds that a drain gives a job."""

    name: str
    state: str
    reason: str = ""
    running: int = 0
    retirement: int = 0
    started: int = 0


def of(name: str, slots: Iterable[Mapping[str, Any]]) -> Node:
    """The node that has these slots."""
    parents = [slot for slot in slots if slot.get("SlotType") != "Dynamic"]
    if not parents:
        return Node(name, "off")
    # A static slot is one that nothing was cut out of.
    running = sum(slot["State"] in ("Claimed", "Preempting") for slot in slots)
    running += sum(slot["State"] == "Drained" and slot["Activity"] == "Retiring" and slot.get("SlotType") == "Static" for slot in slots)
    draining = any(slot.get("Draining") for slot in parents)
    idle = all((slot["State"], slot["Activity"]) == ("Drained", "Idle") for slot in parents) and not running
    state = "active" if not draining else "drained" if idle else "draining"
    retirement = [slot.get("MaxJobRetirementTime", 0) for slot in parents]
    # An expression over the job: whoever wrote it has thought of a time.
    waits = min(each if isinstance(each, int) else 1 for each in retirement)
    reason = next((slot["DrainReason"] for slot in parents if slot.get("DrainReason")), "") if draining else ""
    return Node(name, state, reason, running, waits, max(int(slot.get("DaemonStartTime", 0)) for slot in parents))


def look(name: str) -> Node:
    """The node as it is now. A collector that has just started knows none for up to 300 s (UPDATE_INTERVAL): its startd is asked then."""
    slots = htcondor.ads(["condor_status", "-constraint", f'Machine == "{name}"'], ATTRIBUTES)
    if not slots and "startd" in htcondor.daemons() and name == htcondor.value("FULL_HOSTNAME"):
        # It does not answer while it starts or ends.
        with suppress(CondorError):
            slots = htcondor.ads(["condor_status", "-direct", name], ATTRIBUTES)
    return of(name, slots)


def action(node: Node, state: str, reason: str, force: bool) -> str:
    """What leads to ``state`` (active, drained, off): drain, wait, cancel, off, on; empty for nothing. CondorError when it must not be."""
    if state == "off":
        return "" if node.state == "off" else "off"
    if state == "drained":
        if node.state == "off":
            return ""
        return {"active": "drain", "draining": "wait", "drained": ""}[node.state]
    if node.state in ("draining", "drained") and reason and node.reason != reason and not force:
        raise CondorError(
            f"{node.name} is {node.state} for {node.reason!r}.\nAllowed: the reason {reason!r}, which is this one's.\n"
            "Ask who drained it, or use force."
        )
    return {"active": "", "off": "on"}.get(node.state, "cancel")


def refuse_evictions(node: Node, how: str, allow: bool) -> None:
    """CondorError when jobs run that a drain would end at once."""
    if node.running and not allow and (how != "graceful" or node.retirement <= 0):
        why = "MAXJOBRETIREMENTTIME is 0 there" if how == "graceful" else f"how is {how}"
        raise CondorError(
            f"{node.running} jobs run on {node.name}, and a drain would end them at once: {why}.\n"
            "Allowed: a graceful drain with a MAXJOBRETIREMENTTIME, or allow_evict.\nSet one of them."
        )


def drain(node: Node, how: str, reason: str) -> None:
    condor("condor_drain", f"-{how}", "-reason", reason, node.name)


def wait(name: str, state: str, timeout: float) -> bool:
    """Whether the node is in this state within ``timeout`` seconds."""
    return bool(poll(lambda: look(name).state == state, timeout))


def restart(names: Iterable[str]) -> None:
    """Restart daemons of this host; jobs of a schedd find it again. CondorError when one does not come back within a minute."""
    before = htcondor.daemons()
    # Graceful would have the schedd end its jobs.
    for name in ("master",) if "master" in names else sorted(names):
        condor("condor_restart", "-fast", *([] if name == "master" else [f"-{name}"]))

    def back() -> bool:
        now = htcondor.daemons()
        return all(now.get(name, 0) > before[name] for name in names)

    if not poll(back, 60):
        raise CondorError(
            f"{', '.join(names)} did not come back.\nAllowed: daemons that start with their settings.\n"
            f"See their logs in {htcondor.value('LOG')}."
        )


def bring_up_to_date(name: str, names: Iterable[str], timeout: float, reason: str) -> None:
    """Restart these daemons; a startd when no job runs there any more. CondorError, the node being in use again, when it takes long."""
    node = look(name) if {"startd", "master"} & {*names} and "startd" in htcondor.daemons() else Node(name, "off")
    own = node.state == "active"
    if own:
        refuse_evictions(node, "graceful", False)
        drain(node, "graceful", reason)
    if node.state != "off" and not wait(name, "drained", timeout):
        left = look(name).running
        if own:
            condor("condor_drain", "-cancel", name)
        raise CondorError(
            f"{left} jobs still run on {name} after {timeout:g} s; it keeps its old slots{' and takes jobs again' if own else ''}.\n"
            "Allowed: a longer timeout, or a node that was drained before.\nRun again later; the restart stays due."
        )
    restart(names)
    if node.state != "off":
        fresh = poll(lambda: (now := look(name)).started > node.started and now, 60)
        if fresh and not own:
            # A restart forgets a drain; whoever asked for it did not take it back.
            drain(fresh, "graceful", node.reason)


def since(begin: float) -> int:
    return round(time.monotonic() - begin)
