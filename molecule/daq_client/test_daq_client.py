"""daq_client, by what a client receives and what a move to another release loses. Camera, tools and receiver are stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import testinfra

from conftest import ansible, changed, operate, wait_for, words

in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)
with_release = pytest.mark.where(lambda machine: machine.settings["daq_client"]["daq_client_sdk"])

MEDIA = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "")) / "secrets/media.json"
BASE, SETUP = "/opt/lsst/daq-sdk", ". /etc/ccs/daqv*-setup"
RECEIVED = "/var/lib/daq-receiver"
OLD, NEW, OTHER_API = "R0-V0.0", "R0-V0.1", "R0-V1.0"
# As the role has it.
PINNED = {"setup_file": "/etc/ccs/daqv0-setup", "owner": "root", "group": "root"}
COMCAM = ("daq-camera2", "daq-client2", "daq-client3")
AUXTEL = ("daq-camera1", "daq-client1")
PARTITIONS = {COMCAM: "comcam", AUXTEL: "ats"}


def at(name: str):
    return testinfra.get_host(f"podman://{name}")


def module(host: str, module: str, /, **arguments) -> str:
    """What a module says of a host, in one line."""
    return words(ansible("ansible", host, "-m", f"lsst.ldf.{module}", "-a", json.dumps(arguments)))


def move(playbook: str, version: str, mode: str, *arguments: str, camera: str = "comcam") -> subprocess.CompletedProcess:
    """Move a camera's partition."""
    return operate(f"{playbook}-daq", *arguments, daq_upgrade=camera, daq_version=version, daq_mode=mode)


def releases(names: tuple[str, ...]) -> list[str]:
    """The release that each host is at."""
    return [at(name).check_output(f"readlink {BASE}/{'current' if 'camera' in name else 'ccs-production'}") for name in names]


def running(names: tuple[str, ...]) -> list[str]:
    """Which processes run there, and how often they had to be started anew."""
    return [at(name).check_output("systemctl show --property ActiveState,MainPID,NRestarts daq-camera daq-receiver") for name in names]


def held(names: tuple[str, ...]) -> list[str]:
    """Releases, links and setup files."""
    return [at(name).check_output(f"ls -l --time-style=full-iso {BASE} $(ls -d /etc/ccs)") for name in names]


def state(names: tuple[str, ...]) -> dict[str, str]:
    """What the tool says of a camera's partition, asked by a client of it."""
    tool = f"$DAQ_HOME/x86/bin/daq_partition {names[0]}:7070 {PARTITIONS[names]}"
    asked = at(names[1]).check_output(f"sh -c '{SETUP}; {tool}'")
    row = next(line.split() for line in asked.splitlines() if line.startswith("partition "))
    return dict(zip(("state", "api", "build", "images", "waiting"), row[2:], strict=True))


def received(names: tuple[str, ...]) -> set[int]:
    """Numbers of the images that the clients among the hosts have."""
    listed = " ".join(at(name).check_output(f"ls {RECEIVED}") for name in names if "client" in name)
    return {int(word.removesuffix(".raw")) for word in listed.split()}


def lost(names: tuple[str, ...]) -> set[int]:
    """Numbers of the images that the camera made and no client has, once it has been idle and all were taken."""
    camera = at(names[0])
    camera.check_output("touch /var/lib/daq-camera/idle")
    try:
        wait_for(lambda: state(names)["waiting"] == "0", 30, "every image is taken")
        made = int(state(names)["images"])
        assert made > 20
        return set(range(1, made + 1)) - received(names)
    finally:
        camera.check_output("rm /var/lib/daq-camera/idle")


@pytest.fixture
def read_only():
    """Makes a client's directory for images read-only; it is writable in the end."""
    broken = []

    def make(name):
        at(name).check_output(f"mount --bind -o ro {RECEIVED} {RECEIVED}")
        broken.append(name)

    yield make
    for name in broken:
        at(name).run(f"umount {RECEIVED}")


@with_release
@pytest.mark.reads
def test_the_libraries_find_what_they_need(host):
    """By the setup file, and only by it."""
    shown = host.check_output(f"sh -c '{SETUP}; ldd $DAQ_HOME/x86/lib/lib*.so*'")
    assert "not found" not in shown and "=>" in shown
    assert "daq" not in host.check_output("ldconfig --print-cache")


@in_molecule
@pytest.mark.reads
def test_a_tool_asks_the_partition(machine):
    assert state(next(names for names in PARTITIONS if machine.name in names))["state"] == "running"


