"""The host's half, played on this machine: a request in, an answer out, and what stays known in between."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import batch_runner as br
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_bundle, batch_core


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A directory of bundles, as on a host."""
    place = tmp_path_factory.mktemp("home") / "lsst_ldf_batch"
    bundle = batch_bundle.bundle(frozenset(("ansible.legacy.copy", "ansible.legacy.file")), ())
    done = subprocess.run(
        [sys.executable, "-c", batch_bundle.INSTALL, place, bundle.sha256], input=bundle.archive, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return place


@pytest.fixture
def home(installed):
    """The same, with nothing in mind of earlier runs."""
    for pending in installed.glob("pending-*"):
        pending.unlink()
    return installed


def python(code: str, home: Path, data: bytes = b"") -> subprocess.CompletedProcess:
    """What the controller has the host's Python do."""
    name = next(path.name for path in home.iterdir() if path.is_dir())
    return subprocess.run([sys.executable, "-c", code, home, name], input=data, capture_output=True, check=False)


def directory(path: Path, task: int = 0, **more) -> dict:
    """A step that wants a directory."""
    args = {"path": str(path), "state": "directory", "_ansible_check_mode": more.get("check", False), "_ansible_remote_tmp": "/tmp"}
    params = batch_core.encode({"ANSIBLE_MODULE_ARGS": args})
    step = {"task": task, "item": 0, "notify": ["h"], "ignore": False, "check": False, "whole": False, "env": {}, "params": params}
    return step | {"module": "ansible.builtin.file", "fqn": "ansible.modules.file"} | more


def ask(home: Path, *steps: dict, **more) -> dict:
    """The answer to a request."""
    request = {"batch": "b", "id": "1", "steps": steps, "probes": True, "predicted": [], "remote_tmp": "/tmp", "heard": False} | more
    done = python(batch_bundle.BOOT, home, json.dumps(request).encode())
    assert br.MARK in done.stdout.decode(), done
    return json.loads(done.stdout.decode().rpartition(br.MARK)[2])


def changed(answer: dict) -> list[bool]:
    results = [result if isinstance(result, dict) else json.loads(result) for _, result in answer["results"]]
    return [result["changed"] for result in results]


def test_steps_run_in_order_and_once(home, tmp_path):
    steps = [directory(tmp_path / "a"), directory(tmp_path / "a" / "b")]
    assert changed(ask(home, *steps)) == [True, True]
    assert changed(ask(home, *steps, id="2")) == [False, False]


def test_stops_after_the_task_that_failed(home, tmp_path):
    """The other items of its loop still run, later tasks do not."""
    (tmp_path / "file").touch()
    steps = [directory(tmp_path / "file" / "no"), directory(tmp_path / "item"), directory(tmp_path / "later", task=1)]
    answer = ask(home, *steps)
    assert len(answer["results"]) == 2 and (tmp_path / "item").is_dir() and not (tmp_path / "later").exists()


def test_goes_on_after_an_ignored_failure(home, tmp_path):
    (tmp_path / "file").touch()
    answer = ask(home, directory(tmp_path / "file" / "no", ignore=True), directory(tmp_path / "later", task=1))
    assert len(answer["results"]) == 2 and (tmp_path / "later").is_dir()


def test_a_request_whose_answer_was_lost(home, tmp_path):
    """The same run asks again and learns what changed; another run does not, once it was heard."""
    first = ask(home, directory(tmp_path / "a"), id="lost")
    again = ask(home, directory(tmp_path / "a"), id="lost")
    assert changed(first) == [True] and changed(again) == [False]
    assert again["earlier"] == [{"task": 0, "item": 0, "notify": ["h"], "same": True}]
    assert again["pending"] == 1
    ask(home, id="lost", heard=True)
    assert ask(home, directory(tmp_path / "a"), id="next")["earlier"] == []


def test_a_run_that_did_not_get_through(home, tmp_path):
    """Its handlers are told to every run until one of them was heard."""
    ask(home, directory(tmp_path / "a"), directory(tmp_path / "b", notify=[]), id="killed")
    for run in ("next", "heard"):
        answer = ask(home, directory(tmp_path / "a"), id=run)
        assert answer["earlier"] == [{"task": 0, "item": 0, "notify": ["h"], "same": False}] and answer["pending"] == 1
    ask(home, id="heard", heard=True)
    assert ask(home, directory(tmp_path / "a"), id="last")["earlier"] == []


def test_nobody_listens(home, tmp_path):
    """An answer that cannot be sent is no answer."""
    request = {
        "batch": "b",
        "id": "gone",
        "steps": [directory(tmp_path / "a")],
        "probes": True,
        "predicted": [],
        "remote_tmp": "/tmp",
        "heard": False,
    }
    name = next(path.name for path in home.iterdir() if path.is_dir())
    runner = subprocess.Popen(
        [sys.executable, "-c", batch_bundle.BOOT, home, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    runner.stdout.close()
    runner.communicate(json.dumps(request).encode())
    assert (tmp_path / "a").is_dir()
    assert ask(home, directory(tmp_path / "a"), id="next")["earlier"] == [{"task": 0, "item": 0, "notify": ["h"], "same": False}]


def test_a_check_predicts_paths(home, tmp_path):
    answer = ask(home, directory(tmp_path / "a", check=True))
    assert changed(answer) == [True] and str(tmp_path / "a") in answer["predicted"] and not (tmp_path / "a").exists()


@pytest.mark.parametrize("which", [False, ["apt"]])
def test_probes_can_be_switched_off(home, tmp_path, which):
    """Then the real module answers, which says more than a probe."""
    step = directory(tmp_path, whole=True)
    _, probed = ask(home, step)["results"][0]
    _, real = ask(home, step, probes=which)["results"][0]
    assert "gid" not in probed and "gid" in json.loads(real)


def test_old_python_is_named(home):
    done = python(batch_bundle.BOOT.replace(batch_bundle.OLDEST, "(9, 9)"), home)
    assert done.returncode and f"LSST_LDF_BATCH_PYTHON {sys.version_info[0]}.{sys.version_info[1]}" in done.stderr.decode()


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ('{"a": 1}\n', '{"a": 1}'),
        ('hello {\n{"a": 1}\nbye }\n', '{"a": 1}'),
        ('{"a": 1}\n{"b": 2}\n', '{"b": 2}'),
        ('{"a": 1}\n{broken}\n', '{"a": 1}'),
        ("nothing\n", None),
        ("", None),
    ],
)
def test_json_of(printed, found):
    assert br.json_of(printed) == found


@pytest.mark.parametrize(
    ("result", "bad"),
    [({}, False), ({"rc": 0}, False), ({"rc": 2}, True), ({"failed": True}, True), ({"failed": False, "rc": 2}, False)],
)
def test_failed(result, bad):
    assert br.failed(result) == bad
