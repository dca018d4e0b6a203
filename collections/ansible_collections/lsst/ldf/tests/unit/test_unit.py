"""lsst.ldf.unit and the peers of a redundant service: real listeners on the loopback interface."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.systemd import SystemdError
from ansible_collections.lsst.ldf.plugins.modules.unit import refuse_last_member


@pytest.fixture
def peer():
    """A bound socket that does not listen yet, and its address:port."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server, f"127.0.0.1:{server.getsockname()[1]}"


def test_a_restart_is_refused_while_too_few_peers_answer(peer):
    _, address = peer
    with pytest.raises(SystemdError, match=f"named is due for a restart, but only 0 of its peers {address} answer; 1 must"):
        refuse_last_member("named", [address], 1, 0)


def test_a_peer_that_answers_allows_it(peer):
    server, address = peer
    server.listen()
    refuse_last_member("named", [address], 1, 0)
    with pytest.raises(SystemdError, match="only 1 of its peers"):
        refuse_last_member("named", [address, "127.0.0.1:1"], 2, 0)


def test_a_peer_that_is_just_starting_is_waited_for(peer):
    server, address = peer
    threading.Timer(0.5, server.listen).start()
    refuse_last_member("named", [address], 1, 10)


def test_nobody_is_waited_for_longer_than_said(peer):
    began = time.monotonic()
    with pytest.raises(SystemdError):
        refuse_last_member("named", [peer[1]], 1, 1.5)
    assert 1.5 <= time.monotonic() - began < 5


def test_without_peers_there_is_nothing_to_refuse():
    refuse_last_member("chrony", [], 1, 0)
