"""Do once, before the workers are forked, what each of them would do again for every batch."""

from __future__ import annotations

import gc

from ansible.errors import AnsibleError
from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_bundle, batch_core, batch_tasks

DOCUMENTATION = """
name: batch_preload
type: aggregate
short_description: make runs with lsst.ldf.batch faster
description:
  - Loads the plugins that every worker needs, reads the tasks files of batches, prepares what they need on the hosts, and keeps compiled
    templates between runs, in the directory C(lsst_ldf_batch) under Ansible's home.
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
        if not batch_core.supported():
            return
        for kind, name in PLUGINS:
            kind.get(name, class_only=True)
        for kind in (loader.filter_loader, loader.test_loader):
            for _ in kind.all():
                pass
        batch_core.find_jinja_names_first()
        if place := batch_bundle.cache_directory("templates"):
            batch_core.Compiled(place).install()

    def v2_playbook_on_play_start(self, play):
        """What is there now stays: a worker that collects garbage need not touch, and so copy, its pages."""
        self._loader = play._loader
        gc.collect()
        gc.freeze()

    def v2_playbook_on_task_start(self, task, is_conditional):
        """Read the tasks file of a batch; whatever is wrong with it the batch itself will say."""
        if task.action != "lsst.ldf.batch":
            return
        name = task.args.get("file") or task.args.get("_raw_params")
        try:
            path = self._loader.path_dwim_relative_stack(task.get_search_path(), "tasks", name)
            tasks = batch_tasks.load(path, self._loader, task)
            batch_bundle.bundle(batch_tasks.modules(tasks), tuple(task.collections or ()))
        except (AnsibleError, LookupError, OSError) as error:
            self._display.vv(f"batch_preload: {error}")
