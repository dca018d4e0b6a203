"""lsst.ldf.daq_partition_info with the stand-in's command and daemons, and with commands that fail."""

from __future__ import annotations

import json
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lsst.ldf.plugins.module_utils import daq_partition
from ansible_collections.lsst.ldf.plugins.module_utils.daq import DaqError
from ansible_collections.lsst.ldf.plugins.modules import daq_partition_info

BUILD = Path(__file__).parents[6] / "lab/standins/daq-sdk/build.sh"
PLACES = ["16/3/2", "16/3/0"]


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """The stand-in's commands, as its archive has them."""
    place = tmp_path_factory.mktemp("standin")
    subprocess.run([BUILD, place, "R0-V0.0"], check=True)
    with tarfile.open(place / "R0-V0.0.tgz") as archive:
        archive.extractall(place, filter="data")
    return place / "R0-V0.0/x86/bin"


class Daq:
    """The stand-in's services in a directory, and the module that asks them."""

    def __init__(self, commands, backing, capsys):
        self.commands, self.backing, self.capsys = commands, backing, capsys
        backing.mkdir()

    def start(self, name, *places):
        subprocess.run([self.commands / f"{name}_startup", self.backing, "lo", *places], check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_text().split("\0")
            except OSError:
                continue
            if str(self.backing) in words and "_startup" in " ".join(words):
                subprocess.run(["kill", path.parent.name], check=True)

    def __call__(self, check=False, **params):
        own = {"command": str(self.commands / "daq_partitions"), "backing_dir": str(self.backing), "_ansible_check_mode": check}
        with patch_module_args({**own, **params}), pytest.raises(SystemExit):
            daq_partition_info.main()
        return json.loads(self.capsys.readouterr().out)


@pytest.fixture
def daq(commands, tmp_path, capsys):
    daq = Daq(commands, tmp_path / "vrce", capsys)
    yield daq
    daq.stop()


def partition(state="up", dsid="up", places=PLACES):
    sources = [{"place": place, "state": "up"} for place in places]
    return {
        "name": "vrce",
        "state": state,
        "interface": "lo" if state == "up" else "",
        "servers": {"dsid": dsid, "dsm": state},
        "sources": sources,
    }


def test_it_tells_what_the_daemons_tell(daq):
    assert daq()["partitions"] == [partition("down", "down", [])]
    daq.start("dsid")
    assert daq()["partitions"] == [partition("down", "up", [])]
    daq.start("dsm", *PLACES)
    told = daq()
    assert (told["changed"], told["partitions"]) == (False, [partition()])
    daq.stop()
    # The sockets are still there, and nobody answers.
    assert (daq.backing / "dsm.socket").exists() and daq()["partitions"] == [partition("down", "down", [])]


def test_a_partition_without_sources(daq):
    daq.start("dsm", "NONE")
    assert daq()["partitions"] == [partition("up", "down", [])]


def test_it_waits(daq):
    wanted = {"partitions": {"vrce": "up"}, "sources": {"at_least": 2}}
    assert "failed" not in daq(check=True, wait_for=wanted)
    late = threading.Timer(0.3, daq.start, ("dsm", *PLACES))
    late.start()
    assert daq(wait_for=wanted, timeout=60)["partitions"] == [partition(dsid="down")]
    late.join()


def test_it_waits_no_longer_than_it_is_told(daq):
    begin = time.monotonic()
    failed = daq(wait_for={"partitions": {"vrce": "up"}}, timeout=0.1)
    assert failed["failed"] and time.monotonic() - begin < 20
    assert failed["msg"].startswith("After 0.1 s vrce is down, not up.\nAllowed: ") and failed["partitions"] == [
        partition("down", "down", [])
    ]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"command": "/none"}, "/none: .*No such file.*\nAllowed: a command of the SDK that answers"),
        ({"backing_dir": "/none"}, "daq_partitions failed: /none is no directory.\nAllowed: "),
        ({"command": "/bin/echo"}, "The SDK's command printed "),
        ({"wait_for": {"partitions": {"vrce": "ready"}}}, "wait_for.partitions has vrce: ready.\nAllowed: up or down.\nCorrect wait_for"),
    ],
)
def test_what_fails(daq, params, told):
    failed = daq(**params)
    assert failed["failed"] and failed["msg"].count("\n") >= 2
    with pytest.raises(DaqError, match=told):
        raise DaqError(failed["msg"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"partitions": [{"name": "a"}]}',
        '{"partitions": [1]}',
        json.dumps({"partitions": [{**partition(), "state": "odd"}]}),
    ],
)
def test_other_output_is_refused(text):
    with pytest.raises(DaqError, match=r"The SDK's command printed .*\nAllowed: .*\nCorrect command"):
        daq_partition.read(text)


@pytest.mark.parametrize(
    ("wait_for", "found"),
    [
        (None, []),
        ({"partitions": {}, "sources": None}, []),
        ({"partitions": {"vrce": "up"}}, []),
        ({"partitions": {"vrce": "down"}}, ["vrce is up, not down"]),
        ({"partitions": {"other": "up"}}, ["other is not there, not up"]),
        ({"sources": {"state": "up", "at_least": 2}}, []),
        ({"sources": {"state": "up", "at_least": 3}}, ["2 of 3 sources are up"]),
        ({"sources": {"state": "down", "at_least": 1}}, ["0 of 1 sources are down"]),
    ],
)
def test_what_is_waited_for(wait_for, found):
    assert daq_partition.unmet(daq_partition.read(json.dumps({"partitions": [partition()]})), wait_for) == found
