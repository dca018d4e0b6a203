"""lsst.ldf.daq_sdk and daq_sdk_info as hosts run them: killed, two at once, on a full disk, under a process that maps a library."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from tarfile import DIRTYPE, LNKTYPE, SYMTYPE
from types import SimpleNamespace
from urllib.error import HTTPError

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lsst.ldf.plugins.module_utils import daq
from ansible_collections.lsst.ldf.plugins.modules import daq_client, daq_sdk, daq_sdk_info

CHANGES = {f"os.{name}" for name in ("mkdir", "rename", "remove", "rmdir", "chmod", "link", "symlink", "utime")}


def members(version):
    return [
        (f"{version}/", (DIRTYPE, "")),
        (f"{version}/x86/lib/libdaq.so.1", f"code of {version}".encode()),
        (f"{version}/x86/lib/libdaq.so", (SYMTYPE, "libdaq.so.1")),
        (f"{version}/x86/bin/dsid", b"#!/bin/sh\n"),
        (f"{version}/x86/bin/dsid_startup", (LNKTYPE, f"{version}/x86/bin/dsid")),
    ]


class Sdk:
    """The module with its parameters, and the archives of some versions."""

    def __init__(self, base, sources, pack, capsys):
        self.base, self.sources, self.pack, self.capsys = base, sources, pack, capsys
        sources.mkdir(exist_ok=True)

    def params(self, version="R1", state="present", check=False, **params):
        params = {"name": "daq-sdk", "version": version, "state": state, "base_dir": str(self.base), "_ansible_check_mode": check, **params}
        if state == "present" and "src" not in params:
            src = self.sources / f"{version}.tgz"
            params |= {"src": str(src), "checksum": self.pack(src, members(version))}
        return params

    def call(self, main, params):
        with patch_module_args(params), pytest.raises(SystemExit):
            main()
        return json.loads(self.capsys.readouterr().out)

    def __call__(self, *args, **params):
        return self.call(daq_sdk.main, self.params(*args, **params))

    def info(self):
        return self.call(daq_sdk_info.main, {"name": "daq-sdk", "base_dir": str(self.base)})

    def names(self):
        return sorted(str(path.relative_to(self.base)) for path in (*self.base.iterdir(), *(self.base / "dl").glob("*")))

    def library(self, version="R1"):
        return self.base / version / "x86/lib/libdaq.so.1"


@pytest.fixture
def disk(tmp_path):
    """A file system of 1 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "lsst-ldf-test", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def sdk(disk, tmp_path, pack, capsys, monkeypatch):
    # An archive is the same file whenever it is made.
    monkeypatch.setattr(gzip, "time", SimpleNamespace(time=lambda: 0))
    return Sdk(disk / "opt/daq-sdk", tmp_path / "sources", pack, capsys)


def ask(process, params, step=0, module="daq_sdk"):
    print(json.dumps([params, step, module]), file=process.stdin, flush=True)


def serve():
    """For each line [parameters, step, module]: run it, kill it at that change of the disk, and answer with the status of its end."""
    for line in sys.stdin:
        params, step, module = json.loads(line)
        if pid := os.fork():
            print(os.waitpid(pid, 0)[1], flush=True)
            continue
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        sys.addaudithook(killer(step, params["base_dir"]))
        with patch_module_args(params):
            {"daq_sdk": daq_sdk, "daq_client": daq_client}[module].main()


def killer(step, base):
    """A hook that kills the process when it is about to change the disk for the ``step``th time."""
    count = 0

    def hook(event, args):
        nonlocal count
        if event in CHANGES or (event == "open" and str(args[0]).startswith(base) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def test_a_release_is_installed_and_nothing_else_moves(sdk):
    had = sdk()
    assert (had["changed"], had["actions"]) == (True, ["fetch", "install"])
    assert sdk.names() == ["R1", "dl", "dl/R1.tgz"]
    assert sdk.library().read_bytes() == b"code of R1" and str(sdk.library().with_name("libdaq.so").readlink()) == "libdaq.so.1"
    tree = sdk.base / "R1"
    assert (sdk.base / "dl/R1.tgz").stat().st_mode & 0o777 == 0o644
    assert {path.stat().st_mode & 0o777 for path in (sdk.base, tree, *tree.rglob("*")) if path.is_dir()} == {0o755}
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in (tree, *tree.rglob("*"))} == {(os.geteuid(), os.getegid())}
    assert (tree / "x86/bin/dsid_startup").stat().st_mode & 0o777 == 0o755
    again = sdk()
    assert (again["changed"], again["actions"], again["diff"]["before"]) == (False, [], again["diff"]["after"])


def test_the_callers_umask_does_not_matter(sdk):
    umask = os.umask(0o077)
    try:
        sdk()
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in (sdk.base.parent, sdk.base, *sdk.base.rglob("*")) if path.is_dir()} == {0o755}