@in_molecule
@pytest.mark.reads
def test_images_arrive(host):
    """On every client, those that it shares its camera with notwithstanding."""
    before = host.check_output(f"ls {RECEIVED}")
    wait_for(lambda: host.check_output(f"ls {RECEIVED}") != before, 30, "an image arrives")


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
def test_nothing_is_taken_from_a_process(host, machine, apply):
    """Neither a camera's tree nor a client's pin is moved while something runs from it, and what is pinned is never one too many."""
    host.check_output("systemctl is-active daq-receiver")
    before = running(COMCAM)
    rows = {row["version"]: row for row in json.loads(MEDIA.read_text())}
    assert "FAILED" not in module(COMCAM[0], "daq_sdk", **rows[NEW])
    for name, how, told in (
        (COMCAM[0], ("daq_sdk", rows[NEW] | {"state": "current", "force": False}), f"{OLD} is current, and is mapped by "),
        (
            machine.name,
            ("daq_client", PINNED | {"version": NEW}),
            f"{OLD} is ccs-production, and is mapped by daq_image (",
        ),
    ):
        assert told in module(name, how[0], **how[1])
    assert releases(COMCAM) == [OLD] * 3
    module(machine.name, "daq_sdk", keep=1, **rows[OTHER_API])
    assert host.check_output(f"ls {BASE}").split() == [OLD, OTHER_API, "ccs-production", "dl"]
    assert changed(apply()) and NEW in host.check_output(f"ls {BASE}").split()
    assert running(COMCAM) == before


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
def test_a_rolling_upgrade_and_its_way_back_lose_no_image(machine):
    """While the camera sends. Once it is done there is nothing left to do, in a check run either."""
    at(COMCAM[1]).check_output("systemctl is-active daq-receiver")
    others = running(AUXTEL)
    told = move("upgrade", NEW, "rolling", "--check")
    assert changed(told) and releases(COMCAM) == [OLD] * 3
    assert changed(move("upgrade", NEW, "rolling"))
    assert releases(COMCAM) == [NEW] * 3 and state(COMCAM)["build"] == NEW
    assert lost(COMCAM) == set()
    assert not changed(move("upgrade", NEW, "rolling"))
    assert not changed(move("upgrade", NEW, "rolling", "--check"))
    assert changed(move("rollback", OLD, "rolling"))
    assert releases(COMCAM) == [OLD] * 3 and lost(COMCAM) == set()
    assert running(AUXTEL) == others


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("options", "arguments", "told"),
    [
        ((OTHER_API, "rolling"), (), f"clients of {OTHER_API} with a server of {OLD} would meet. Allowed: "),
        ((NEW, "rolling"), ("--limit=daq-camera2,daq-client2",), "and leaves out daq-client3 at daq;"),
        ((NEW, "rollng"), (), "daq_mode is rollng"),
        (("R0-V9.9", "window"), (), "is to have R0-V9.9"),
        ((NEW, "rolling", "daq_client"), (), "of the management nodes none"),
    ],
    ids=["another API", "half a partition", "mode", "release", "no camera"],
)
def test_what_cannot_be_moved_is_refused_before_anything_changes(host, options, arguments, told):
    host.check_output("systemctl is-active daq-receiver")
    before = [running(COMCAM + AUXTEL), held(COMCAM + AUXTEL)]
    version, mode, *camera = options
    done = move("upgrade", version, mode, *arguments, camera=camera[0] if camera else "comcam")
    assert done.returncode != 0 and told in words(done) and "Edit" in words(done), words(done)
    assert [running(COMCAM + AUXTEL), held(COMCAM + AUXTEL)] == before


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
def test_the_first_failure_ends_a_rolling_upgrade(machine, read_only):
    """The client is back, the other one and the camera were not touched."""
    untouched = running((COMCAM[0], COMCAM[2]))
    at(COMCAM[1]).check_output("systemctl is-active daq-receiver")
    read_only(COMCAM[1])
    done = move("upgrade", NEW, "rolling")
    assert done.returncode != 0 and f"{COMCAM[1]} does not work with {NEW} (Take an image: " in words(done), words(done)
    assert releases(COMCAM) == [OLD] * 3 and running((COMCAM[0], COMCAM[2])) == untouched


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
def test_a_window_in_which_a_client_fails_is_as_if_it_had_not_been(machine, read_only):
    at(COMCAM[2]).check_output("systemctl is-active daq-receiver")
    read_only(COMCAM[2])
    done = move("upgrade", OTHER_API, "window")
    assert done.returncode != 0 and f"{COMCAM[2]} did not work with {OTHER_API}" in words(done), words(done)
    at(COMCAM[2]).check_output(f"umount {RECEIVED}")
    assert releases(COMCAM) == [OLD] * 3 and state(COMCAM)["build"] == OLD
    assert lost(COMCAM) == set()


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
def test_in_a_window_a_camera_gets_another_api_and_the_other_camera_goes_on(machine):
    others, had = running(AUXTEL), len(received(AUXTEL))
    assert changed(move("upgrade", OTHER_API, "window"))
    assert releases(COMCAM) == [OTHER_API] * 3 and releases(AUXTEL) == [OLD] * 2
    assert state(COMCAM)["api"] == "1" and lost(COMCAM) == set()
    assert running(AUXTEL) == others and len(received(AUXTEL)) > had + 20
    assert not changed(move("upgrade", OTHER_API, "window"))
    assert changed(move("rollback", OLD, "window")) and releases(COMCAM) == [OLD] * 3
    assert lost(COMCAM) == set()
