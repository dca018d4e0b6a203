"""Write what the tests may know of a host: its connection and the options of its roles."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible_collections.lsst.ldf.plugins.module_utils.role_specs import find_role, read_role

CONNECTION = ("ansible_connection", "ansible_host", "ansible_user", "ansible_ssh_common_args", "lsst_ldf_tests_connection")


class ActionModule(ActionBase):
    """Controller side only; documented in modules/role_settings.py."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Write the file and return its path; never changed, because no host is touched."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, given = self.validate_argument_spec(
            {"roles": {"type": "list", "elements": "str", "required": True}, "dest": {"type": "path", "required": True}}
        )
        settings = {}
        for name in given["roles"]:
            options, defaults = read_role(find_role(name, self._loader.get_basedir()), self._loader)
            values = {key: variables.get(key, defaults.get(key)) for key, option in options.items() if not option.get("no_log")}
            settings[name] = {key: self._templar.template(value) for key, value in values.items() if key in variables or key in defaults}
        connection = {key: self._templar.template(variables[key]) for key in CONNECTION if key in variables}
        dest = Path(given["dest"])
        content = json.dumps(
            {"name": variables["inventory_hostname"], "connection": connection, "settings": settings}, indent=1, sort_keys=True
        )
        dest.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(content)
        return result | {"changed": False, "dest": str(dest)}
