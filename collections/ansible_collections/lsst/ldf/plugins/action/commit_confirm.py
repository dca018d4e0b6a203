"""The controller's half of lsst.ldf.commit_confirm: have the host change, come back over a new connection, confirm."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible.template import trust_as_template

MODULE = "lsst.ldf.commit_confirm"
# ssh's words for a connection that stood and broke, perhaps by the change itself; any other failure came before the change.
BROKEN = ("closed", "reset by peer", "Broken pipe", "not responding")
PAUSE = 2.0  # seconds between two attempts to come back
PATIENCE = 90.0  # seconds beyond the timer in which a host must have restored itself and answer again


class ActionModule(ActionBase):
    """See modules/commit_confirm.py, which documents both."""

    BATCH_MODULES = ("lsst.ldf.commit_confirm",)

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        files = [rendered(self, file, task_vars) if "template" in file else file for file in self._task.args.get("files", [])]
        return commit(self, self._task.args | {"files": files}, task_vars)


def commit(action: ActionBase, args: dict, task_vars: dict) -> dict:
    """Make the change that ``args`` describe and confirm it; also for other actions that change what can lock them out."""
    args = {"edit": edit_hint(action), "timeout": 60} | args | {"run": secrets.token_hex(8)}
    broken = None
    try:
        result = action._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        if result.get("failed") or not result.pop("unconfirmed", False):
            return result
    except AnsibleConnectionFailure as error:
        if action._task.check_mode or not any(words in str(error) for words in BROKEN):
            raise
        result, broken = {"changed": True, "files": [file["dest"] for file in args["files"]], "actions": []}, error
    answer = come_back(action, args, task_vars)
    if answer == "confirmed":
        return result
    if broken and answer in ("unknown", "silent"):
        raise broken
    return {"failed": True, "changed": False, "msg": explain(answer, args, result["files"], task_vars)}


def rendered(action: ActionBase, file: dict, task_vars: dict) -> dict:
    """The ``file`` with its content instead of its template, rendered as M(ansible.builtin.template) does."""
    source = Path(action._find_needle("templates", file["template"]))
    search = [str(source.parent), *(path for top in task_vars.get("ansible_search_path", []) for path in (f"{top}/templates", top))]
    variables = {"ansible_managed": constants.config.get_config_value("DEFAULT_MANAGED_STR")} | task_vars
    templar = action._templar.copy_with_new_env(searchpath=search, available_variables=variables)
    content = templar.template(trust_as_template(source.read_text()), escape_backslashes=False, overrides={"trim_blocks": True})
    return {key: value for key, value in file.items() if key != "template"} | {"content": str(content)}


def come_back(action: ActionBase, args: dict, task_vars: dict) -> str:
    """What the host answers to a confirmation over a new connection; ``silent`` when it never does."""
    end = time.monotonic() + float(args["timeout"]) + PATIENCE
    confirmation = {"name": args["name"], "files": [], "phase": "confirm", "run": args["run"]}
    while True:
        forget_connection(action)
        try:
            # A broken sudo or Python locks out as well as a closed port: only an answer of the module counts.
            answer = action._execute_module(module_name=MODULE, module_args=confirmation, task_vars=task_vars).get("answer", "applying")
        except AnsibleError:
            answer = "silent"
        if answer not in ("applying", "silent") or time.monotonic() > end:
            return answer
        time.sleep(PAUSE)


def forget_connection(action: ActionBase) -> None:
    """Make the next command open a connection of its own: a warm one would still work where new ones are refused."""
    if type(action._connection).reset is not ConnectionBase.reset:
        action._connection.reset()


def edit_hint(action: ActionBase) -> str:
    """Where the values of the calling role are set."""
    role = action._task._role
    return f"inventories/production/group_vars/*/{role.get_name()}.yml" if role else str(action._task.get_path())


def explain(answer: str, args: dict, files: list[str], task_vars: dict) -> str:
    """The message for an unconfirmed change of ``files``: what is wrong, what is allowed, what to edit."""
    host = task_vars["inventory_hostname"]
    changed = f" ({', '.join(files)})" if files else ""
    outcome = {
        "restored": f"{host} has restored the old state by itself and answers again.",
        "unknown": f"{host} answers again, but another run has replaced this change.",
    }.get(answer, f"{host} does not answer although it should have restored the old state by now: look at its console.")
    return (
        f"The new configuration{changed} locked Ansible out of {host}: no new connection within {float(args['timeout']):g} s.\n"
        f"{outcome}\nAllowed is only what lets Ansible log in and become root over a new connection. Correct {args['edit']} and run again."
    )
