"""Say at the start which inventory a run uses, and at the end, site by site, how it went and whom it did not reach."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: run_summary
type: aggregate
short_description: first and last words of a run
description:
  - The first line names the inventory. Each play says which of how many it is, for how many hosts, and the time since the start.
  - The last lines, one a site, count the hosts that ended well and changed, and name those that failed or were not reached.
  - A host that the run meant but never touched, because it ended early, counts as not reached, and the plays that never started are named.
requirements:
  - enable in callbacks_enabled
"""


@dataclass
class Outcome:
    """What became of the hosts of one site; names, but ``meant``, a count."""

    meant: int = 0
    changed: int = 0
    failed: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)

    def line(self, site: str) -> str:
        """One line for the operator."""
        well = self.meant - len(self.failed) - len(self.unreachable) - len(self.untouched)
        parts = [f"{site}: {well} of {self.meant} hosts ended well, {self.changed} changed"]
        parts += [f"failed: {', '.join(self.failed)}"] if self.failed else []
        lost = self.unreachable + self.untouched
        parts += [f"NOT REACHED: {', '.join(lost)}"] if lost else []
        return "; ".join(parts)


def outcomes(meant: dict[str, str], summaries: dict[str, dict[str, int]]) -> dict[str, Outcome]:
    """Outcome by site.

    ``meant``: host -> site of every host that a play of the run named. ``summaries``: host -> counts as AggregateStats.summarize
    gives them (ok, failures, unreachable, changed, skipped, rescued, ignored); a host that is missing was never touched.
    """
    sites: dict[str, Outcome] = defaultdict(Outcome)
    for host, site in sorted(meant.items()):
        outcome = sites[site]
        outcome.meant += 1
        counts = summaries.get(host)
        if counts is None:
            outcome.untouched.append(host)
            continue
        outcome.changed += bool(counts["changed"])
        if counts["unreachable"]:
            outcome.unreachable.append(host)
        elif counts["failures"]:
            outcome.failed.append(host)
    return dict(sites)


class CallbackModule(CallbackBase):
    """Adds to the default output, replaces nothing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "run_summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._started = time.monotonic()
        self._plays: list[str] = []
        self._begun = 0
        self._meant: dict[str, str] = {}

    def v2_playbook_on_start(self, playbook):
        """Name the inventory and learn how many plays there are."""
        self._plays = [play.get_name() for play in playbook.get_plays()]
        sources = [source.rstrip("/") for source in context.CLIARGS.get("inventory") or []]
        kind = (
            "the lab"
            if any(source.endswith("lab") for source in sources)
            else "PRODUCTION"
            if any(source.endswith("production") for source in sources)
            else "inventory"
        )
        self._display.display(f"{kind}: {', '.join(sources)}{', check only' if context.CLIARGS.get('check') else ''}")

    def v2_playbook_on_play_start(self, play):
        """Count the play and remember whom it means."""
        self._begun += 1
        manager = play.get_variable_manager()
        hosts = manager._inventory.get_hosts(play.hosts)
        for host in hosts:
            place = {group.name for group in host.get_groups() if "site" in {parent.name for parent in group.parent_groups}}
            self._meant[host.name] = min(place, default="other")
        elapsed = time.monotonic() - self._started
        self._display.display(f"play {self._begun} of {len(self._plays)}, {len(hosts)} hosts, {elapsed:.0f} s since the start")

    def v2_playbook_on_stats(self, stats):
        """One line a site."""
        summaries = {host: stats.summarize(host) for host in stats.processed}
        for site, outcome in outcomes(self._meant, summaries).items():
            bad = outcome.failed or outcome.unreachable or outcome.untouched
            self._display.display(outcome.line(site), color="red" if bad else None)
        if left := self._plays[self._begun :]:
            self._display.display(f"the run ended before: {', '.join(left)}", color="red")
        self._display.display(f"took {time.monotonic() - self._started:.0f} s")
