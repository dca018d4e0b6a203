"""The conversation with a host: steps that wait to be sent, the trip, and whose result is whose."""

from __future__ import annotations

import base64
import json
import secrets
import shlex
from dataclasses import dataclass, field
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lsst.ldf.plugins.module_utils.batch_runner import MARK, failed
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_core
from ansible_collections.lsst.ldf.plugins.plugin_utils.batch_bundle import BOOT, INSTALL, OLDEST, Bundle

BIG = 256 * 1024  # bytes of a file's content; a bigger one travels only when the host has another one


class Stopped(Exception):
    """An earlier step failed: this one must not run."""


@dataclass
class Row:
    """One task of the batch, or one item of its loop. ``results`` has one entry for each module run, ``steps`` is how many are meant.

    ``label`` names the item of a loop, None without one. ``number`` and ``item`` are the places of the task in the file and of the item in
    its loop: what the host writes down, never a label.
    """

    number: int
    name: str
    label: str | None = None
    item: int = 0
    notify: list[str] = field(default_factory=list)
    no_log: bool = False
    ignore: bool = False
    check: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    skipped: bool = False
    steps: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return any(result.get("changed") for result in self.results)

    @property
    def failure(self) -> dict[str, Any] | None:
        """The result that failed, if one did."""
        return next((result for result in self.results if failed(result)), None)


class Requests:
    """What one run of a batch asks of its host. ``name`` is the batch's own name on the host, ``probes`` the switch for the probes."""

    def __init__(self, action: ActionBase, bundle: Bundle, name: str, probes: bool | list[str], task_vars: dict[str, Any]):
        self.action, self.bundle, self.name, self.probes, self.task_vars = action, bundle, name, probes, task_vars
        self.run = secrets.token_hex(8)
        self.waiting: list[tuple[Row, dict[str, Any], bytes | None]] = []
        self.predicted: list[str] = []
        self.earlier: list[dict[str, Any]] = []
        self.pending = 0
        self.stopped = False

    def add(
        self,
        row: Row,
        module: str,
        params: dict[str, Any],
        copy: dict[str, Any] | None = None,
        content: bytes | None = None,
        whole: bool = False,
    ) -> None:
        """Have ``module`` run with ``params``; for a file that travels ``copy`` says where to and ``content`` what (see batch_runner.Copy).

        ``whole``: somebody wants to read its result even when nothing changed.
        """
        step = {
            "task": row.number,
            "item": row.item,
            "notify": row.notify,
            "ignore": row.ignore,
            "check": row.check,
            "whole": whole,
            "env": row.environment,
            "module": module if copy is None else copy.pop("module"),
            "fqn": self.bundle.python_names[module],
            "params": packed(params),
        }
        if copy is not None:
            file = copy.pop("file")
            step["copy"] = copy | {"file": {"fqn": self.bundle.python_names["ansible.legacy.file"], "params": packed(file)}}
            if len(content) <= BIG:
                step["copy"] |= travelling(content)
        row.steps += 1
        self.waiting.append((row, step, content))

    def now(self, row: Row, module: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send what waits and this module's run with it; its result. Stopped when something before it failed."""
        self.add(row, module, params, whole=True)
        before = len(row.results)
        self.flush()
        if len(row.results) == before:
            raise Stopped
        # The action makes its own result of this one.
        row.steps -= 1
        return row.results.pop()

    def flush(self) -> None:
        """Send what waits."""
        waiting, self.waiting = self.waiting, []
        while waiting:
            answer = self._exchange([step for _, step, _ in waiting])
            for number, result in answer["results"]:
                waiting[number][0].results.append(batch_core.decode(result if isinstance(result, str) else json.dumps(result)))
            self.predicted, self.earlier, self.pending = answer["predicted"], answer["earlier"], answer["pending"]
            if (need := answer.get("need")) is None:
                self.stopped = (
                    self.stopped or len(answer["results"]) < len(waiting) or any(row.failure and not row.ignore for row, _, _ in waiting)
                )
                return
            waiting = waiting[need:]
            waiting[0][1]["copy"] |= travelling(waiting[0][2])

    def heard(self) -> None:
        """Tell the host that its answers have arrived, if it remembers handlers in case they have not."""
        if self.pending:
            self._exchange([], heard=True)

    def _exchange(self, steps: list[dict[str, Any]], heard: bool = False) -> dict[str, Any]:
        """One request and its answer; the bundle goes first when the host has none that can be trusted."""
        remote_tmp = self.action.get_shell_option("remote_tmp", default="~/.ansible/tmp")
        request = {
            "batch": self.name,
            "id": self.run,
            "steps": steps,
            "probes": self.probes,
            "predicted": self.predicted,
            "remote_tmp": remote_tmp,
            "heard": heard,
        }
        home = f"{remote_tmp.rpartition('/')[0]}/lsst_ldf_batch"
        data = json.dumps(request).encode("utf-8", "surrogateescape")
        answer = self._python(BOOT, home, data)
        if "LSST_LDF_BATCH_NEED" in answer["stdout"]:
            sent = self._python(INSTALL, home, self.bundle.archive)
            if sent["rc"]:
                reason = sent["stderr"].strip() or sent["stdout"].strip()
                raise AnsibleActionFail(f"{self._host}: could not install what the batch needs in {home}: {reason}")
            answer = self._python(BOOT, home, data)
        if answer["rc"] == 0 and not answer["stdout"]:
            # Lost on the way. The host knows the run, and what has changed by then it says again.
            answer = self._python(BOOT, home, data)
        return self._read(answer)

    def _read(self, answer: dict[str, Any]) -> dict[str, Any]:
        _, mark, text = answer["stdout"].rpartition(MARK)
        if mark:
            found = json.loads(text.partition("\n")[0])
            if "error" in found:
                raise AnsibleActionFail(f"{self._host}: the batch could not run: {found['error']}")
            return found
        words = answer["stderr"] + answer["stdout"]
        if "LSST_LDF_BATCH_PYTHON" in words:
            have = words.partition("LSST_LDF_BATCH_PYTHON ")[2].split()[0]
            least = ".".join(OLDEST.strip("()").split(", "))
            raise AnsibleActionFail(
                f"{self._host}: its Python is {have}. Allowed: {least} or newer. "
                "Edit ansible_python_interpreter of the host, or set lsst_ldf_batch: false."
            )
        raise AnsibleActionFail(f"{self._host}: the batch gave no answer (exit code {answer['rc']}): {words.strip()[-2000:]}")

    @property
    def _host(self) -> str:
        return self.task_vars["inventory_hostname"]

    def _python(self, code: str, home: str, data: bytes) -> dict[str, Any]:
        interpreter = constants.config.get_config_value("INTERPRETER_PYTHON", variables=self.task_vars)
        interpreter = self.action._templar.template(interpreter)
        if interpreter.startswith("auto"):
            interpreter = self.task_vars.get("ansible_facts", {}).get("discovered_interpreter_python", "/usr/bin/python3")
        command = shlex.join([interpreter, "-c", code]) + f" {home if home.startswith('~') else shlex.quote(home)} {self.bundle.sha256}"
        return self.action._low_level_execute_command(command, in_data=data)


def packed(args: dict[str, Any]) -> str:
    """What a module reads on its standard input."""
    return batch_core.encode({"ANSIBLE_MODULE_ARGS": args})


def travelling(content: bytes) -> dict[str, str]:
    """A file's content as JSON can hold it."""
    try:
        return {"text": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}
