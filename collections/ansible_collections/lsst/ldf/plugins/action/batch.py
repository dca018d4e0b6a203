"""Run a flat tasks file in one trip to the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleActionSkip, AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.playbook.task import Task
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_core, batch_record, batch_report, batch_tasks
from ansible_collections.lsst.ldf.plugins.plugin_utils.batch_bundle import bundle
from ansible_collections.lsst.ldf.plugins.plugin_utils.batch_request import Requests, Row, Stopped

display = Display()
COLORS = {"changed": constants.COLOR_CHANGED, "failed": constants.COLOR_ERROR, "ignored": constants.COLOR_WARN}


class ActionModule(ActionBase):
    """See modules/batch.py, which documents it."""

    TRANSFERS_FILES = False
    supports_raw_params = True

    def run(self, tmp=None, task_vars=None):
        """Evaluate the tasks, have the host run them, tell what became of them."""
        super().run(tmp, task_vars)
        name = self._task.args.get("file") or self._task.args.get("_raw_params")
        if not name:
            raise AnsibleActionFail("lsst.ldf.batch names no file. Allowed is the name of a tasks file, as for include_tasks.")
        path = self._find_needle("tasks", name)
        tasks = batch_tasks.load(path, self._loader, self._task)
        needed = batch_tasks.modules(tasks)  # refuses what does not fit before anything runs, whichever way it would
        self._requests = None
        if self._may_batch(task_vars):
            probes = self._probes(task_vars)
            try:
                packed = bundle(needed, tuple(self._task.collections or ()))
            except LookupError as error:
                raise AnsibleActionFail(f"{path}: {error}") from error
            self._requests = Requests(self, packed, f"{self._task._role or ''} {name}", probes, task_vars)
        rows: list[Row] = []
        try:
            for row in self._rows(tasks, task_vars):
                rows.append(row)
        except Stopped:
            pass
        finally:
            self._templar.available_variables = task_vars
        if self._requests and not self._requests.stopped:
            self._requests.flush()
            # A check run leaves handlers that an earlier run did not get to for a real one, a failed one for the next.
            if not (self._task.check_mode or self._requests.stopped or any(batch_report.state(row) == "failed" for row in rows)):
                self._requests.heard()
        return self._told(rows, len(tasks), task_vars["inventory_hostname"])

    def _may_batch(self, task_vars: dict[str, Any]) -> bool:
        """Whether the tasks go in one trip; otherwise each runs by itself, and one warning says why."""
        if not boolean(self._templar.template(task_vars.get("lsst_ldf_batch", True))):
            why = "lsst_ldf_batch is false"
        elif not batch_core.supported():
            why = f"ansible-core {batch_core.CORE} is none of {', '.join(batch_core.SUPPORTED)}"
        elif not self._connection.has_pipelining:
            why = f"the connection {self._connection.transport} has no pipelining"
        else:
            return True
        display.warning(f"lsst.ldf.batch runs its tasks one by one: {why}.")
        return False

    def _probes(self, task_vars: dict[str, Any]) -> bool | list[str]:
        """The switch for the probes: on, off, or the names of those that are on."""
        wanted = self._templar.template(task_vars.get("lsst_ldf_batch_probes", True))
        return list(wanted) if isinstance(wanted, (list, tuple)) else boolean(wanted)

    def _rows(self, tasks: list[Task], task_vars: dict[str, Any]) -> Iterator[Row]:
        """Every task, or every item of its loop, evaluated and on its way to the host; none after one that failed."""
        play = self._task.get_play()
        stronger = None
        for number, task in enumerate(tasks):
            variables = task_vars
            if task.vars:
                stronger = batch_core.stronger(task_vars) if stronger is None else stronger
                variables = task_vars | {key: value for key, value in task.vars.items() if key not in stronger}
            self._templar.available_variables = variables
            if not task.evaluate_tags(play.only_tags, play.skip_tags, variables):
                continue
            bad = False
            for row in self._items(number, task, variables):
                yield row
                bad = bad or batch_report.state(row) == "failed"
            if bad:
                return

    def _items(self, number: int, task: Task, variables: dict[str, Any]) -> Iterator[Row]:
        if task.loop is None:
            yield self._evaluated(Row(number, task.name or task.action), task, variables)
            return
        control = task.loop_control
        try:
            items = self._templar.template(task.loop)
            if not isinstance(items, list):
                raise AnsibleError(f"loop is {items!r}. Allowed is a list; edit the task.")
        except AnsibleError as error:
            # Without its items a task can still be skipped as a whole.
            row = self._evaluated(Row(number, task.name or task.action), task, variables, only_when=True)
            if not row.skipped:
                row.results = [{"failed": True, "msg": str(error)}]
            yield row
            return
        for index, item in enumerate(items):
            inner = variables | {control.loop_var: item, "ansible_loop_var": control.loop_var}
            if control.index_var:
                inner |= {control.index_var: index, "ansible_index_var": control.index_var}
            self._templar.available_variables = inner
            shown = self._label(control.label, item)
            yield self._evaluated(Row(number, task.name or task.action, str(shown), index), task, inner)

    def _label(self, template: str | None, item: Any) -> Any:
        """How the item is shown; a label that cannot be rendered fails nothing, as in ansible-core from 2.20 on."""
        try:
            return self._templar.template(template) if template else item
        except AnsibleError as error:
            display.warning(f"A label of loop_control cannot be rendered: {error}")
            return item

    def _evaluated(self, row: Row, task: Task, variables: dict[str, Any], only_when: bool = False) -> Row:
        """The row with what its task means for ``variables``: skipped, failed here, or recorded for the host (or done, without a batch)."""
        row.no_log = bool(task.no_log or self._task.no_log)  # a template hides until it is known
        try:
            if not all(self._templar.evaluate_conditional(condition) for condition in task.when):
                row.skipped = True
                return row
            if only_when:
                return row
            mine = task.copy(exclude_parent=True, exclude_tasks=True)
            mine._parent = task._parent
            batch_core.finish(mine, self._templar)
            # Keywords of the batch's own task hold for tasks that say nothing themselves.
            for keyword in ("check_mode", "diff"):
                if keyword in (self._task.get_ds() or {}) and keyword not in task.get_ds():
                    setattr(mine, keyword, getattr(self._task, keyword))
            mine.no_log = bool(mine.no_log or self._task.no_log)
            row.name, row.notify = mine.name or mine.action, list(mine.notify or ())
            row.no_log, row.ignore, row.check = mine.no_log, bool(mine.ignore_errors), bool(mine.check_mode)
            row.environment = {key: str(value) for each in mine.environment or () for key, value in (each or {}).items()}
            outcome = batch_record.make(mine, self, row, self._requests).run(task_vars=variables)
            # What the action says before the host has answered counts only when it is the end.
            if not self._requests or batch_tasks.kind(mine) in ("own", "assert") or outcome.get("failed") or outcome.get("skipped"):
                row.results.append(outcome)
            row.skipped = any(result.get("skipped") for result in row.results) and row.steps == 0
        except AnsibleConnectionFailure:
            raise
        except AnsibleActionSkip:
            row.skipped = True
        except AnsibleError as error:
            row.results.append(getattr(error, "result", None) or {"failed": True, "msg": str(error)})
        return row

    def _told(self, rows: list[Row], tasks: int, host: str) -> dict[str, Any]:
        """The batch's result; a line on the screen for each task that changed or failed."""
        handlers: list[str] = []
        if self._requests:
            # Changes whose answer was lost on the way, and handlers that an earlier run did not get to.
            for change in self._requests.earlier:
                row = next((row for row in rows if (row.number, row.item) == (change["task"], change["item"])), None)
                if change["same"] and row and not row.changed and row.failure is None:
                    row.results.append({"changed": True})
                handlers += change["notify"]
            if self._requests.stopped:
                end = min((row.number for row in rows if batch_report.state(row) == "failed"), default=tasks)
                rows = [row for row in rows if row.number <= end]
        result, notified = batch_report.result(rows, tasks)
        for state, words in batch_report.lines(rows):
            display.display(f"{state}: [{host}] => {words}", color=COLORS[state])
        if handlers:
            result["changed"] = True
        # ansible-core reads this after the action has run; it does so when the result says changed.
        self._task.notify = list(dict.fromkeys([*(self._task.notify or ()), *notified, *handlers])) or None
        return result