def test_rpt_sdk_has_its_own_names(sdk, pack, tmp_path):
    sha256 = pack(tmp_path / "x", members("V3.5.3"))
    assert sdk("V3.5.3", name="rpt-sdk", src=str(tmp_path / "x"), checksum=sha256)["changed"]
    assert sdk.names() == ["V3.5.3", "dl", "dl/rce-sdk-V3.5.3.tar.gz"]


def test_current_is_moved_by_its_state_alone(sdk):
    assert "is not there or not whole" in sdk(state="current")["msg"]
    sdk()
    assert sdk(state="current")["actions"] == ["switch"]
    assert (sdk.base / "current").readlink().name == "R1" and sdk(state="current")["changed"] is False
    sdk("R2")
    assert (sdk.base / "current").readlink().name == "R1"
    moved = sdk("R2", state="current")
    assert moved["diff"] == {
        "before": "R1\nR2\ncurrent -> R1\ndl/R1.tgz\ndl/R2.tgz\n",
        "after": "R1\nR2\ncurrent -> R2\ndl/R1.tgz\ndl/R2.tgz\n",
    }
    assert sdk.info()["current"] == "R2"
    shutil.rmtree(sdk.base / "R2")
    assert "R2 is not there or not whole" in sdk("R2", state="current")["msg"]


def test_current_refuses_a_release_that_is_not_whole(sdk):
    sdk()
    sdk.library().write_bytes(b"damaged")
    assert "Install it with state: present first" in sdk(state="current")["msg"]


def test_current_waits_for_processes_unless_forced(sdk, mapper):
    sdk(), sdk("R2"), sdk(state="current")
    name = mapper(sdk.library())
    for check in (True, False):
        refused = sdk("R2", state="current", check=check)
        assert refused["failed"] and f"R1 is current, and is mapped by {name}" in refused["msg"]
        assert (sdk.base / "current").readlink().name == "R1"
    assert [each["version"] for each in sdk.info()["releases"] if each["processes"]] == ["R1"]
    assert sdk("R2", state="current", force=True)["actions"] == ["switch"]
    assert (sdk.base / "current").readlink().name == "R2"
    # Nobody is in the way back: R2 is mapped by no process.
    assert sdk(state="current")["changed"]


def test_a_process_that_knows_the_file_by_another_path(sdk, disk, mapper):
    sdk(), sdk("R2"), sdk(state="current")
    (disk / "elsewhere").hardlink_to(sdk.library())
    name = mapper(disk / "elsewhere")
    assert name in sdk("R2", state="current")["msg"]
    mapper.stop()
    assert sdk("R2", state="current")["changed"]


def test_absent(sdk, mapper):
    sdk(), sdk("R2"), sdk(state="current")
    assert "R1 is what current in" in sdk(state="absent")["msg"]
    name = mapper(sdk.library("R2"))
    assert f"R2 is to be removed, but is mapped by {name}" in sdk("R2", state="absent")["msg"]
    mapper.stop()
    predicted = sdk("R2", state="absent", check=True)
    done = sdk("R2", state="absent")
    assert predicted == done and done["removed"] == ["R2"]
    assert sdk.names() == ["R1", "current", "dl", "dl/R1.tgz"]
    assert sdk("R2", state="absent")["changed"] is False


def test_keep_spares_the_current_one_and_those_in_use(sdk, mapper):
    for version in ("R1", "R2", "R3", "R4"):
        sdk(version)
    sdk(state="current")
    mapper(sdk.library("R2"))
    had = sdk("R5", keep=1)
    assert had["removed"] == ["R4", "R3"] and had["actions"] == ["fetch", "install", "remove"]
    assert sdk.names() == ["R1", "R2", "R5", "current", "dl", "dl/R1.tgz", "dl/R2.tgz", "dl/R5.tgz"]
    assert sdk("R5", keep=1)["changed"] is False
    mapper.stop()
    assert sdk("R5", state="current", keep=1)["removed"] == ["R2", "R1"]
    assert sdk("R5", state="current", keep=1)["changed"] is False
    assert sdk.names() == ["R5", "current", "dl", "dl/R5.tgz"]


