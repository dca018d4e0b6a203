"""The host's half of lsst.ldf.batch: runs the steps of a batch one after another from one Python process.

It travels with the modules in the bundle and imports nothing of them until a step really needs its module.

Request (JSON on standard input): ``batch`` (str, names the tasks file), ``id`` (str, one a run of the batch), ``steps`` (list), ``probes``
(bool or list of module names), ``predicted`` (paths that earlier steps of a check run would have changed), ``remote_tmp`` (str), ``heard``
(bool: every answer of this run has arrived).

A step: ``task`` (int), ``item`` (int, of its loop), ``notify`` (list of str), ``ignore`` (bool, its failure stops nothing), ``check``
(bool), ``whole`` (bool, its result is wanted as it is even when nothing changed), ``env`` (dict of str), ``module`` (str, as the task names
it), ``fqn`` (str, its Python name), ``params`` (str, the JSON for the module) and, for a file that travels, ``copy`` (dict, see Copy).

Answer: a line MARK + JSON with ``results`` (list of [step, result]; a result is the module's own JSON text or a dict), ``predicted``,
``earlier`` (what changed without an answer that tells it: list of {task, item, notify, same}; ``same``: in this run), ``pending`` (int,
how many changes with handlers are remembered until the control side has heard of them) and, when a big content has to travel after all,
``need`` (step).
"""

from __future__ import annotations

# Few and light ones: most batches find everything as it should be and are through in less time than larger imports take.
import fcntl
import gc
import hashlib
import json
import os
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

MARK = "\nLSST_LDF_BATCH "
LOCK_WAIT = 600.0  # seconds that another batch, perhaps one whose connection was lost, may take on the same host
# What of an unchanged step's result is worth its way back.
KEPT = ("changed", "skipped", "msg", "rc", "warnings", "deprecations")


def failed(result: dict) -> bool:
    """Whether a module's result means a failure, by the rule of ansible-core."""
    return bool(result["failed"]) if "failed" in result else result.get("rc", 0) not in (0, "0", None)


