"""lsst.ldf.daq_client as hosts run it: real libraries that are loaded or crash, a process that maps one, a run that is killed."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lsst.ldf.plugins.module_utils import daq, daq_client
from ansible_collections.lsst.ldf.plugins.modules import daq_client as module
from test_daq_sdk import ask

OWN = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
OLD, NEW = "R5-V8.1", "R5-V11.3"
HOLDERS = daq.holders
# What a library's constructor does when it is loaded.
CODE = {"good": "", "crash": "abort();", "end": "_exit(3);", "hang": "pause();"}


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """A shared library of each kind."""
    place = tmp_path_factory.mktemp("libraries")
    for name, code in CODE.items():
        source = f"#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void begin(void) {{ {code} }}\n"
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", place / name]
        subprocess.run(command, input=source, text=True, check=True)
    return place


class Host:
    """A host with two releases that load, a newer libreadline than they want, and the applications of ``etc``."""

    def __init__(self, root, libraries, capsys):
        self.root, self.libraries, self.capsys = root, libraries, capsys
        self.base, self.etc, self.lib = root / "opt/daq-sdk", root / "etc/ccs", root / "usr/lib64"
        self.etc.mkdir(parents=True), self.lib.mkdir(parents=True)
        for name in ("libreadline.so.8", "libreadline.so.8.2", "libreadline.so"):
            shutil.copy(libraries / "good", self.lib / name)
        self.release(OLD), self.release(NEW)

    def release(self, version, **kinds):
        """Installs a release with libdaq.so, a good one, and others by their kind."""
        tree = self.base / version
        (tree / "x86/lib").mkdir(parents=True)
        for name, kind in {"libdaq": "good", **kinds}.items():
            shutil.copy(self.libraries / kind, tree / f"x86/lib/{name}.so")
        self.whole(version)

    def whole(self, version):
        tree = self.base / version
        entries = {str(path.relative_to(tree)): daq.describe(path) for path in tree.rglob("*") if path.name != daq.MANIFEST}
        (tree / daq.MANIFEST).write_text(json.dumps({"sha256": "1", "entries": entries}))

    def params(self, version=OLD, check=False, **params):
        own = {"base_dir": str(self.base), "setup_file": str(self.etc / "daqv5-setup"), "library_dir": str(self.lib), **OWN}
        return {"version": version, "applications": ["store", "comcam-ih"], **own, "_ansible_check_mode": check, **params}

    def __call__(self, *args, **params):
        with patch_module_args(self.params(*args, **params)), pytest.raises(SystemExit):
            module.main()
        return json.loads(self.capsys.readouterr().out)

    def pin(self):
        link = self.base / "ccs-production"
        return str(link.readlink()) if link.is_symlink() else ""

    def look(self):
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino, path.lstat().st_mode) for path in self.root.rglob("*")}


@pytest.fixture
def host(tmp_path, libraries, capsys, monkeypatch):
    # A machine may have many processes; the test that has one of its own looks at them.
    monkeypatch.setattr(daq, "holders", lambda base: daq.Holders({}, []))
    return Host(tmp_path / "host", libraries, capsys)


def test_a_client_is_pinned_and_its_applications_find_the_release(host):
    done = host()
    names = [str(host.lib / "libreadline.so.6"), *(str(host.etc / name) for name in ("daqv5-setup", "store.app", "comcam-ih.app"))]
    assert done["changed"] and done["changes"] == [*names, str(host.base / "ccs-production")]
    assert (done["loaded"], done["pinned"], done["previous"]) == (["libdaq.so"], OLD, "")
    assert host.pin() == OLD and str((host.lib / "libreadline.so.6").readlink()) == "libreadline.so.8"
    assert (host.etc / "store.app").read_text() == "system.pre-execute=daqv5-setup\n"
    told = subprocess.run(
        ["sh", "-euc", '. "$1"; echo "$DAQ_HOME $LD_LIBRARY_PATH"', "sh", host.etc / "daqv5-setup"],
        env={}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    home = host.base / "ccs-production"
    assert told.stdout == f"{home} {home}/x86/lib\n"
    assert {path.stat().st_mode & 0o7777 for path in host.etc.iterdir()} == {0o644}
    before = host.look()
    again = host()
    assert (again["changed"], again["changes"], again["diff"], again["previous"]) == (False, [], [], OLD) and host.look() == before


def test_the_pin_moves_and_the_newer_release_has_another_libreadline(host):
    host()
    moved = host(NEW)
    assert moved["changes"] == [str(host.lib / "libreadline.so.7"), str(host.base / "ccs-production")]
    assert (moved["previous"], moved["pinned"], host.pin()) == (OLD, NEW, NEW)
    link = host.base / "ccs-production"
    assert moved["diff"][-1] == {
        "before_header": str(link),
        "after_header": str(link),
        "before": f"{link} -> {OLD}\n",
        "after": f"{link} -> {NEW}\n",
    }
    assert host()["changes"] == [str(link)] and host.pin() == OLD


def test_a_pinned_client_stays_where_it_is_when_asked_to(host):
    assert host(OLD, keep=True)["changed"]
    stays = host(NEW, keep=True)
    assert (stays["changed"], stays["previous"], stays["pinned"], host.pin()) == (False, OLD, OLD, OLD)
    assert host(NEW)["pinned"] == NEW and host.pin() == NEW


def test_a_process_keeps_its_release_unless_forced(host, mapper, monkeypatch):
    monkeypatch.setattr(daq, "holders", HOLDERS)
    host()
    name = mapper(host.base / OLD / "x86/lib/libdaq.so")
    before = host.look()
    for check in (True, False):
        refused = host(NEW, check=check)
        assert refused["failed"] and f"{OLD} is ccs-production, and is mapped by {name}.\nAllowed: " in refused["msg"]
    assert host.look() == before
    assert host()["changed"] is False
    assert host(NEW, force=True)["previous"] == OLD and host.pin() == NEW


BROKEN = [
    ({"libx": "good"}, lambda path: path.write_text("no library\n"), "libx.so: .*(too short|invalid ELF header)"),
    ({"libx": "crash", "liby": "crash"}, None, "libx.so: crashes with SIGABRT; liby.so: crashes with SIGABRT"),
    ({"libx": "end"}, None, "libx.so: ends its process with status 3"),
    ({"libx": "hang"}, None, "libx.so: is not loaded after 0.5 s"),
]


@pytest.mark.parametrize(("kinds", "spoil", "told"), BROKEN, ids=["no library", "crash", "end", "hang"])
def test_a_release_that_does_not_load_is_refused_and_the_old_pin_stays(host, monkeypatch, kinds, spoil, told):
    fault = daq_client.fault
    monkeypatch.setattr(daq_client, "fault", lambda *args: fault(*args, patience=0.5 if "hang" in kinds.values() else 30))
    host()
    host.release("R5-V12.0", **kinds)
    if spoil:
        spoil(host.base / "R5-V12.0/x86/lib/libx.so")
        host.whole("R5-V12.0")
    before = host.look()
    for check in (True, False):
        refused = host("R5-V12.0", check=check)
        assert refused["failed"] and refused["msg"].startswith("R5-V12.0 does not load here: libx.so: ") and "\nAllowed: " in refused["msg"]
        assert re.search(told, refused["msg"])
    assert host.look() == before and host.pin() == OLD
    assert host("R5-V12.0", smoke_test=False)["pinned"] == host.pin() == "R5-V12.0"


def test_the_smoke_test_has_the_releases_own_libraries_and_the_libreadline_that_is_to_be_linked(host):
    """A library that needs both loads in check mode already, before any link is there."""
    place = host.base / NEW / "x86/lib"
    for command in (
        ["cc", "-shared", "-fPIC", "-Wl,-soname,libdaq.so", "-x", "c", "/dev/null", "-o", place / "libdaq.so"],
        ["cc", "-shared", "-fPIC", "-Wl,-soname,libreadline.so.7", "-x", "c", "/dev/null", "-o", host.root / "libreadline.so"],
        ["cc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-x", "c", "/dev/null", "-o", place / "libneeds.so", "-x", "none",
         place / "libdaq.so", host.root / "libreadline.so"],
    ):  # fmt: skip
        subprocess.run(command, check=True)
    host.whole(NEW)
    told = host(NEW, check=True)
    assert told["loaded"] == ["libdaq.so", "libneeds.so"] and host.pin() == ""
    assert daq_client.fault(place / "libneeds.so", str(place)).startswith("libreadline.so.7: cannot open shared object file")


def test_check_mode_changes_nothing_and_predicts(host):
    for version, params in ((OLD, {}), (NEW, {}), (NEW, {"applications": ["more"]}), (OLD, {"setup_file": str(host.etc / "daqv4-setup")})):
        before = host.look()
        predicted = host(version, check=True, **params)
        assert host.look() == before
        assert predicted == host(version, **params) and predicted["changed"]


def test_a_check_of_a_bare_host_ends_well(host, monkeypatch):
    warnings = []
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda self, text: warnings.append(text))
    shutil.rmtree(host.root)
    told = host(check=True, owner="lsst-nobody")
    assert told["changed"] and told["pinned"] == OLD and not host.root.exists()
    assert [warning.split(".")[0] for warning in warnings[:3]] == [
        "R5-V8",
        "owner is lsst-nobody, whom this host does not know",
        f"{host.lib} has no libreadline that could stand in for libreadline",
    ]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"version": "R5-V9.9"}, "R5-V9.9 is no release in {base}.\nAllowed: R5-V11.3, R5-V8.1.\nCorrect version, or install it"),
        ({"version": "../x-V1"}, "version is '../x-V1'."),
        ({"version": "R5"}, "version is 'R5'.\nAllowed: a release of the SDK, such as R5-V11.3."),
        ({"owner": "lsst-nobody"}, "owner is lsst-nobody, whom this host does not know.\nAllowed: one that it has.\nCorrect owner"),
        ({"group": "lsst-nobody"}, "group is lsst-nobody, whom this host does not know."),
        ({"library_dir": "/proc/self"}, "/proc/self has no libreadline that could stand in for libreadline.so.6.\nAllowed: "),
        ({"link": "current"}, "link is 'current'."),
        ({"link": "a/b"}, "link is 'a/b'."),
        ({"link": NEW}, f"link is '{NEW}'."),
        ({"applications": ["store", "../x"]}, "applications has '../x'."),
        ({"setup_file": "setup"}, "setup_file is 'setup'."),
    ],
)
def test_what_is_refused_changes_nothing(host, params, told):
    before = host.look()
    refused = host(**params)
    assert refused["failed"] and refused["msg"].startswith(told.format(base=host.base)) and refused["msg"].count("\n") == 2
    assert host.look() == before


def test_a_release_that_is_not_whole_is_refused(host):
    (host.base / OLD / "x86/lib/libdaq.so").write_bytes(b"")
    assert f"{OLD} is not there or not whole" in host()["msg"] and host.pin() == ""


def test_no_link_is_followed(host):
    (host.etc / "store.app").symlink_to(host.root / "elsewhere")
    assert "store.app is no file.\nAllowed: " in host()["msg"] and host.pin() == ""


def test_owner_and_mode_are_kept(host):
    host()
    (host.etc / "store.app").chmod(0o600)
    drift = host()
    assert drift["changes"] == [str(host.etc / "store.app")] and drift["diff"][0]["before"].startswith(
        f"{OWN['owner']}:{OWN['group']} 0600\n"
    )
    os.chown(host.etc / "store.app", 65533, 65533)
    assert host()["diff"][0]["before"].startswith("65533:65533 0644\n") and host()["changed"] is False


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "system.pre-execute=s\n"),
        ("a=1\n#x\n\nb=2", "a=1\n#x\n\nb=2\nsystem.pre-execute=s\n"),
        ("a=1\nsystem.pre-execute=old\nb=2\n", "a=1\nsystem.pre-execute=s\nb=2\n"),
        ("a=1\r\n  system.pre-execute : old\r\nb=2\r\n", "a=1\r\nsystem.pre-execute=s\nb=2\r\n"),
        ("system.pre-execute=old\\\n  more\nsystem.pre-execute=older\nb=2\n", "system.pre-execute=s\nb=2\n"),
        ("system.pre-execute.x=1\nsystem.pre-executed=2\n", "system.pre-execute.x=1\nsystem.pre-executed=2\nsystem.pre-execute=s\n"),
        ("a=1\\\nsystem.pre-execute=no\n", "a=1\\\nsystem.pre-execute=no\nsystem.pre-execute=s\n"),
        ("#a=1\\\nsystem.pre-execute=old\n", "#a=1\\\nsystem.pre-execute=s\n"),
        ("#system.pre-execute=old\na=\x85\xfc\n", "#system.pre-execute=old\na=\x85\xfc\nsystem.pre-execute=s\n"),
    ],
)
def test_the_other_keys_stay(before, after):
    assert daq_client.with_setup(before, "s") == after == daq_client.with_setup(after, "s")


def test_other_keys_stay_to_the_byte(host):
    (host.etc / "store.app").write_bytes(b"a=\xc3\xbc\xff\r\n")
    host()
    assert (host.etc / "store.app").read_bytes() == b"a=\xc3\xbc\xff\r\nsystem.pre-execute=daqv5-setup\n"


@pytest.mark.parametrize(
    ("version", "there", "shim"),
    [
        (OLD, ["libreadline.so.7", "libreadline.so.7.0"], "libreadline.so.6 -> libreadline.so.7"),
        (OLD, ["libreadline.so.6", "libreadline.so.8"], ""),
        (OLD, ["libreadline.so.7", "libreadline.so.8", "libreadline.so.10"], "libreadline.so.6 -> libreadline.so.10"),
        (NEW, ["libreadline.so.8", "libreadline.so.8.1"], "libreadline.so.7 -> libreadline.so.8"),
        (NEW, ["libreadline.so.7"], ""),
        ("R5-V10.0", ["libreadline.so.8"], "libreadline.so.7 -> libreadline.so.8"),
        ("R5-V9.9", ["libreadline.so.8"], "libreadline.so.6 -> libreadline.so.8"),
    ],
)
def test_which_libreadline_stands_in(host, version, there, shim):
    shutil.rmtree(host.lib)
    host.lib.mkdir()
    for name in there:
        (host.lib / name).touch()
    client = daq_client.client_of({**host.params(version), "link": "ccs-production"})
    changes = [change for change in daq_client.due(client, []) if change.path.parent == host.lib]
    assert "".join(change.after for change in changes) == (f"{host.lib}/{shim}\n" if shim else "")


def test_a_stand_in_that_leads_nowhere_is_led_anew(host):
    (host.lib / "libreadline.so.6").symlink_to("libreadline.so.5")
    assert (
        host()["changes"][0] == str(host.lib / "libreadline.so.6") and str((host.lib / "libreadline.so.6").readlink()) == "libreadline.so.8"
    )


def test_killed_at_any_step(host, victim):
    """The next run brings the rest, nothing is half there, and no temporary file stays."""
    kept = host.root.with_name("kept")
    shutil.copytree(host.root, kept, symlinks=True)
    for step in range(1, 99):
        shutil.rmtree(host.root)
        shutil.copytree(kept, host.root, symlinks=True)
        ask(victim, host.params(smoke_test=False), step, "daq_client")
        status = int(victim.stdout.readline())
        for name, text in (("store.app", "system.pre-execute=daqv5-setup\n"), ("daqv5-setup", None)):
            assert not (host.etc / name).exists() or (host.etc / name).read_text() == text or text is None
        assert host.pin() == "" or (host.etc / "comcam-ih.app").exists()
        assert host(smoke_test=False)["pinned"] == host.pin() == OLD and host(smoke_test=False)["changed"] is False
        assert not list(host.root.rglob(f"{daq_client.UNFINISHED}*"))
        if status == 0:
            break
    assert step > 10