@pytest.mark.parametrize(
    ("change", "actions", "damaged"),
    [
        (lambda sdk: sdk.library().write_bytes(b"c0de of R1"), ["install"], ["R1/x86/lib/libdaq.so.1"]),
        (lambda sdk: sdk.library().unlink(), ["install"], ["R1/x86/lib/libdaq.so.1"]),
        (lambda sdk: (sdk.base / "R1" / daq.MANIFEST).unlink(), ["install"], ["R1", "dl/R1.tgz"]),
        (lambda sdk: (sdk.base / "dl/R1.tgz").unlink(), ["fetch"], ["dl/R1.tgz"]),
        (lambda sdk: (sdk.base / "dl/R1.tgz").write_bytes(b""), ["fetch"], ["dl/R1.tgz"]),
    ],
)
def test_what_is_damaged_is_told_and_repaired(sdk, change, actions, damaged):
    sdk()
    assert sdk.info()["releases"][0]["verified"] is True
    change(sdk)
    told = sdk.info()["releases"][0]
    assert (told["verified"], told["damaged"]) == (False, damaged)
    predicted, done = sdk(check=True), sdk()
    assert predicted == done and done["actions"] == actions
    assert sdk.info()["releases"][0]["verified"] is True and sdk()["changed"] is False
    assert sdk.names() == ["R1", "dl", "dl/R1.tgz"]


def test_what_is_damaged_and_in_use_is_left_alone(sdk, mapper):
    sdk()
    (sdk.base / "R1/x86/bin/dsid").unlink()
    name = mapper(sdk.library())
    refused = sdk()
    assert f"R1 is not whole (x86/bin/dsid), but is mapped by {name}" in refused["msg"] and sdk.library().exists()
    mapper.stop()
    assert sdk()["actions"] == ["install"]


def test_check_mode_changes_nothing_and_predicts(sdk, disk):
    def look():
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in disk.rglob("*")}

    for step in ({}, {"version": "R2"}, {"state": "current"}, {"version": "R3", "keep": 1}, {"version": "R3", "state": "absent"}):
        before = look()
        predicted = sdk(check=True, **step)
        assert look() == before
        assert predicted == sdk(**step) and predicted["changed"], step
        assert predicted["diff"]["after"].split("\n")[:-1] == sorted(daq.contents(sdk.base))


def test_a_check_of_a_bare_host_ends_well(sdk):
    assert sdk(check=True)["actions"] == ["fetch", "install"] and sdk(state="current", check=True)["actions"] == ["switch"]
    assert sdk(state="absent", check=True)["changed"] is False and not sdk.base.exists()
    assert sdk(state="absent")["changed"] is False and sdk.info()["releases"] == []


def test_info(sdk):
    sdk(), sdk("R10"), sdk(state="current")
    (sdk.base / "ccs-production").symlink_to("R10")
    told = sdk.info()
    assert told["changed"] is False and told["current"] == "R1" and told["links"] == {"current": "R1", "ccs-production": "R10"}
    assert [each["version"] for each in told["releases"]] == ["R10", "R1"]
    assert told["releases"][1] == {
        "version": "R1",
        "size": sum(path.stat().st_size for path in (sdk.base / "R1").rglob("*") if path.is_file() and not path.is_symlink()),
        "archive_size": (sdk.base / "dl/R1.tgz").stat().st_size,
        "checksum": sdk.params()["checksum"],
        "verified": True,
        "damaged": [],
        "processes": [],
    }


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"checksum": "0" * 64}, "with the SHA-256 "),
        ({"src": "/none"}, "/none cannot be had: "),
        ({"src": "none.tgz"}, "none.tgz cannot be had: unknown url type"),
        ({"src": "https://depot/missing"}, "https://depot/missing cannot be had: HTTP Error 404"),
        ({"version": "R2"}, "The archive of R2 holds R1, which is not in the directory R2."),
        ({"version": "a/b"}, "version is 'a/b'."),
        ({"keep": 0}, "keep is 0."),
    ],
)
def test_what_cannot_be_had_leaves_nothing(sdk, monkeypatch, params, told):
    def open_url(url, timeout):
        if url.startswith("https:"):
            raise HTTPError(url, 404, "Not Found", {}, None)
        raise ValueError(f"unknown url type: {url!r}")

    monkeypatch.setattr(daq_sdk, "open_url", open_url)
    failed = sdk(**{**sdk.params(), **params})
    assert failed["failed"] and told in failed["msg"] and "\nAllowed: " in failed["msg"]
    assert not sdk.base.exists() or sdk.names() == []


def test_a_url(sdk, monkeypatch):
    params = sdk.params()
    content = (sdk.sources / "R1.tgz").read_bytes()

    def open_url(url, timeout):
        response = io.BytesIO(content)
        response.headers = {"Content-Length": str(len(content))}
        return response

    monkeypatch.setattr(daq_sdk, "open_url", open_url)
    assert sdk(**{**params, "src": "https://depot/media/R1.tgz"})["actions"] == ["fetch", "install"]
    content = content[:100]
    refused = sdk(**{**sdk.params("R2"), "src": "https://depot/media/R2.tgz"})
    assert "https://depot/media/R2.tgz gave 100 bytes of 100 with the SHA-256" in refused["msg"]