class Pending:
    """What a run of the batch has changed, in a file until the control side has heard of it: names of handlers outlive a lost answer."""

    def __init__(self, home: str, batch: str, run: str):
        self.path = os.path.join(home, f"pending-{hashlib.sha256(batch.encode()).hexdigest()[:16]}.json")
        self.run = run
        try:
            with open(self.path) as stream:
                found = json.load(stream)
        except (OSError, ValueError):
            found = {"id": run, "changes": []}
        # The same run asks again: an answer may have been lost. Of another run, which nobody heard to its end, only the handlers matter.
        same = found["id"] == run
        self.changes = [change for change in found["changes"] if same or change["notify"]]
        self.earlier = [change | {"same": same} for change in self.changes]

    def add(self, step: dict) -> None:
        """Remember that ``step`` changed something; on disk before the next step begins."""
        change = {key: step[key] for key in ("task", "item", "notify")}
        if change not in self.changes:
            self.changes.append(change)
        # Nobody else writes here at the same time: there is the lock.
        with open(self.path + ".new", "w") as stream:
            json.dump({"id": self.run, "changes": self.changes}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(self.path + ".new", self.path)

    def forget(self) -> None:
        """The control side knows all of it."""
        if os.path.exists(self.path):
            os.unlink(self.path)

    def __len__(self) -> int:
        """How many changes would be lost with their handlers."""
        return sum(bool(change["notify"]) for change in self.changes)


class Copy:
    """A file that travels: what the controller's half of ansible.builtin.copy asks and decides, decided on the host.

    ``copy`` of a step: ``dest`` (str), ``name`` (str, the file's own), ``sha1`` (str), ``text`` or ``base64`` (the content; neither for a
    big one that was not asked for yet), ``follow``, ``force``, ``inline`` (content without a source file), ``diff``, ``no_log`` (bool),
    ``source`` (str, for the diff), ``max_diff`` (bytes), ``file`` ({fqn, params}: the module that sets nothing but attributes).
    """

    def __init__(self, step: dict):
        self.step, self.asked = step, step["copy"]
        self.dest = os.path.expanduser(self.asked["dest"])

    def target(self) -> tuple[str, os.stat_result | None]:
        """The path of the file and what is there."""
        path = os.path.join(self.dest, self.asked["name"]) if self.dest.endswith("/") else self.dest
        there = self._stat(path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            if self.asked["inline"]:
                raise ValueError("can not use content with a dir as dest")
            path = os.path.join(self.dest, self.asked["name"])
            there = self._stat(path)
        return path, there

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            return os.stat(path) if self.asked["follow"] else os.lstat(path)
        except FileNotFoundError:
            return None

    @property
    def content(self) -> bytes | None:
        """What the file shall hold; None when it did not travel yet."""
        if "text" in self.asked:
            return self.asked["text"].encode("utf-8", "surrogateescape")
        if "base64" in self.asked:
            import base64

            return base64.b64decode(self.asked["base64"])
        return None

    def diff(self, path: str, there: os.stat_result | None) -> list[dict]:
        """Before and after, as ansible-core's copy action words them."""
        if not self.asked["diff"]:
            return []
        if self.asked["no_log"]:
            return [{"before": "", "after": " [[ Diff output has been hidden because 'no_log: true' was specified for this result ]]\n"}]
        limit, found = self.asked["max_diff"], {}
        old = read(path) if there is not None else b""
        if b"\0" in old[:8192]:
            found["dst_binary"] = 1
        elif limit and len(old) > limit:
            found["dst_larger"] = limit
        else:
            found |= ({"before_header": path} if there is not None else {}) | {"before": old.decode("utf-8", "replace")}
        new = self.content
        if limit and (new is None or len(new) > limit):
            found["src_larger"] = limit
        elif b"\0" in new:
            found["src_binary"] = 1
        else:
            found |= {"after_header": path if self.asked["inline"] else self.asked["source"], "after": new.decode("utf-8", "replace")}
        return [found]


def read(path: str) -> bytes:
    """What a file holds."""
    with open(path, "rb") as stream:
        return stream.read()


def sha1(path: str) -> str:
    """Checksum by which ansible-core compares files."""
    found = hashlib.sha1()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 18):
            found.update(block)
    return found.hexdigest()


class Wanted(Exception):
    """A big content has to travel after all."""


class Runner:
    """One request on one host."""

    def __init__(self, request: dict, bundle: str):
        self.request, self.bundle = request, bundle
        self.pending = Pending(os.path.dirname(bundle), request["batch"], request["id"])
        self.predicted = list(request["predicted"])
        self.probes = None
        if request["probes"]:
            from ansible_collections.lsst.ldf.plugins.module_utils.batch_probes import Probes

            self.probes = Probes(request["probes"], request["steps"])

    def run(self) -> dict:
        """Run the steps until one fails (its task's other items still run, as in a loop) or wants a content."""
        results, stopped, answer = [], None, {}
        for number, step in enumerate(self.request["steps"]):
            if stopped is not None and step["task"] != stopped:
                break
            try:
                result, text = self.step(step)
            except Wanted:
                answer["need"] = number
                break
            except Exception as error:
                import traceback

                result, text = {"failed": True, "msg": f"{type(error).__name__}: {error}", "module_stderr": traceback.format_exc()}, None
            bad, changed = failed(result), bool(result.get("changed"))
            if changed and step["check"]:
                self.predicted += touched(step, result)
            elif changed and not bad:
                self.pending.add(step)
            if self.probes and (bad or changed):
                self.probes.forget()
            if not bad and not changed and not step["whole"]:
                result, text = {key: result[key] for key in KEPT if key in result}, None
            results.append([number, text or result])
            if bad and not step["ignore"]:
                stopped = step["task"]
        return answer | {
            "results": results,
            "predicted": self.predicted,
            "earlier": self.pending.earlier,
            "pending": len(self.pending),
        }

    def step(self, step: dict) -> tuple[dict, str | None]:
        """The result of a step, and its JSON text when a real module wrote it."""
        if "copy" in step:
            return self.copy(step)
        if self.probes and not step["env"]:
            known = self.probes.answer(step["module"], json.loads(step["params"])["ANSIBLE_MODULE_ARGS"], self.predicted)
            if known is not None:
                return known, None
        return self.module(step["fqn"], step["params"], step["env"])

    def copy(self, step: dict) -> tuple[dict, str | None]:
        """Have the file's content and attributes be as asked."""
        copy = Copy(step)
        asked, extra = copy.asked, {}
        path, there = copy.target()
        if there is not None and not asked["force"]:
            return {"changed": False}, None
        if there is None or not stat.S_ISREG(there.st_mode) or sha1(path) != asked["sha1"]:
            # A check run needs no content: what is too big to travel at once is too big to be shown as well.
            if copy.content is None and not (step["check"] and (asked["max_diff"] or not asked["diff"])):
                raise Wanted
            if diff := copy.diff(path, there):
                extra["diff"] = diff
            if step["check"]:
                return {"changed": True, "dest": path} | extra, None
            import tempfile

            temporary = os.path.expanduser(self.request["remote_tmp"])
            os.makedirs(temporary, 0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="ansible-tmp-batch-", dir=temporary) as directory:
                source = os.path.join(directory, ".source" + os.path.splitext(path)[1])
                with open(source, "wb") as stream:
                    stream.write(copy.content)
                result, _ = self.module(step["fqn"], with_args(step["params"], src=source, dest=copy.dest), step["env"])
        else:
            dest = os.path.realpath(path) if asked["follow"] and os.path.islink(path) else copy.dest
            params = with_args(asked["file"]["params"], dest=dest)
            result = None
            if self.probes:
                attributes = json.loads(params)["ANSIBLE_MODULE_ARGS"] | {"dest": path if os.path.isdir(dest) else dest}
                result = self.probes.answer("file", attributes, self.predicted, when=step["module"])
            if result is None:
                result, _ = self.module(asked["file"]["fqn"], params, step["env"])
        result = {"checksum": asked["sha1"]} | result | extra
        if "path" in result:
            result.setdefault("dest", result["path"])
        return result, None

    def module(self, fqn: str, params: str, env: dict) -> tuple[dict, str | None]:
        """Run a real module in a child of its own; its result and the JSON it printed."""
        load_basic()
        out, err = os.memfd_create("out"), os.memfd_create("err")
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            self._become_module(fqn, params, env, out, err)
        _, status = os.waitpid(child, 0)
        printed, complaints = slurp(out), slurp(err)
        text = json_of(printed)
        if text is None:
            code = os.waitstatus_to_exitcode(status)
            return {
                "failed": True,
                "msg": "the module gave no result",
                "module_stdout": printed[-4000:],
                "module_stderr": complaints[-4000:],
                "rc": code,
            }, None
        return json.loads(text), text

    def _become_module(self, fqn: str, params: str, env: dict, out: int, err: int) -> None:
        """In the child: run the module the way ansible-core's own wrapper does, and never return."""
        import atexit
        import traceback

        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.closerange(3, 64)  # the lock among them: what a module leaves running must not hold it
            os.environ.update(env)
            if self.predicted:
                os.environ["LSST_LDF_BATCH_PREDICTED"] = json.dumps(self.predicted)
            sys.argv = [fqn]
            from ansible.module_utils._internal._ansiballz import _loader

            _loader.run_module(json_params=params.encode(), profile="legacy", module_fqn=fqn, modlib_path=self.bundle, extensions={})
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                atexit._run_exitfuncs()
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)


