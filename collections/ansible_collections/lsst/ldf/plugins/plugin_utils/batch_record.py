"""ansible-core's own actions, whose module runs are written down as steps of a batch instead of done one by one."""

from __future__ import annotations

import hashlib
import stat
from functools import cache
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.playbook.task import Task
from ansible.plugins.action import ActionBase
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_core, batch_tasks
from ansible_collections.lsst.ldf.plugins.plugin_utils.batch_request import Requests, Row


class Recorded:
    """Mixed into an action. ``requests`` and ``row`` say where its module runs belong."""

    TRANSFERS_FILES = False  # a remote temporary directory beforehand would be a trip of its own
    requests: Requests
    row: Row

    def _execute_module(self, module_name=None, module_args=None, tmp=None, task_vars=None, **_more):
        name, args = self._module(module_name, module_args, task_vars)
        self.requests.add(self.row, name, args)
        return {}

    def _module(self, name: str | None, args: dict[str, Any] | None, task_vars: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
        """Name and arguments as ansible-core would send them."""
        name, args = name or self._task.action, dict(self._task.args if args is None else args)
        self._update_module_args(name, args, task_vars or {})
        return name, args

    def _remove_tmp_path(self, tmp_path, force=False):
        """There is none."""


class Asked(Recorded):
    """For an action that goes on with the answer: its first module run takes everything along that waits."""

    def _execute_module(self, module_name=None, module_args=None, tmp=None, task_vars=None, **_more):
        return self.requests.now(self.row, *self._module(module_name, module_args, task_vars))


class RecordedCopy(Recorded):
    """For the copy action: its questions about the host's file are answered there."""

    def _remote_expand_user(self, path, sudoable=True, pathsep=None):
        return path

    def _ensure_invocation(self, result, *_args, **_more):
        return result

    def _copy_file(self, source_full, source_rel, content, content_tempfile, dest, task_vars, follow):
        args = self._task.args
        if boolean(args.get("raw", False), strict=False):
            raise AnsibleActionFail("A batch does not know raw. Allowed is a copy without it; move the task out of the batch.")
        real = Path(self._loader.get_real_file(source_full, decrypt=boolean(args.get("decrypt", True), strict=False)))
        data = real.read_bytes()
        if args.get("mode") == "preserve":
            args = args | {"mode": f"0{stat.S_IMODE(real.stat().st_mode):03o}"}
        sha1 = hashlib.sha1(data).hexdigest()
        to_copy, to_file = batch_core.copy_args(args)
        to_copy = {key: value for key, value in to_copy.items() if key != "src"} | {"_original_basename": source_rel, "follow": follow}
        to_file = {key: value for key, value in to_file.items() if key != "src"}
        to_file |= {"_original_basename": source_rel, "recurse": False, "state": "file"}
        _, copy_params = self._module("ansible.legacy.copy", {"checksum": sha1} | to_copy, task_vars)
        _, file_params = self._module("ansible.legacy.file", to_file, task_vars)
        asked = {
            "module": self._task.action,
            "dest": str(dest),
            "name": source_rel,
            "sha1": sha1,
            "follow": bool(follow),
            "force": boolean(args.get("force", True), strict=False),
            "inline": content is not None,
            "source": str(source_full),
            "diff": bool(self._task.diff),
            "no_log": bool(self._task.no_log),
            "max_diff": constants.MAX_FILE_SIZE_FOR_DIFF,
            "file": file_params,
        }
        self.requests.add(self.row, "ansible.legacy.copy", copy_params, asked, data)
        self._remove_tempfile_if_content_defined(content, content_tempfile)
        return {"changed": False}


class RecordedTemplate(Recorded):
    """For the template action: it renders as ever; the copy action that it then asks for is ours."""

    def run(self, tmp=None, task_vars=None):
        self._shared_loader_obj = _CopyLoader(self)
        # The action extends this list in place.
        return super().run(tmp, task_vars | {"ansible_search_path": list(task_vars.get("ansible_search_path", ()))})


class _CopyLoader:
    """Takes the place of the loader that the template and shell actions ask for another action."""

    def __init__(self, outer: Recorded):
        self.outer, self.action_loader = outer, self

    def get(self, name: str, **arguments: Any) -> ActionBase:
        made = recorder(batch_core.action_class(name, []), name.rpartition(".")[2])(**arguments)
        made.requests, made.row = self.outer.requests, self.outer.row
        return made


class RecordedShell(Recorded):
    """For the shell action, which asks for the command action."""

    def run(self, tmp=None, task_vars=None):
        self._shared_loader_obj = _CopyLoader(self)
        return super().run(tmp, task_vars)


MIXINS = {
    "normal": Recorded,
    "command": Recorded,
    "shell": RecordedShell,
    "copy": RecordedCopy,
    "template": RecordedTemplate,
    "assert": Recorded,
    "own": Asked,
}


@cache
def recorder(cls: type[ActionBase], kind: str) -> type[ActionBase]:
    """The action class ``cls``, recording; ``kind`` as batch_tasks.kind names it."""
    return type(f"Recorded{cls.__name__}", (MIXINS[kind], cls), {})


def make(task: Task, owner: ActionBase, row: Row, requests: Requests | None) -> ActionBase:
    """The action for ``task``, recording into ``requests``, or without them its own; ``owner``: the batch's action."""
    cls = batch_core.action_class(task.action, task.collections or [])
    if requests:
        cls = recorder(cls, batch_tasks.kind(task))
    made = cls(
        task=task,
        connection=owner._connection,
        play_context=owner._play_context,
        loader=owner._loader,
        templar=owner._templar,
        shared_loader_obj=owner._shared_loader_obj,
    )
    made.requests, made.row = requests, row
    return made