@pytest.mark.parametrize("operation", ["install", "repair", "remove", "switch"])
def test_killed_at_any_step(sdk, victim, monkeypatch, operation):
    """A kill leaves a release whole or not there, and the next run ends as if there had been none."""
    params = sdk.params(state={"remove": "absent", "switch": "current"}.get(operation, "present"))
    monkeypatch.setattr(daq, "holders", lambda base: daq.Holders({}, []))
    step, status = 0, signal.SIGKILL
    while status:
        step += 1
        sdk("R0"), sdk("R0", state="current")
        if operation != "install":
            sdk()
        if operation == "repair":
            sdk.library().unlink()
        ask(victim, params, step)
        status = int(victim.stdout.readline())
        assert status in (0, signal.SIGKILL)
        tree, archive = sdk.base / "R1", sdk.base / "dl/R1.tgz"
        assert not tree.exists() or daq.damage(tree) == [] or (operation == "repair" and daq.damage(tree) == ["x86/lib/libdaq.so.1"])
        assert not archive.exists() or daq.is_kept(archive, sdk.params()["checksum"])
        assert (sdk.base / "current").readlink().name in (("R0", "R1") if operation == "switch" else ("R0",))
        sdk.call(daq_sdk.main, params)
        assert sdk.call(daq_sdk.main, params)["changed"] is False
        if operation == "remove":
            assert sdk.names() == ["R0", "current", "dl", "dl/R0.tgz"]
        else:
            assert sdk.names() == ["R0", "R1", "current", "dl", "dl/R0.tgz", "dl/R1.tgz"] and daq.damage(tree) == []
            sdk("R0", state="current"), sdk(state="absent")
    assert step > {"install": 20, "repair": 20, "remove": 5, "switch": 2}[operation]


def test_two_at_once(sdk, victims):
    """The second one waits for the first, and has nothing to do: it would wait for the pipe's content in vain."""
    params = sdk.params()
    pipe = sdk.sources / "pipe"
    os.mkfifo(pipe)
    both = [victims(), victims()]
    for each in both:
        ask(each, {**params, "src": str(pipe)})
    with pipe.open("wb") as stream:
        time.sleep(1)
        stream.write((sdk.sources / "R1.tgz").read_bytes())
    assert [int(each.stdout.readline()) for each in both] == [0, 0]
    assert daq.damage(sdk.base / "R1") == [] and sdk.names() == ["R1", "dl", "dl/R1.tgz"]


def big(sdk, pack, size):
    src = sdk.sources / "big.tgz"
    return {"src": str(src), "checksum": pack(src, [*members("R2"), ("R2/data", size)])}


@pytest.mark.parametrize(("data", "needs"), [(bytes(3 << 20), r"3.03 MiB"), (os.urandom(2 << 20), r"2 MiB")], ids=["unpacked", "archive"])
def test_a_disk_that_is_too_small_is_told_before(sdk, pack, data, needs):
    sdk()
    failed = sdk("R2", **big(sdk, pack, data))
    assert "has room for" in failed["msg"] and f"R2 needs {needs}" in failed["msg"] and "nothing was written" in failed["msg"]
    assert sdk.names() == ["R1", "dl", "dl/R1.tgz"] and sdk()["changed"] is False


@pytest.mark.parametrize("data", [bytes(3 << 20), os.urandom(2 << 20)], ids=["unpacked", "archive"])
def test_a_disk_that_gets_full(sdk, pack, monkeypatch, data):
    sdk()
    monkeypatch.setattr(daq, "refuse_without_room", lambda release, needed: None)
    failed = sdk("R2", **big(sdk, pack, data))
    assert "No space left on device" in failed["msg"] and "what has the name of a release is whole" in failed["msg"]
    assert not [name for name in sdk.names() if name.startswith(".")] and sdk()["changed"] is False and "R2" not in sdk.names()


@pytest.mark.parametrize("name", ["save", "flush"])
def test_a_disk_that_says_so_late(sdk, monkeypatch, name):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(daq, name, full)
        assert "No space left on device" in sdk()["msg"]
        assert not (sdk.base / "R1").exists() and not list(sdk.base.glob(".*"))
    assert sdk()["changed"]


def test_processes_that_nobody_can_look_into_are_told(sdk, monkeypatch):
    monkeypatch.setattr(daq, "holders", lambda base: daq.Holders({}, [daq.Process(1, "init")]))
    told = []
    monkeypatch.setattr(daq_sdk.AnsibleModule, "warn", lambda self, text: told.append(text))
    sdk(), sdk()
    assert len(told) == 1 and told[0].startswith("Nobody can say what init (1) has mapped. Allowed: ")
    assert sdk.info()["unknown"] == [{"pid": 1, "name": "init"}]
