"""Every part of ansible-core that lsst.ldf.batch uses and ansible-core does not promise to keep. Nothing else imports such a part.

tests/unit/test_batch_core.py says for each name whether the installed ansible-core still has it; ``SUPPORTED`` are the versions that the
differential tests cover. On any other the batch runs its tasks one by one.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import marshal
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import jinja2
from ansible._internal._ansiballz import _builder
from ansible._internal._datatag._tags import Origin
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateCompileContext
from ansible._internal._templating._jinja_plugins import JinjaPluginIntercept
from ansible.executor import module_common
from ansible.module_utils.common.json import Direction, get_module_decoder, get_module_encoder
from ansible.module_utils.common.sentinel import Sentinel
from ansible.playbook.task import Task
from ansible.plugins.action import ActionBase
from ansible.plugins.action import copy as copy_action
from ansible.plugins.loader import action_loader, module_loader
from ansible.release import __version__ as CORE
from ansible.template import Templar

SUPPORTED = ("2.19", "2.21")
PROFILE = "legacy"  # the serialization of every module that does not ask for another; none of ansible-core's does
# What each version must have: (object, attribute).
PRIVATE = [
    (module_common, "recursive_finder"),
    (module_common, "_get_ansible_module_fqn"),
    (module_common, "NEW_STYLE_PYTHON_MODULE_RE"),
    (_builder, "ExtensionManager"),
    (Origin, "get_tag"),
    (ActionBase, "_execute_module"),
    (ActionBase, "_update_module_args"),
    (ActionBase, "_low_level_execute_command"),
    (ActionBase, "_find_needle"),
    (ActionBase, "_remove_tmp_path"),
    (copy_action.ActionModule, "_copy_file"),
    (copy_action.ActionModule, "_ensure_invocation"),
    (copy_action, "_create_remote_copy_args"),
    (copy_action, "_create_remote_file_args"),
    (Task, "post_validate_attribute"),
    (Task, "evaluate_tags"),
    (Task, "get_play"),
    (Templar, "copy_with_new_env"),
    (AnsibleEnvironment, "compile"),
    (AnsibleEnvironment, "compile_expression"),
    (_TemplateCompileContext, "current"),
    (JinjaPluginIntercept, "__getitem__"),
    (JinjaPluginIntercept, "_wrap_and_set_func"),
]


def supported() -> bool:
    """Whether the differential tests cover this ansible-core."""
    return ".".join(CORE.split(".")[:2]) in SUPPORTED


def encode(value: Any) -> str:
    """JSON of what goes to a module, tags and vaulted values resolved as ansible-core does."""
    return json.dumps(value, cls=get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE))


def decode(text: str) -> dict[str, Any]:
    """A module's result from its JSON."""
    return json.loads(text, cls=get_module_decoder(PROFILE, Direction.MODULE_TO_CONTROLLER))


def words(exception: Any) -> str:
    """What a module's result says that was raised, with its causes; empty for nothing."""
    event, found = getattr(exception, "event", None), []
    while event:
        found.append(event.msg)
        event = event.chain.event if event.chain else None
    return ": ".join(found) or str(exception or "")


def finish(task: Task, templar: Templar) -> None:
    """Give the keywords of ``task`` that a batch knows their final values for the variables of ``templar``.

    Its parents are those of the batch's own task and have theirs. All of a task's eighty keywords would take three times as long.
    """
    for keyword in ("name", "args", "notify", "no_log", "diff", "check_mode", "environment", "ignore_errors"):
        value = task.post_validate_attribute(keyword, templar=templar._engine)
        if value is not Sentinel:
            setattr(task, keyword, value)


def stronger(task_vars: dict[str, Any]) -> set[str]:
    """Names of the host's variables that a task's own ``vars`` do not override: set_fact and --extra-vars."""
    manager = task_vars["hostvars"]._variable_manager
    return set(manager.extra_vars) | set(manager._nonpersistent_fact_cache.get(task_vars["inventory_hostname"], ()))


def action_class(name: str, collections: list[str]) -> type[ActionBase]:
    """The class that runs the action ``name`` on the controller, as the task executor chooses it."""
    if name.count(".") > 1 and not name.startswith("ansible.legacy."):
        return _qualified(name)
    return _chosen(name, collections)


@cache
def _qualified(name: str) -> type[ActionBase]:
    # Unlike a short name this one always means the same, whatever directories of plugins roles add.
    return _chosen(name, [])


def _chosen(name: str, collections: list[str]) -> type[ActionBase]:
    chosen = name if action_loader.has_plugin(name, collection_list=collections) else "ansible.legacy.normal"
    return action_loader.get(chosen, class_only=True, collection_list=collections)


@cache
def core_name(cls: type[ActionBase]) -> str | None:
    """``copy`` for ansible-core's own copy action and so on; None for anybody else's. The loader imports core's under another name."""
    path = Path(sys.modules[cls.__module__].__file__).resolve()
    return path.stem if path.parent == Path(copy_action.__file__).resolve().parent else None


