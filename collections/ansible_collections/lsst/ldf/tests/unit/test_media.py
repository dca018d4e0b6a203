"""Licensed files: all or none, whole or not at all, and a message that says what to do."""

from __future__ import annotations

import hashlib
from io import BytesIO
from urllib.error import HTTPError

import pytest
from ansible_collections.lsst.ldf.plugins.modules import media

GOOD = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def depot(monkeypatch):
    """A depot that serves /media/there and nothing else."""

    def open_url(url, method="GET", timeout=0):
        if not url.endswith("/there"):
            raise HTTPError(url, 404, "Not Found", {}, None)
        return BytesIO(b"" if method == "HEAD" else b"content")

    monkeypatch.setattr(media, "open_url", open_url)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], "No media are named."),
        ([{"file": "../there", "sha256": GOOD}], "../there with the SHA-256"),
        ([{"file": "there", "sha256": "abc"}], "there with the SHA-256 abc is no file of media."),
    ],
)
def test_names_and_checksums_that_are_none(files, told):
    with pytest.raises(media.MediaError, match="Allowed: ") as error:
        media.check(files, "gpfs_media")
    assert told in str(error.value) and str(error.value).endswith("Edit gpfs_media.")


def test_a_missing_file_is_told(depot):
    media.look("https://depot/media/there", "gpfs_media")
    with pytest.raises(media.MediaError, match=r"missing cannot be had: .*404.*\nAllowed: .*\nPut it there, or edit gpfs_media"):
        media.look("https://depot/media/missing", "gpfs_media")


def test_a_whole_file_has_its_name(depot, tmp_path):
    target = tmp_path / "a" / "there"
    target.parent.mkdir()
    (target.parent / ".new-left").write_text("of a killed run")
    media.fetch("https://depot/media/there", target, GOOD, "gpfs_media")
    assert [path.name for path in target.parent.iterdir()] == ["there"] and target.read_bytes() == b"content"


def test_another_content_has_no_name(depot, tmp_path):
    target = tmp_path / "a" / "there"
    with pytest.raises(media.MediaError, match=f"has the SHA-256 {GOOD}"):
        media.fetch("https://depot/media/there", target, "0" * 64, "gpfs_media")
    assert list(target.parent.iterdir()) == []
