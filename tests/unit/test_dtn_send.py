"""dtn-send against a far end of two dicts: what it sends, what it cuts back, what it refuses."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "roles/dtn/files/dtn_send.py"
SPEC = importlib.util.spec_from_file_location("dtn_send", SOURCE)
dtn_send = importlib.util.module_from_spec(SPEC)
sys.modules["dtn_send"] = dtn_send
SPEC.loader.exec_module(dtn_send)

MIB = dtn_send.MIB
CONTENT = bytes(range(256)) * (MIB // 256) * 5
PART, FINAL = "/incoming/here/.image.part", "/incoming/here/image"


class FarEnd:
    """A peer that is two dicts. ``files``: path -> content; ``sent``: bytes that came over the line; ``meanwhile`` happens on the way;
    ``faults``: how often it fails to compute a checksum."""

    def __init__(self, **files: bytes) -> None:
        self.content = {PART: files["part"]} if "part" in files else {}
        self.content |= {FINAL: files["final"]} if "final" in files else {}
        self.sent, self.meanwhile, self.faults = 0, lambda: None, 0

    def ask(self, peer: dtn_send.Peer, verb: str, *words: Any) -> Any:
        if verb in ("stat", "rm", "mv") and words[0] not in self.content:
            raise dtn_send.Failure("no such file or directory", dtn_send.NOT_FOUND)
        if verb == "stat":
            return SimpleNamespace(size=len(self.content[words[0]]))
        if verb == "truncate":
            self.content[words[0]] = self.content[words[0]][: words[1]]
        if verb == "query" and self.faults:
            self.faults -= 1
            raise dtn_send.Failure("Program failed", dtn_send.FAULT)
        if verb == "query":
            return f"md5 {hashlib.md5(self.content[words[1].partition('?')[0]]).hexdigest()}\0".encode()
        if verb in ("rm", "mv"):
            content = self.content.pop(words[0])
            self.content |= {words[1]: content} if verb == "mv" else {}
        return None

    def copy(self, peer: dtn_send.Peer, source: Path, target: str, resume: bool) -> None:
        self.meanwhile()
        content, kept = source.read_bytes(), self.content[target] if resume else b""
        self.sent += len(content) - len(kept)
        self.content[target] = kept + content[len(kept) :]


@pytest.fixture
def far_end(monkeypatch):
    """Makes a far end of what is there already."""

    def make(**files: bytes) -> FarEnd:
        far = FarEnd(**files)
        monkeypatch.setattr(dtn_send.Peer, "ask", lambda *words: far.ask(*words))
        monkeypatch.setattr(dtn_send.Peer, "copy", lambda *words: far.copy(*words))
        return far

    return make


@pytest.fixture
def peer() -> dtn_send.Peer:
    return dtn_send.Peer("there", "roots://there:1094/", "/incoming/here", window=1, files=None)


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    ("found", "sent", "words"),
    [
        pytest.param({}, 5 * MIB, "sent to there, 5242880 bytes", id="nothing"),
        pytest.param({"part": CONTENT[: 3 * MIB]}, 3 * MIB, "sent to", id="a part, whose last MiB may have holes"),
        pytest.param({"part": CONTENT[: 2 * MIB] + bytes(MIB)}, 3 * MIB, "sent to", id="a part that has holes"),
        pytest.param({"part": CONTENT[:MIB]}, 5 * MIB, "sent to", id="a part that is all in doubt"),
        pytest.param({"part": CONTENT}, MIB, "sent to", id="all but its name"),
        pytest.param({"part": bytes(9 * MIB)}, 5 * MIB, "sent to", id="a longer part of another file"),
        pytest.param({"part": bytes(3 * MIB)}, 8 * MIB, "sent to", id="a part of another file"),
        pytest.param({"final": CONTENT}, 0, "was there already at there", id="all of it"),
    ],
)
def test_sends_what_is_missing(far_end, peer, image, found, sent, words):
    far = far_end(**found)
    assert words in dtn_send.send(image, peer)
    assert (far.content, far.sent) == ({FINAL: CONTENT}, sent)


@pytest.mark.parametrize(("faults", "arrives"), [(4, True), (5, False)])
def test_a_checksum_that_the_far_end_failed_to_compute_is_asked_for_again(far_end, peer, image, monkeypatch, faults, arrives):
    """For a while only; the file keeps its temporary name then."""
    monkeypatch.setattr(dtn_send.time, "sleep", lambda seconds: None)
    far = far_end()
    far.faults = faults
    if arrives:
        assert "sent to there" in dtn_send.send(image, peer)
    else:
        with pytest.raises(dtn_send.Failure, match="Program failed"):
            dtn_send.send(image, peer)
    assert (list(far.content), far.sent) == ([FINAL if arrives else PART], 5 * MIB)


def test_never_overwrites_another_file(far_end, peer, image):
    far = far_end(final=b"other")
    with pytest.raises(dtn_send.Failure, match=r"there has another file of that name. Allowed: a new name for new content"):
        dtn_send.send(image, peer)
    assert far.content == {FINAL: b"other"}


def test_a_file_that_changes_on_the_way_does_not_get_its_name(far_end, peer, image):
    far = far_end()
    far.meanwhile = lambda: image.write_bytes(b"changed")
    with pytest.raises(dtn_send.Failure, match=r"changed while it was sent|another checksum"):
        dtn_send.send(image, peer)
    assert FINAL not in far.content


@pytest.mark.parametrize("name", [".hidden", "-option", "two words", "new\nline"])
def test_names_that_mean_something_else_are_refused(peer, tmp_path, name):
    with pytest.raises(dtn_send.Failure, match=r"Allowed: letters, digits and"):
        dtn_send.send(tmp_path / name, peer)


def test_two_do_not_send_one_file(peer, image):
    with dtn_send.locked(image), pytest.raises(dtn_send.Failure, match="is being sent by another"):
        dtn_send.send(image, peer)


def test_the_oldest_goes_first_and_hidden_ones_stay(tmp_path):
    for age, name in enumerate(("b", "a", ".c")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, age))
    (tmp_path / "directory").mkdir()
    assert [path.name for path in dtn_send.waiting(tmp_path)] == ["b", "a"]