def copy_args(args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the copy action sends to the copy module and to the file module."""
    return copy_action._create_remote_copy_args(args), copy_action._create_remote_file_args(args)


class _Tap:
    """Takes the place of the zip archive that ansible-core packs a module into, and notes where each file comes from."""

    compression = 0

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.origins: set[str] = set()

    def writestr(self, entry: Any, data: str | bytes) -> None:
        origin = Origin.get_tag(data)
        if origin and origin.path:
            self.origins.add(str(origin.path))
        self.files[getattr(entry, "filename", entry)] = data.encode() if isinstance(data, str) else bytes(data)

    def namelist(self) -> list[str]:
        return list(self.files)


def collect(modules: Iterable[str], collections: list[str]) -> tuple[dict[str, str], dict[str, bytes], set[str]]:
    """All that ``modules`` need on a host: their Python names by name, the files by path in the bundle, the paths on the controller."""
    tap, names = _Tap(), {}
    for module in sorted(modules):
        found = module_loader.find_plugin_with_context(module, ".py", collection_list=collections)
        if not found.resolved:
            raise LookupError(f"there is no module {module}")
        source = Path(found.plugin_resolved_path)
        data = source.read_bytes()
        if not module_common.NEW_STYLE_PYTHON_MODULE_RE.search(data):
            raise LookupError(f"{module} is no Python module of the new style")
        try:
            fqn = module_common._get_ansible_module_fqn(str(source))
        except ValueError:
            # A module in a role's or project's library has no package of its own; ansible-core lends it this one.
            fqn = f"ansible.modules.{module.rpartition('.')[2]}"
        names[module] = fqn
        tagged = Origin(path=str(source)).tag(data)
        module_common.recursive_finder(module, fqn, tagged, tap, datetime.datetime(2020, 1, 1), _builder.ExtensionManager())
        parts = fqn.split(".")
        tap.files["/".join(parts) + ".py"] = data
        tap.origins.add(str(source))
        for depth in range(1, len(parts)):
            tap.files.setdefault("/".join(parts[:depth]) + "/__init__.py", b"")
    # ansible-core makes these two namespace packages for its zip archive; here they are ordinary directories.
    tap.files |= {"ansible/__init__.py": f"__version__ = {CORE!r}\n".encode(), "ansible/module_utils/__init__.py": b""}
    return names, tap.files, tap.origins


def find_jinja_names_first() -> None:
    """Have a filter or test that only Jinja itself has be found at once, in this process and its forks.

    ansible-core first looks through the collections for its name, for every template anew. Needs its own plugins loaded already.
    """
    search = JinjaPluginIntercept.__getitem__

    def find(self, key):
        known = self._plugin_loader._cached_non_collection_wrappers
        if known and key not in known and key not in self._wrapped_funcs and key in self._jinja_builtins:
            return self._wrap_and_set_func(self._jinja_builtins[key])
        return search(self, key)

    JinjaPluginIntercept.__getitem__ = find


class Compiled:
    """Compiled templates, kept in memory and, a file each, in ``directory``, which only we can write.

    ansible-core compiles each template anew in every worker. A file is named by everything that its code depends on: source, names,
    delimiters and the versions of Python, Jinja and ansible-core.
    """

    MOST = 4000  # files; more are what templates were once
    DELIMITERS = (
        "variable_start_string",
        "variable_end_string",
        "block_start_string",
        "block_end_string",
        "comment_start_string",
        "comment_end_string",
    )
    OPTIONS = ("trim_blocks", "lstrip_blocks", "newline_sequence", "keep_trailing_newline", *DELIMITERS)

    def __init__(self, directory: Path):
        self.directory = directory
        self.codes: dict[str, CodeType] = {}
        self.expression: str | None = None  # the key of the expression that is being compiled
        files = list(directory.iterdir())
        for file in files:
            if len(files) > self.MOST:
                file.unlink(missing_ok=True)
            else:
                self._read(file.name)

    def install(self) -> None:
        """Have ansible-core's environment ask here first, in this process and its forks."""
        compile_template, compile_expression, kept = AnsibleEnvironment.compile, AnsibleEnvironment.compile_expression, self

        def compile(self, source, name=None, filename=None, raw=False, defer_init=False):
            key = kept.key(self, "template", source, name, filename) if isinstance(source, str) else kept.expression
            if raw or defer_init or key is None:
                return compile_template(self, source, name, filename, raw, defer_init)
            return kept.get(key) or kept.put(key, compile_template(self, source, name, filename))

        def expression(self, source, undefined_to_none=True):
            kept.expression = kept.key(self, "expression", source)
            try:
                code = kept.get(kept.expression)
                if code is None:
                    return compile_expression(self, source, undefined_to_none)
                template = self.template_class.from_code(self, code, self.make_globals(None), None)
                return jinja2.environment.TemplateExpression(template, undefined_to_none)
            finally:
                kept.expression = None

        AnsibleEnvironment.compile, AnsibleEnvironment.compile_expression = compile, expression

    def key(self, environment: jinja2.Environment, *what: Any) -> str:
        """The name of a template's code: ``what`` it is and how ``environment`` reads it."""
        context = _TemplateCompileContext.current(optional=True)
        options = [getattr(environment, option) for option in self.OPTIONS] + [context.escape_backslashes if context else None]
        versions = (CORE, jinja2.__version__, sys.version)
        return hashlib.sha256(repr((*(part and str(part) for part in what), options, versions)).encode()).hexdigest()

    def get(self, key: str) -> CodeType | None:
        """The code, from memory or from what another process wrote."""
        return self.codes.get(key) or self._read(key)

    def _read(self, key: str) -> CodeType | None:
        try:
            self.codes[key] = code = marshal.loads((self.directory / key).read_bytes())
        except (OSError, ValueError, EOFError, TypeError):
            return None
        return code

    def put(self, key: str, code: CodeType) -> CodeType:
        """Keep ``code``; other processes see all of it or nothing."""
        self.codes[key] = code
        part = self.directory / f".{key}.{os.getpid()}"
        try:
            part.write_bytes(marshal.dumps(code))
            part.replace(self.directory / key)
        except (OSError, ValueError):
            part.unlink(missing_ok=True)
        return code
