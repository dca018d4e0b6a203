"""What goes wrong on the way: a clear message, nothing half-done that a second run does not mend, no handler lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import TOP, inside, podman, run

HOME = "/root/.ansible/lsst_ldf_batch"


def play(file: str, *arguments: str, way: str = "batch", **variables):
    return run(way, *arguments, playbook="faults.yml", file=file, **variables)


@pytest.mark.parametrize(
    "damage",
    [
        f"rm -rf {HOME}",
        f"chmod 0777 {HOME}",
        f"chmod 0777 {HOME}/*/",
        f"chown daemon {HOME}/*/",
        f"rm -rf {HOME}/*/ansible_collections",
    ],
)
def test_bundle_is_sent_again(pair, damage):
    """What is missing, or could have been written by somebody else, is not used."""
    inside("batch", f"rm -f /srv/changed; {damage}")
    assert play("killed.yml").changed == ["Change something"]
    left = podman("exec", pair["batch"], "sh", "-c", f"find {HOME} -maxdepth 1 -type d -printf '%u %m\\n' | sort -u")
    assert left.splitlines() == ["root 700"]


@pytest.mark.parametrize("foreign", [f"mkdir {HOME}; chown daemon {HOME}", f"mkdir -p /srv/elsewhere; ln -s /srv/elsewhere {HOME}"])
def test_foreign_directory_is_refused(pair, foreign):
    inside("batch", f"rm -rf {HOME}; {foreign}")
    try:
        told = play("killed.yml")
    finally:
        inside("batch", f"rm -rf {HOME}")
    assert told.rc == 2 and "belongs to somebody else" in told.text and pair["batch"] in told.text


def test_full_disk_for_the_bundle(pair):
    inside("batch", f"rm -rf {HOME}; mkdir -m 0700 {HOME}; mount -t tmpfs -o size=64k,mode=0700 none {HOME}")
    try:
        told = play("killed.yml")
    finally:
        inside("batch", f"umount {HOME}")
    assert (
        told.rc == 2 and f"{pair['batch']}: could not install what the batch needs" in told.text and "No space left on device" in told.text
    )
    assert play("killed.yml").rc == 0


def test_full_disk_for_a_file(pair):
    """The task fails, the old file stays, the later tasks wait for the next run."""
    inside("batch", "mkdir -p /srv/small; mount -t tmpfs -o size=64k none /srv/small; echo old >/srv/small/file; rm -f /srv/after")
    try:
        told = play("small.yml")
        assert told.rc == 2 and told.failed == ["Write where there is room for little"] and "No space left on device" in told.text
        assert podman("exec", pair["batch"], "sh", "-c", "cat /srv/small/file; ls /srv/after || true") == "old\n"
    finally:
        inside("batch", "umount /srv/small")
    assert play("small.yml").changed == ["Write where there is room for little", "Go on"]


def test_killed_runner_loses_no_handler(pair):
    """The change was made, its answer never came; the next run, with nothing left to do, fires the handler, and only once."""
    inside("batch", "rm -f /srv/changed")
    told = play("killed.yml", kill=True)
    assert told.rc == 2 and not told.handlers and f"{pair['batch']}: the batch gave no answer" in told.text
    assert play("killed.yml", "--check").rc == 0  # takes nothing away from the next one
    again = play("killed.yml")
    assert again.rc == 0 and again.changed == [] and again.handlers == ["First"]
    assert play("killed.yml").handlers == []


def descendants(parent: int) -> list[int]:
    """Numbers of the processes below ``parent``."""
    children = [int(child) for path in Path(f"/proc/{parent}/task").glob("*/children") for child in path.read_text().split()]
    return children + [deeper for child in children for deeper in descendants(child)]


def test_connection_cut_in_the_middle(pair):
    """The host goes on, unheard. The next run waits until it is through, finds everything done and fires the handler, only once."""
    inside("batch", "rm -f /srv/changed /srv/after")

    def cut(playing: int) -> None:
        begun = time.monotonic() + 60
        while podman("exec", pair["batch"], "sh", "-c", "ls /srv/changed || true") == "" and time.monotonic() < begun:
            time.sleep(0.2)
        for pid in descendants(playing):
            if b"\0exec\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    # With an option before it, exec is podman's own (lab/podman), whose other end lives on when it is killed.
    told = play("killed.yml", meanwhile=cut, linger=15, ansible_podman_extra_args="--log-level=error")
    assert told.rc == 2 and not told.handlers and f"{pair['batch']}: the batch gave no answer" in told.text
    assert podman("exec", pair["batch"], "sh", "-c", "ls /srv/after || true") == ""
    again = play("killed.yml", linger=15)
    assert again.rc == 0 and again.changed == [] and again.handlers == ["First"]
    assert podman("exec", pair["batch"], "stat", "--format=%s", "/srv/after") == "0\n"
    assert play("killed.yml", linger=15).handlers == []


def test_output_that_is_no_json(pair):
    told = play("garbage.yml")
    assert told.changed == ["Prints around its result"] and told.failed == ["Prints no result"]
    assert "the module gave no result" in told.text and "and complains" in told.text


def test_big_content(pair):
    """It arrives, arrives changed, and does not travel when it is there already; a check needs none of it."""
    inside("batch", "rm -f /srv/big /srv/after")
    assert play("big.yml", "--check", "--diff", letter="a").changed == ["Write what is too big to travel at once", "Go on"]
    assert play("big.yml", letter="a").changed == ["Write what is too big to travel at once", "Go on"]
    assert play("big.yml", letter="a").changed == []
    assert play("big.yml", letter="b").changed == ["Write what is too big to travel at once"]
    assert podman("exec", pair["batch"], "sh", "-c", "head -c 3 /srv/big; wc -c </srv/big; stat -c %a /srv/big") == "bbb600001\n640\n"


def test_become_an_ordinary_user(pair):
    for way in pair:
        inside(way, "id ordinary 2>/dev/null || useradd --create-home ordinary; rm -rf ~ordinary/mine ~ordinary/directory ~ordinary/name")
        told = play("own.yml", way=way, user="ordinary", home="/home/ordinary")
        assert told.rc == 0 and told.changed == ["Whoever this is", "Its directory", "Its name"], told.text
        seen = podman("exec", pair[way], "sh", "-c", "cd ~ordinary; cat mine name; stat -c '%U %a' mine directory")
        assert seen == f"{way}\nordinary\nordinary 640\nordinary 700\n"
        assert play("own.yml", way=way, user="ordinary", home="/home/ordinary").changed == []


def test_check_mode_predicts_the_restart(pair):
    """The unit's step knows what the step before would have written."""
    play("restart.yml", text="# one")
    told = play("restart.yml", "--check", text="# two")
    assert told.changed == ["Write what the unit reads", "Run it with its newest file"]
    assert play("restart.yml", "--check", text="# one").changed == []
    assert play("restart.yml", text="# two").changed == ["Write what the unit reads", "Run it with its newest file"]


def test_verbose_output_has_no_secret(pair):
    told = run("batch", "-vvv", secret="s3cret-of-the-torture")
    assert told.rc == 0 and "s3cret-of-the-torture" not in told.text.replace('"secret": "s3cret-of-the-torture"', "")


def test_containers_are_entered_without_podman(pair):
    """What makes these tests bearable; without it they would only be slow."""
    traced = subprocess.run(
        ["bash", "-x", TOP / "lab" / "podman", "exec", pair["batch"], "hostname"], text=True, capture_output=True, check=True
    )
    assert traced.stdout.strip() == pair["batch"] and "+ exec nsenter" in traced.stderr
