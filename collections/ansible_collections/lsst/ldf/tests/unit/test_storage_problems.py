"""What is wrong with file systems, directories and exports."""

import pytest
from ansible_collections.lsst.ldf.plugins.filter.storage_problems import storage_problems

DATA = {"name": "data", "path": "/data", "type": "xfs", "devices": ["/dev/md/data"]}
HOME = {"path": "/data/home", "quota": "1G"}
EXPORT = {"name": "home", "path": "/data/home", "pseudo": "/home", "clients": [{"networks": ["10.64.19.0/24"], "access": "rw"}]}
SOUND = {"filesystems": [DATA], "directories": [HOME, {"path": "/data/home/shared"}], "exports": [EXPORT]}


def problems(filesystems, directories, exports):
    return storage_problems(filesystems, directories, exports, ["10.64.16.0/20"])


def test_nothing_is_wrong():
    assert problems(**SOUND) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filesystems": [DATA | {"name": "data-of-the-camera"}]}, "'data-of-the-camera' is no name. Allowed: up to 11 of a-z"),
        ({"filesystems": [DATA | {"devices": ["/dev/a", "/dev/b"]}]}, "data is XFS on 2 devices. Allowed: one, such as an array of md"),
        ({"filesystems": [DATA, DATA | {"name": "b", "path": "/b"}]}, "/dev/md/data is named twice"),
        ({"filesystems": [DATA, DATA | {"name": "b", "path": "/data/b", "devices": ["/dev/b"]}]}, "b (/data/b) overlaps data (/data)"),
        ({"filesystems": [DATA | {"path": "/Data"}]}, "data has the path '/Data'"),
        ({"directories": [HOME, {"path": "/srv/x"}]}, "/srv/x is in no file system. Allowed: a directory below /data"),
        ({"directories": [HOME | {"quota": "1 GB"}]}, "/data/home has the quota '1 GB'"),
        ({"directories": [HOME, HOME]}, "/data/home is there twice"),
        ({"directories": [HOME, {"path": "/data/home/x", "snapshots": 3}]}, "/data/home/x is inside of /data/home"),
        ({"exports": [EXPORT | {"path": "/data/gone"}]}, "home exports /data/gone. Allowed: one of storage_directories: /data/home"),
        ({"exports": [EXPORT, EXPORT]}, "two exports are called home"),
        (
            {"exports": [EXPORT, EXPORT | {"name": "s", "path": "/data/home/shared", "pseudo": "/s"}]},
            "s (/data/home/shared) overlaps home (/data/home)",
        ),
        (
            {"exports": [EXPORT, EXPORT | {"name": "s", "path": "/data/home/shared", "pseudo": "/home/s"}]},
            "s (/home/s) overlaps home (/home)",
        ),
        (
            {"exports": [EXPORT | {"clients": [{"networks": ["192.0.2.0/24"]}]}]},
            "home is for 192.0.2.0/24, which is no site's. Allowed: networks in 10.64.16.0/20",
        ),
        ({"exports": [EXPORT | {"clients": [{"networks": ["10.64.16.1/20"]}]}]}, "which is no network"),
        ({"exports": [EXPORT | {"clients": EXPORT["clients"] * 2}]}, "home is for 10.64.19.0/24 twice"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    found = problems(**SOUND | change)
    assert any(words in message for message in found), found
    assert all(". Allowed: " in message and ". Edit inventories/production/group_vars/storage/storage.yml" in message for message in found)
