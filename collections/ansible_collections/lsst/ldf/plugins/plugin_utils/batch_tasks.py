"""The tasks file of a batch: which tasks it may hold, and what is wrong with one that it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.playbook.task import Task
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_core

KEYWORDS = frozenset(
    (
        "name",
        "when",
        "loop",
        "loop_control",
        "vars",
        "notify",
        "no_log",
        "diff",
        "check_mode",
        "environment",
        "ignore_errors",
        "tags",
        "args",
    )
)
LOOP_KEYWORDS = frozenset(("loop_var", "index_var", "label"))
# ansible-core's own actions whose work on the host is one module with arguments that the controller knows before, or nothing.
ACTIONS = frozenset(("normal", "command", "shell", "copy", "template", "assert"))
# What tasks files use most, and all modules of this collection: those that need nothing else share one bundle, which a host compiles once.
COMMON = frozenset(
    [f"ansible.legacy.{name}" for name in ("copy", "file", "command")]
    + [f"ansible.builtin.{name}" for name in ("apt", "copy", "file", "group", "user")]
    + [f"lsst.ldf.{path.stem}" for path in (Path(__file__).parents[1] / "modules").glob("*.py") if "AnsibleModule(" in path.read_text()]
)
# Words of the playbook language that look like modules.
LANGUAGE = frozenset(("include_tasks", "import_tasks", "include_role", "import_role", "import_playbook", "meta"))
ELSEWHERE = "Move the task out of the batch into an ordinary tasks file."
REMEDIES = {
    "register": "A batch has no results between its tasks. Let a module see for itself what is due, or move the task out of the batch.",
    "become": "Put it on the task that names the batch, or move the task out of the batch.",
    "block": "Write its tasks one by one.",
    "service": "Name the service manager's module: ansible.builtin.systemd_service.",
    "package": "Name the package manager's module: ansible.builtin.apt.",
}


_made: dict[tuple[Any, ...], list[Task]] = {}


class Unfit(AnsibleError):
    """A task that no batch may hold."""


def load(path: str, loader: Any, batch: Task) -> list[Task]:
    """The tasks of the file ``path``, with the parents of ``batch``, the batch's own task; Unfit when a keyword is not allowed.

    They are made once and handed over from one batch to the next: whoever evaluates them copies them.
    """
    key = path, Path(path).stat().st_mtime_ns, tuple(batch.collections or ())
    if key not in _made:
        _made[key] = [Task.load(entry, block=batch._parent, role=batch._role, loader=loader) for entry in _read(path, loader)]
    for task in _made[key]:
        task._parent, task._role = batch._parent, batch._role
    return _made[key]


def _read(path: str, loader: Any) -> list[dict[str, Any]]:
    entries = loader.load_from_file(path, cache="none", trusted_as_template=True) or []
    if not isinstance(entries, list):
        raise Unfit(f"{path} is no list of tasks. Allowed is a flat tasks file.", obj=entries)
    for entry in entries:
        judge_keywords(entry, path)
    return entries


def judge_keywords(entry: Any, path: str) -> None:
    """Raise Unfit for a keyword that would need the controller between two tasks."""
    if not isinstance(entry, dict):
        raise Unfit(f"{path}: {entry!r} is no task.", obj=entry)
    name = entry.get("name", "a task without a name")
    control = entry.get("loop_control") or {}
    wrong = [
        key
        for key in entry
        if key not in KEYWORDS and (key in Task.fattributes or key in ("block", "local_action", "action") or key[:5] == "with_")
    ]
    wrong += [f"loop_control.{key}" for key in control if key not in LOOP_KEYWORDS]
    if wrong:
        remedy = REMEDIES.get(wrong[0].partition("_")[0], REMEDIES.get(wrong[0], ELSEWHERE))
        raise Unfit(
            f"'{name}' in {path} uses the keyword {wrong[0]}, which a batch does not know. "
            f"Allowed: {', '.join(sorted(KEYWORDS))}. {remedy}",
            obj=entry,
        )


def kind(task: Task) -> str:
    """How a task's action goes into a batch: one of ``ACTIONS``, or ``own``.

    ``own`` is an action plugin that names its modules in ``BATCH_MODULES`` and reaches the host by ``_execute_module`` alone.
    """
    cls = batch_core.action_class(task.action, task.collections or [])
    core = batch_core.core_name(cls)
    short = task.action.rpartition(".")[2]
    if core in ACTIONS and short not in LANGUAGE:
        return core
    if hasattr(cls, "BATCH_MODULES"):
        return "own"
    raise Unfit(
        f"'{task.get_name()}' uses the action {task.action}, which needs more of the controller than one module on the host. Allowed: "
        f"modules, command, shell, copy, template, assert, actions that are made for it. {REMEDIES.get(short, ELSEWHERE)}",
        obj=task.get_ds(),
    )


def modules(tasks: list[Task]) -> frozenset[str]:
    """The modules that a host needs for ``tasks``."""
    needed = set(COMMON)
    for task in tasks:
        which = kind(task)
        if which == "own":
            needed.update(batch_core.action_class(task.action, task.collections or []).BATCH_MODULES)
        elif which == "normal":
            needed.add(task.action)
    return frozenset(needed)
