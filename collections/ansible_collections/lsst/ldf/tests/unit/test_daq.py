"""The DAQ's releases: what may be unpacked, what is whole, what is in use and what may go."""

from __future__ import annotations

import json
from tarfile import BLKTYPE, CHRTYPE, DIRTYPE, FIFOTYPE, LNKTYPE, SYMTYPE

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import daq
from ansible_collections.lsst.ldf.plugins.module_utils.daq import DaqError, Holders, Manifest, Process, Release

DIR = (DIRTYPE, "")
NOBODY = Holders({}, [])
DSID = Process(7, "dsid")


@pytest.fixture
def base(tmp_path):
    """R10, R9 and R8 with manifests, notes without one, and links: current -> R9, ccs-production -> R8/x86, again -> that, away -> /etc."""
    for version in ("R10", "R9", "R8"):
        (tmp_path / version / "x86").mkdir(parents=True)
        (tmp_path / version / daq.MANIFEST).write_text(json.dumps({"sha256": "1", "entries": {"x86": ""}}))
    (tmp_path / "dl").mkdir()
    (tmp_path / "dl" / "R9.tgz").write_bytes(b"")
    (tmp_path / "notes").mkdir()
    for name, target in (
        ("current", "R9"),
        ("ccs-production", f"{tmp_path}/R8/x86"),
        ("again", "ccs-production"),
        ("away", "/etc"),
        (".new-link", "R10"),
    ):
        (tmp_path / name).symlink_to(target)
    return tmp_path


def release(base, version):
    return Release(base, "daq-sdk", version)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("R1/../x", b"")], r"R1/\.\./x, a path out of the tree"),
        ([("../x", b"")], r"\.\./x, a path out of the tree"),
        ([("/R1/x", b"")], "/R1/x, a path out of the tree"),
        ([("/etc/passwd", b"")], "/etc/passwd, a path out of the tree"),
        ([("R2/x", b"")], "R2/x, which is not in the directory R1"),
        ([("R1/x", b""), ("R2/x", b"")], "R2/x, which is not in the directory R1"),
        ([("R1", DIR), ("README", b"")], "README, which is not in the directory R1"),
        ([("R1", b"")], "R1, which is not in the directory R1"),
        ([("R1", (SYMTYPE, "/etc"))], "R1, which is not in the directory R1"),
        ([(".", (SYMTYPE, "R1"))], r"\., which is not in the directory R1"),
        ([("R1/x", (SYMTYPE, "/etc"))], "R1/x, a link to /etc"),
        ([("R1/x", (SYMTYPE, "../R2/x"))], r"R1/x, a link to \.\./R2/x"),
        ([("R1/a/x", (SYMTYPE, "../../.."))], r"R1/a/x, a link to \.\./\.\./\.\."),
        ([("R1/x", (LNKTYPE, "../etc/passwd"))], r"R1/x, a link to \.\./etc/passwd"),
        ([("R1/x", (LNKTYPE, "/etc/passwd"))], "R1/x, a link to /etc/passwd"),
        ([("R1/x", (LNKTYPE, "R1/../y"))], r"R1/x, a link to R1/\.\./y"),
        ([("R1/a", (SYMTYPE, "b")), ("R1/a/x", b"")], "R1/a/x, which a link stands in for"),
        ([("R1/a", (SYMTYPE, "b")), ("R1/a", b"")], "R1/a, which a link stands in for"),
        ([("R1/x", (CHRTYPE, ""))], "R1/x, a device or the like"),
        ([("R1/x", (BLKTYPE, ""))], "R1/x, a device or the like"),
        ([("R1/x", (FIFOTYPE, ""))], "R1/x, a device or the like"),
        ([], "nothing"),
    ],
)
def test_what_may_not_be_unpacked(tmp_path, pack, members, told):
    pack(tmp_path / "a.tgz", members)
    with pytest.raises(DaqError, match=rf"The archive of R1 holds .*{told}\.\nAllowed: .* below R1/.*\nPut the right archive at src"):
        daq.unpacked_size(tmp_path / "a.tgz", "R1")


