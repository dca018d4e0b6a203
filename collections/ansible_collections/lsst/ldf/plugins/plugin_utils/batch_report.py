"""What a batch tells: the one result of its task, with everything that a person and ansible-core need to know of its tasks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_core
from ansible_collections.lsst.ldf.plugins.plugin_utils.batch_request import Row

HIDDEN = "hidden, because of no_log"


def label(row: Row) -> str:
    """The task's name, with the item unless it may be a secret."""
    return f"{row.name} (item={row.label})" if row.label is not None and not row.no_log else row.name


def state(row: Row) -> str:
    """How a task or an item of its loop ended: changed, failed, ignored, ok or skipped."""
    if row.failure is not None:
        return "ignored" if row.ignore else "failed"
    return "changed" if row.changed else "skipped" if row.skipped else "ok"


def reason(row: Row) -> str:
    """Why a row failed."""
    if row.no_log:
        return HIDDEN
    found = row.failure or {}
    return str(found.get("msg") or batch_core.words(found.get("exception")) or found.get("stderr") or "no reason given")


def task_state(rows: list[Row]) -> str:
    """How a task ended whose items are ``rows``: a failed one counts, then a changed one; it was skipped when all were."""
    states = {state(row) for row in rows}
    return next((one for one in ("failed", "changed", "ignored", "ok") if one in states), "skipped")


def notified(rows: list[Row]) -> list[str]:
    """The handlers of a task that changed. As in ansible-core, those of all its items, if any of them changed and none failed."""
    if any(row.failure is not None for row in rows) or not any(row.changed for row in rows):
        return []
    return [name for row in rows if not row.skipped for name in row.notify]


def told(rows: list[Row], field: str) -> list[Any]:
    """Warnings or deprecations of all results, each once."""
    found: list[Any] = []
    for row in rows:
        for result in row.results:
            found += [each for each in result.get(field) or () if each not in found]
    return found


def diffs(rows: Iterable[Row]) -> list[Any]:
    """The differences of what changed."""
    found: list[Any] = []
    for row in rows:
        for result in row.results:
            diff = result.get("diff")
            if result.get("changed") and diff and not row.no_log:
                found += diff if isinstance(diff, list) else [diff]
    return found


def lines(rows: list[Row]) -> list[tuple[str, str]]:
    """One line for each task or item that did not simply do nothing: its state and its words."""
    return [
        (state(row), label(row) + (f": {reason(row)}" if row.failure is not None else ""))
        for row in rows
        if state(row) in ("changed", "failed", "ignored")
    ]


def result(rows: list[Row], tasks: int) -> tuple[dict[str, Any], list[str]]:
    """The result of the batch's task, and the handlers to notify. ``tasks``: how many the file holds.

    ``tasks`` (list of {name, state, msg}) names what changed or failed; ``batch`` counts tasks: ok (changed ones included, as in the
    recap), changed, ignored, skipped and not_run. A failed batch has the failed module's own result in ``failed_result``.
    """
    by_task = [list(group) for _, group in groupby(rows, key=lambda row: row.number)]
    states = [task_state(group) for group in by_task]
    named = [
        {"name": label(row), "state": state(row)} | ({"msg": reason(row)} if row.failure is not None else {})
        for row in rows
        if state(row) in ("changed", "failed", "ignored")
    ]
    found: dict[str, Any] = {
        "changed": any(row.changed for row in rows),
        "tasks": named,
        "batch": {
            "ok": sum(one in ("ok", "changed", "ignored") for one in states),
            "changed": sum(any(row.changed for row in group) for group in by_task),
            "ignored": states.count("ignored"),
            "skipped": states.count("skipped"),
            "not_run": tasks - len(by_task),
        },
    }
    for field in ("warnings", "deprecations"):
        if words := told(rows, field):
            found[field] = words
    if shown := diffs(rows):
        found["diff"] = shown
    if wrong := next((row for row in rows if state(row) == "failed"), None):
        found |= {"failed": True, "msg": f"{label(wrong)}: {reason(wrong)}"}
        if not wrong.no_log:
            found["failed_result"] = {key: value for key, value in wrong.failure.items() if key not in ("invocation", "exception")}
            if "exception" in wrong.failure:
                found["exception"] = wrong.failure["exception"]
    return found, list(dict.fromkeys(name for group in by_task for name in notified(group)))
