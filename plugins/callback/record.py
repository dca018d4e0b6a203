"""Keep what a scenario's first converge told and left behind, for tests that compare it with another way to the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from ansible import context
from ansible.parsing.ajson import AnsibleJSONEncoder
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: aggregate
short_description: keep what a Molecule scenario's first converge told and left behind
description:
  - Does nothing unless the environment names a directory, E(LSST_RECORD), and a shell script, E(LSST_RECORD_STATE). The first
    C(converge.yml) that ends well fills the directory. C(told.json) has the tasks with their hosts' results, as the callback
    P(ansible.posix.json#callback) has them; C(state.json) what the script printed in each container, by host; C(secrets) is a copy of the
    scenario's keys.
requirements:
  - enable in callbacks_enabled
"""


class CallbackModule(CallbackBase):
    """Silent."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook):
        """See whether this run is the one."""
        self._directory = Path(os.environ.get("LSST_RECORD", "/dev/null"))
        wanted = Path(playbook._file_name).name == "converge.yml" and not context.CLIARGS["check"]
        self.disabled = not wanted or not self._directory.is_dir() or any(self._directory.iterdir())
        self._tasks = []

    def _keep(self, told, **more):
        self._tasks.append({"task": {"name": told.task.get_name()}, "hosts": {told.host.name: told.result | more}})

    def v2_runner_on_ok(self, result):
        """Keep it."""
        self._keep(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """Keep it."""
        self._keep(result, failed=True)

    def v2_playbook_on_stats(self, stats):
        """Look into the containers, and write all."""
        if stats.failures or stats.dark:
            return
        script = Path(os.environ["LSST_RECORD_STATE"]).read_bytes()
        state = {}
        for host in stats.processed:
            done = subprocess.run(["podman", "exec", "-i", host, "bash"], input=script, stdout=subprocess.PIPE, check=True)
            state[host] = done.stdout.decode().splitlines()
        shutil.copytree(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets", self._directory / "secrets")
        (self._directory / "state.json").write_text(json.dumps(state))
        (self._directory / "told.json").write_text(json.dumps({"plays": [{"tasks": self._tasks}]}, cls=AnsibleJSONEncoder, sort_keys=True))