def test_a_link_that_leads_out_by_way_of_another(tmp_path, pack):
    # By its words it leads to R1/a/b; R1/a/b/c is R1, though.
    pack(tmp_path / "a.tgz", [("R1/out", (SYMTYPE, "a/b/c/../..")), ("R1/a/b/x", b""), ("R1/a/b/c", (SYMTYPE, "../.."))])
    assert daq.unpacked_size(tmp_path / "a.tgz", "R1")
    with pytest.raises(DaqError, match=r"holds R1/out, a link to a/b/c/\.\./\.\.\.\nAllowed: links inside R1/"):
        daq.unpack(tmp_path / "a.tgz", tmp_path / "new", "R1")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:20] + bytes(60) + data[80:],
        lambda data: b"",
        lambda data: b"no archive" * 99,
    ],
    ids=["truncated", "corrupt", "empty", "another format"],
)
def test_no_whole_archive(tmp_path, pack, spoil):
    path = tmp_path / "a.tgz"
    pack(path, [("R1", DIR), *((f"R1/{number}", str(number * 0x9E3779B97F4A7C15).encode() * 9) for number in range(200))])
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DaqError, match="The archive of R1 holds no whole archive: "):
        daq.unpacked_size(path, "R1")


def test_unpacked_size_counts_blocks(tmp_path, pack):
    pack(tmp_path / "a.tgz", [("./", DIR), ("./R1/", DIR), ("./R1/x", b"1"), ("./R1/y", bytes(4097)), ("R1/z", (SYMTYPE, "x"))])
    assert daq.unpacked_size(tmp_path / "a.tgz", "R1") == 4096 * (1 + 1 + 2 + 3 + 1)


@pytest.mark.parametrize(
    ("version", "checksum", "keep", "told"),
    [
        ("../R1", None, None, "version is '../R1'"),
        ("", None, None, "version is ''"),
        (".new-1", None, None, "version is '.new-1'"),
        ("dl", None, None, "version is 'dl'"),
        ("current", None, None, "version is 'current'"),
        ("R1", "ABC", None, "checksum of R1 is 'ABC'"),
        ("R1", None, 0, "keep is 0"),
    ],
)
def test_wrong_values(version, checksum, keep, told):
    with pytest.raises(DaqError) as error:
        daq.check(version, checksum, keep)
    assert str(error.value).startswith(told) and "\nAllowed: " in str(error.value) and "\nCorrect " in str(error.value)


def test_versions_are_compared_by_their_numbers():
    assert daq.newest_first(["R5-V8.1", "R5-V11.3", "V3.5.3", "R5-V10.3", "R5-V11"]) == [
        "V3.5.3",
        "R5-V11.3",
        "R5-V11",
        "R5-V10.3",
        "R5-V8.1",
    ]


def test_what_is_there(base):
    assert daq.installed(base) == ["notes", "R10", "R9", "R8"]
    assert daq.links(base) == {"current": "R9", "ccs-production": "R8", "again": "R8"}
    assert daq.contents(base) == {"notes", "R10", "R9", "R8", "dl/R9.tgz", "current -> R9", "ccs-production -> R8", "again -> R8"}
    assert daq.installed(base / "none") == [] and daq.links(base / "none") == {} and daq.contents(base / "none") == set()
    assert release(base, "R9").archive == base / "dl/R9.tgz" and Release(base, "rpt-sdk", "V3").archive == base / "dl/rce-sdk-V3.tar.gz"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("7f0-7f1 r-xp 00000000 08:01 12    /opt/lsst/daq-sdk/R9/x86/lib/a b.so", {"R9"}),
        ("7f0-7f1 r-xp 00000000 08:01 12    /opt/lsst/daq-sdk/R9/x86/lib/a.so (deleted)", {"R9"}),
        ("7f0-7f1 r-xp 00000000 08:01 99    /srv/nfs/lsst-daq/daq-sdk/R8/a.so", {"R8"}),
        ("7f0-7f1 r-xp 00000000 08:02 99    /srv/other.so", set()),
        ("7f0-7f1 r-xp 00000000 08:01 12    /opt/lsst/daq-sdk-old/R9/a.so", set()),
        ("7f0-7f1 rw-p 00000000 00:00 0     [heap]", set()),
        ("7f0-7f1 rw-p 00000000 00:00 0", set()),
    ],
)
def test_mapped(line, found):
    assert daq.mapped(f"{line}\n", "/opt/lsst/daq-sdk", {("08:01", "99"): "R8"}) == found


def test_holders_by_process(base, tmp_path_factory):
    proc = tmp_path_factory.mktemp("proc")
    for pid, name in (("12", "rce"), ("7", "dsid"), ("9", "sshd")):
        (proc / pid).mkdir()
        (proc / pid / "comm").write_text(f"{name}\n")
        (proc / pid / "maps").write_text(
            "" if name == "sshd" else f"1-2 r--p 0 08:01 5 {base}/R9/a.so\n1-2 r--p 0 08:01 5 {base}/R9/b.so\n"
        )
    (proc / "13").mkdir()  # It has just ended.
    (proc / "self").symlink_to("7")
    assert daq.holders(base, proc) == Holders({"R9": [DSID, Process(12, "rce")]}, [])