def touched(step: dict, result: dict) -> list[str]:
    """The paths that a step of a check run would have changed, as far as its arguments and its result name them."""
    args = json.loads(step["params"])["ANSIBLE_MODULE_ARGS"]
    named = [source.get(key) for source in (args, result) for key in ("path", "dest", "directory")]
    named += result.get("files") or []
    return [path for path in named if isinstance(path, str) and path.startswith("/")]


def with_args(params: str, **more: str) -> str:
    """A module's parameters with ``more`` arguments."""
    return json.dumps({"ANSIBLE_MODULE_ARGS": json.loads(params)["ANSIBLE_MODULE_ARGS"] | more})


def load_basic() -> None:
    """Import what every module needs once, so that the children inherit it."""
    if "ansible.module_utils.basic" not in sys.modules:
        import ansible.module_utils._internal._ansiballz._loader
        import ansible.module_utils.basic  # noqa: F401
        from ansible.module_utils.common.json import Direction, get_module_decoder, get_module_encoder

        for direction in Direction:
            get_module_encoder("legacy", direction)
            get_module_decoder("legacy", direction)
        gc.freeze()


def slurp(descriptor: int) -> str:
    """Everything that was written to a memory file, which is closed."""
    with os.fdopen(descriptor, "rb") as stream:
        stream.seek(0)
        return stream.read().decode("utf-8", "surrogateescape")


def json_of(printed: str) -> str | None:
    """The last line that is a JSON object, as programs and libraries print before and after a module's result."""
    for line in reversed(printed.splitlines()):
        if line.startswith("{") and line.rstrip().endswith("}"):
            try:
                json.loads(line)
            except ValueError:
                continue
            return line
    return None


def wait_for(lock: IO) -> None:
    """Be the only batch on this host and account; TimeoutError when another one does not end."""
    end = time.monotonic() + LOCK_WAIT
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"another batch has been at work on this host for {LOCK_WAIT:g} s ({lock.name})") from None
            time.sleep(0.1)


def answer_with(answer: dict) -> None:
    """Send the answer; BrokenPipeError when nobody listens any more."""
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(bundle: str, text: bytes) -> None:
    """Answer the request ``text``, with the modules under the directory ``bundle``."""
    gc.disable()
    try:
        with open(os.path.join(os.path.dirname(bundle), "lock"), "w") as lock:
            wait_for(lock)
            runner = Runner(json.loads(text), bundle)
            answer = runner.run()
            if runner.request["heard"]:
                runner.pending.forget()
            answer_with(answer)
    except OSError as error:
        answer_with({"error": f"{type(error).__name__}: {error}"})
