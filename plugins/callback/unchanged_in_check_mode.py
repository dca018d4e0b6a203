"""End a --check run with an error when a task reports a change."""

from __future__ import annotations

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: unchanged_in_check_mode
type: aggregate
short_description: fail a --check run that reports a change
description:
  - Makes C(ansible-playbook --check) exit with 3 when any task reports a change.
  - A change is the mark of drift, or of a task that does not know check mode.
requirements:
  - enable in callbacks_enabled
"""


class CallbackModule(CallbackBase):
    """Looks at the recap only."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "unchanged_in_check_mode"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_stats(self, stats):
        """Exit with 3 on a change in check mode."""
        changed = {host: count for host, count in stats.changed.items() if count}
        if context.CLIARGS.get("check") and changed:
            self._display.error(f"check mode reports changes on converged hosts: {changed}")
            # SystemExit is no Exception, so the callback machinery lets it through.
            raise SystemExit(3)
