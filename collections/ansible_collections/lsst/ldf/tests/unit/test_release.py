"""Releases side by side: whole or not at all, one content a version, and a link that says which is in use."""

import hashlib
import io
import tarfile

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import release

CONTENT = b"#!/bin/sh\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def serve(content):
    return lambda url: io.BytesIO(content)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "opt" / "tool" / "1.0"


def have(place, content=CONTENT):
    release.install(place, "https://depot/tool-1.0", hashlib.sha256(content).hexdigest(), serve(content))
    release.switch(place)


def test_a_program_is_installed_and_taken_into_use(place):
    assert release.due(place, SHA256) == ["install", "switch"]
    have(place)
    assert (place.parent / "current" / "tool").read_bytes() == CONTENT
    assert (place / "tool").stat().st_mode & 0o777 == 0o755 and place.stat().st_mode & 0o777 == 0o755
    assert release.due(place, SHA256) == []
    assert sorted(path.name for path in place.parent.iterdir()) == ["1.0", "current"]


def test_the_way_back_is_the_link_alone(place):
    have(place)
    have(place.with_name("2.0"), b"newer")
    assert release.due(place, SHA256) == ["switch"]
    release.switch(place)
    assert (place.parent / "current").readlink().name == "1.0" and place.with_name("2.0").exists()


def test_an_archive_is_unpacked(place):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("libs/a.jar")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    release.install(place, "https://depot/tool-1.0.tar.gz", hashlib.sha256(packed.getvalue()).hexdigest(), serve(packed.getvalue()))
    assert (place / "libs/a.jar").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(place):
    with pytest.raises(release.ReleaseError, match=f"Allowed: {SHA256}"):
        release.install(place, "https://depot/tool-1.0", SHA256, serve(b"damaged"))
    assert list(place.parent.iterdir()) == []


def test_what_a_killed_run_left_goes(place):
    (place.parent / ".new-x").mkdir(parents=True)
    (place.parent / ".new-link").symlink_to("0.9")
    have(place)
    assert sorted(path.name for path in place.parent.iterdir()) == ["1.0", "current"]


def test_one_content_a_version(place):
    have(place)
    with pytest.raises(release.ReleaseError, match="one content for a version"):
        release.due(place, "0" * 64)
    place.with_name("2.0").mkdir()
    with pytest.raises(release.ReleaseError, match="something unknown"):
        release.due(place.with_name("2.0"), SHA256)


@pytest.mark.parametrize(
    ("name", "version", "sha256", "wrong"),
    [
        ("../etc", "1", SHA256, "name"),
        ("tool", "..", SHA256, "version"),
        ("tool", "1/2", SHA256, "version"),
        ("tool", "1", "none", "sha256"),
    ],
)
def test_what_becomes_a_path_is_checked(name, version, sha256, wrong):
    with pytest.raises(release.ReleaseError, match=f"^{wrong} of the release"):
        release.check(name, version, sha256)


def test_the_probe_says_what_the_module_would(place):
    asked = {"name": "tool", "version": "1.0", "url": "", "sha256": SHA256, "root": str(place.parent.parent)}
    assert release.already(asked) is None
    have(place)
    assert release.already(asked) == {"changed": False, "actions": []}
