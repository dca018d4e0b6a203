"""Which disks may be formatted, and which file system is whole."""

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.disks import (
    Device,
    DiskError,
    btrfs_members,
    bytes_of,
    creation,
    parse_blkid,
    read_device,
    refuse_less_than_used,
    sort_disks,
)

OURS = {"TYPE": "btrfs", "LABEL": "data", "UUID": "1"}
BEGUN = {"TYPE": "btrfs", "LABEL": "data~", "UUID": "2"}


def disk(path: str, **found: str) -> Device:
    return Device(path, 1 << 30, found)


@pytest.mark.parametrize(
    ("devices", "members", "empty", "dead"),
    [
        ([disk("a"), disk("b")], "", "ab", ""),
        ([disk("a", **OURS), disk("b", **OURS)], "ab", "", ""),
        ([disk("a", **OURS), disk("b")], "a", "b", ""),
        ([disk("a", **OURS), Device("b")], "a", "", "b"),
        # What a killed mkfs left is no data ...
        ([disk("a", **BEGUN), disk("b")], "", "ab", ""),
        # ... and a label that has reached one of two disks only is a name.
        ([disk("a", **OURS), disk("b", **BEGUN | {"UUID": "1"})], "ab", "", ""),
    ],
)
def test_sort_disks(devices, members, empty, dead):
    found = sort_disks("data", "btrfs", devices)
    assert ["".join(each.path for each in group) for group in (found.members, found.empty, found.dead)] == [members, empty, dead]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            {"TYPE": "ext4"},
            "b is meant for the file system data, but holds ext4. Allowed: an empty disk; this one only by -e storage_overwrite=HOST:b",
        ),
        ({"TYPE": "btrfs", "LABEL": "home", "UUID": "3"}, "holds btrfs 'home'"),
        ({"TYPE": "xfs", "LABEL": "data"}, "holds xfs 'data'"),
        ({"PTTYPE": "gpt"}, "holds gpt"),
        (OURS | {"UUID": "4"}, "two file systems are called data: a, b. Allowed: one"),
    ],
)
def test_a_disk_with_something_else_is_refused(found, words):
    with pytest.raises(DiskError) as refused:
        sort_disks("data", "btrfs", [disk("a", **OURS), disk("b", **found)])
    assert words in str(refused.value) and "Edit: storage_filesystems in" in str(refused.value)


def test_what_is_named_may_be_overwritten():
    assert [each.path for each in sort_disks("data", "btrfs", [disk("b", TYPE="ext4")], ["b"]).empty] == ["b"]


def test_the_name_comes_last():
    assert creation("data", "xfs", ["/dev/md/data"])[-1] == ["xfs_admin", "-L", "data", "/dev/md/data"]
    commands = creation("data", "btrfs", ["a", "b"])
    assert commands[-1] == ["btrfs", "filesystem", "label", "a", "data"]
    assert commands[0][-6:] == ["-d", "raid1", "-m", "raid1", "a", "b"]


@pytest.mark.parametrize(
    ("code", "shown", "found"),
    [
        (0, "DEVNAME=x\nTYPE=xfs\nLABEL=a=b\n", {"DEVNAME": "x", "TYPE": "xfs", "LABEL": "a=b"}),
        (2, "", {}),
        (8, "", {"TYPE": "several signatures"}),
    ],
)
def test_read_device(tmp_path, code, shown, found):
    path = tmp_path / "disk"
    path.write_bytes(bytes(8192))
    assert read_device(str(path), lambda command: (code, shown, "")) == Device(str(path), 8192, found)


def test_read_device_without_one(tmp_path):
    with pytest.raises(DiskError, match=r"is no device of this host\. Allowed: disks that are there\. Edit: "):
        read_device(str(tmp_path / "none"), lambda command: (0, "", ""))
    (tmp_path / "dead").touch()
    assert read_device(str(tmp_path / "dead"), lambda command: (0, "", "")).size == 0


def test_btrfs_members():
    shown = (
        "Label: 'data'  uuid: 1\n\tTotal devices 3 FS bytes used 147456\n\tdevid    1 size 268435456 used 92274688 path /dev/loop0\n"
        "\tdevid    2 size 0 used 0 path <missing disk> MISSING\n\tdevid    3 size 0 used 0 path  MISSING\n"
    )
    assert btrfs_members(shown) == {1: "/dev/loop0", 2: "", 3: ""}


@pytest.mark.parametrize(("size", "number"), [("", 0), ("1K", 1024), ("100M", 104857600), ("3200G", 3200 << 30)])
def test_bytes_of(size, number):
    assert bytes_of(size) == number


@pytest.mark.parametrize("size", ["100", "0G", "1.5T", "100MB", "-1G"])
def test_no_size(size):
    with pytest.raises(DiskError, match=r"is no size\. Allowed: "):
        bytes_of(size)


def test_a_quota_below_what_is_there_is_refused():
    refuse_less_than_used("/data/x", 0, 10)
    refuse_less_than_used("/data/x", 10, 10)
    with pytest.raises(DiskError, match=r"/data/x holds 3 GiB, more than the quota of 100 MiB\. Allowed: "):
        refuse_less_than_used("/data/x", 100 << 20, 3 << 30)


def test_parse_blkid():
    assert parse_blkid("") == {}
