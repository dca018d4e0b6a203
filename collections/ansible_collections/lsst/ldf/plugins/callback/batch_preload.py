"""Do once, before the workers are forked, what each of them would do again for every batch."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase
from ansible_collections.lsst.ldf.plugins.module_utils.role_specs import read_role
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_bundle, batch_core, batch_tasks

DOCUMENTATION = """
name: batch_preload
type: aggregate
short_description: make runs with lsst.ldf.batch faster
description:
  - Loads the plugins that every worker needs, reads the tasks files of batches and, for M(lsst.ldf.validate_roles), the roles' argument
    specs, prepares what batches need on the hosts, and keeps compiled templates between runs, in the directory C(lsst_ldf_batch) under
    Ansible's home.
  - Changes nothing but the time that a run takes. Without it everything works.
requirements:
  - enable in callbacks_enabled
"""
PLUGINS = [
    (loader.connection_loader, "ansible.builtin.ssh"),
    (loader.shell_loader, "ansible.builtin.sh"),
    (loader.become_loader, "ansible.builtin.sudo"),
    (loader.action_loader, "ansible.builtin.template"),
    (loader.action_loader, "ansible.builtin.copy"),
    (loader.lookup_loader, "ansible.builtin.file"),
]


class CallbackModule(CallbackBase):
    """Speaks only when asked to be verbose."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "lsst.ldf.batch_preload"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook):
        """Load plugins, read compiled templates."""
        self._known = set()
        if not batch_core.supported():
            return
        for kind, name in PLUGINS:
            kind.get(name, class_only=True)
        for kind in (loader.filter_loader, loader.test_loader):
            for _ in kind.all():
                pass
        batch_core.find_jinja_names_first()
        batch_core.decode(batch_core.encode({}))
        if place := batch_bundle.cache_directory("templates"):
            batch_core.Compiled(place).install()

    def v2_playbook_on_play_start(self, play):
        """What is there now stays: a worker that collects garbage need not touch, and so copy, its pages."""
        self._loader = play._loader
        gc.collect()
        gc.freeze()

    def v2_playbook_on_task_start(self, task, is_conditional):
        """Read the tasks file of a batch, or all argument specs; whatever is wrong with them the task itself will say."""
        # Under the strategy free a task starts again for every host.
        if task._uuid in self._known:
            return
        self._known.add(task._uuid)
        if task.action == "lsst.ldf.validate_roles":
            for top in constants.DEFAULT_ROLES_PATH:
                for path in Path(top).glob("*/meta/argument_specs.yml"):
                    with suppress(AnsibleError):
                        read_role(path.parent.parent, self._loader)
        if task.action != "lsst.ldf.batch":
            return
        name = task.args.get("file") or task.args.get("_raw_params")
        try:
            path = self._loader.path_dwim_relative_stack(task.get_search_path(), "tasks", name)
            tasks = batch_tasks.load(path, self._loader, task)
            batch_bundle.bundle(batch_tasks.modules(tasks), tuple(task.collections or ()))
        except (AnsibleError, LookupError, OSError) as error:
            self._display.vv(f"batch_preload: {error}")
