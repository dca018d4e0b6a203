"""A bundle is named by its content, kept in a place that is ours alone, and made anew when a source changes."""

import zipfile
from io import BytesIO

import pytest
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_bundle as bb

BUNDLE = bb.Bundle("0" * 64, {"a": "b"}, b"archive")


@pytest.fixture(scope="module")
def made():
    """A bundle of one module, and its sources."""
    return bb.make(["ansible.builtin.file"], [])


def test_same_content_same_name(made):
    again, _ = bb.make(["ansible.builtin.file"], [])
    assert again == made[0]


def test_holds_runner_and_module(made):
    names = zipfile.ZipFile(BytesIO(made[0].archive)).namelist()
    assert {"ansible/modules/file.py", f"{bb.HOME}/batch_runner.py", f"{bb.HOME}/batch_probes.py", f"{bb.HOME}/__init__.py"} <= set(names)


def test_kept_and_found(tmp_path, made):
    bb.keep(tmp_path, "key", *made)
    assert bb.kept(tmp_path, "key") == made[0] and bb.kept(tmp_path, "other") is None


def test_made_anew_when_a_source_changes(tmp_path, made):
    source = tmp_path / "source.py"
    source.write_text("x")
    bb.keep(tmp_path, "key", made[0], {str(source)})
    assert bb.kept(tmp_path, "key")
    source.write_text("xy")
    assert bb.kept(tmp_path, "key") is None


@pytest.mark.parametrize("damage", [b"", b"other"])
def test_damaged_archive_is_not_used(tmp_path, made, damage):
    bb.keep(tmp_path, "key", *made)
    (tmp_path / f"{made[0].sha256}.zip").write_bytes(damage)
    assert bb.kept(tmp_path, "key") is None


def test_damaged_index_is_not_used(tmp_path, made):
    bb.keep(tmp_path, "key", *made)
    (tmp_path / "key.json").write_text("{")
    assert bb.kept(tmp_path, "key") is None


@pytest.mark.parametrize(("mode", "used"), [(0o700, True), (0o770, False), (0o702, False)])
def test_only_a_place_of_our_own(tmp_path, monkeypatch, mode, used):
    monkeypatch.setattr(bb.constants.config, "get_config_value", lambda name: str(tmp_path))
    place = tmp_path / "lsst_ldf_batch" / "bundles"
    place.mkdir(parents=True)
    place.chmod(mode)
    assert bool(bb.cache_directory()) == used
