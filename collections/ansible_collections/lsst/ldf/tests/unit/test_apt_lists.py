"""How old lists of packages are, and what a package cache's URL must look like."""

import os
import socket

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.apt_lists import endpoint, fetched, written
from ansible_collections.lsst.ldf.plugins.modules.apt_lists import unreachable


def aged(path, seconds):
    """``path`` with a modification time of ``seconds`` since the epoch."""
    os.utime(path, (seconds, seconds))
    return path


def test_lists_are_as_old_as_their_last_success(tmp_path):
    lists, stamp = tmp_path / "lists", tmp_path / "stamp"
    lists.mkdir()
    assert fetched(lists, stamp) == 0.0
    (lists / "deb.debian.org_main_binary-amd64_Packages").touch()
    aged(lists, 100)
    assert fetched(lists, stamp) == 100
    stamp.touch()
    aged(stamp, 200)
    assert fetched(lists, stamp) == 200


def test_a_lone_stamp_is_no_list(tmp_path):
    """Somebody emptied the directory: the lists are missing, whatever the stamp says."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "stamp").touch()
    assert fetched(tmp_path / "lists", tmp_path / "stamp") == 0.0


def test_sources_are_as_old_as_the_newest(tmp_path):
    assert written(tmp_path) == 0.0
    (tmp_path / "sources.list").touch()
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "site.sources").touch()
    aged(tmp_path / "sources.list", 100)
    aged(tmp_path / "sources.list.d" / "site.sources", 200)
    assert written(tmp_path) == 200


def test_endpoint_of_a_url():
    assert endpoint("http://10.64.16.17:3142") == ("10.64.16.17", 3142)


@pytest.mark.parametrize(
    "proxy", ["10.64.16.17:3142", "http://10.64.16.17", "https://10.64.16.17:3142", "http://:3142", "http://depot:many"]
)
def test_anything_else_is_refused(proxy):
    with pytest.raises(ValueError):
        endpoint(proxy)


def test_unreachable_says_why():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert unreachable(address) is None
    assert "refused" in unreachable(address)