@pytest.mark.parametrize(
    ("named", "keep", "held", "gone"),
    [
        ("R10", None, {}, []),
        ("R10", 9, {}, []),
        ("R10", 1, {}, ["R7"]),  # R9 and R8: a link leads to them.
        ("R11", 1, {}, ["R10", "R7"]),
        ("R7", 1, {}, []),
        ("R11", 1, {"R10": [DSID]}, ["R7"]),
    ],
)
def test_prunable(base, named, keep, held, gone):
    (base / "notes").rename(base / "A-notes")  # no release, and the oldest one
    (base / "R7").mkdir()
    (base / "R7" / daq.MANIFEST).write_text('{"sha256": "1", "entries": {"x": ""}}')
    assert daq.prunable(release(base, named), keep, daq.links(base), Holders(held, [])) == gone


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tree: None, []),
        (lambda tree: (tree / "added").write_text(""), []),
        (lambda tree: (tree / "x86/lib").write_bytes(b"othr"), ["x86/lib"]),
        (lambda tree: (tree / "x86/lib").unlink(), ["x86/lib"]),
        (lambda tree: (tree / "x86/lib").chmod(0o600), ["x86/lib"]),
        (lambda tree: ((tree / "x86/link").unlink(), (tree / "x86/link").symlink_to("/etc")), ["x86/link"]),
        (lambda tree: (tree / "x86").rename(tree / "x87"), ["x86", "x86/lib", "x86/link"]),
        (lambda tree: (tree / daq.MANIFEST).unlink(), ["."]),
        (lambda tree: (tree / daq.MANIFEST).write_text("{"), ["."]),
        (lambda tree: (tree / daq.MANIFEST).write_text("[]"), ["."]),
    ],
)
def test_damage(tmp_path, pack, change, told):
    sha256 = pack(tmp_path / "a.tgz", [("R1/x86/lib", b"code"), ("R1/x86/link", (SYMTYPE, "lib"))])
    it = release(tmp_path, "R1")
    daq.install(it, "", sha256, ["fetch", "install"], lambda src: ((tmp_path / "a.tgz").open("rb"), 0))
    assert daq.manifest(it.tree).sha256 == sha256
    change(it.tree)
    assert daq.damage(it.tree) == told


def test_a_name_that_is_the_manifests_own_is_refused(tmp_path, pack):
    sha256 = pack(tmp_path / "a.tgz", [(f"R1/{daq.MANIFEST}", b"{}")])
    with pytest.raises(FileExistsError):
        daq.install(release(tmp_path, "R1"), "", sha256, ["fetch", "install"], lambda src: ((tmp_path / "a.tgz").open("rb"), 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "dl"]


def test_one_content_a_version(base):
    with pytest.raises(DaqError, match=r"R9 was made of 1, not of 2\.\nAllowed: one content for a version"):
        daq.due_present(release(base, "R9"), "2", NOBODY)


def test_a_link_is_no_release(base):
    for due in (lambda it: daq.due_present(it, "1", NOBODY), lambda it: daq.due_current(it, NOBODY), lambda it: daq.due_absent(it, NOBODY)):
        with pytest.raises(DaqError, match=r"ccs-production is a link\.\nAllowed: the version of a release"):
            due(release(base, "ccs-production"))


@pytest.mark.parametrize(("version", "told"), [("R9", "R9 is what current in"), ("R8", "R8 is what again, ccs-production in")])
def test_what_a_link_leads_to_is_not_removed(base, version, told):
    with pytest.raises(DaqError, match=told):
        daq.due_absent(release(base, version), NOBODY)


def test_what_is_in_use_is_not_removed(base):
    assert daq.due_absent(release(base, "R10"), NOBODY) == ["remove"] and daq.due_absent(release(base, "R11"), NOBODY) == []
    with pytest.raises(DaqError, match=r"R10 is to be removed, but is mapped by dsid \(7\)\.\nAllowed: .*\nStop them"):
        daq.due_absent(release(base, "R10"), Holders({"R10": [DSID]}, []))


def test_difference(base):
    it, before = release(base, "R10"), {"R10", "R9", "dl/R9.tgz", "current -> R9"}
    assert daq.difference(before, it, ["fetch", "install", "switch", "remove"], [release(base, "R9")]) == {
        "before": "R10 (damaged)\nR9\ncurrent -> R9\ndl/R9.tgz\n",
        "after": "R10\ncurrent -> R10\ndl/R10.tgz\n",
    }
    unchanged = daq.difference(before, it, [], [])
    assert unchanged["before"] == unchanged["after"]


def test_an_empty_manifest_is_none(tmp_path):
    assert daq.manifest(tmp_path) == Manifest() and daq.damage(tmp_path) == ["."]
