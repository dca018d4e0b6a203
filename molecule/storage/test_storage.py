"""storage, by what its disks keep, its kernel stops and its clients may do."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from conftest import LONG, changed, operate, restart, wait_for, words

DISKS = "/run/lab-disks"
in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)


def own_address(host, export) -> str:
    """An address of the host itself that the export is for."""
    addresses = [word for word in host.check_output("hostname --all-ip-addresses").split() if "." in word]
    networks = [IPv4Network(network) for client in export["clients"] for network in client["networks"]]
    return next(word for word in addresses if any(IPv4Address(word) in network for network in networks))


def url(host, export) -> str:
    return f"'nfs://{own_address(host, export)}{export['pseudo']}/?version=4'"


def nfs(host, client: str, command: str, *arguments: str):
    """A command of libnfs, by a client of the scenario."""
    return host.run(f"ip netns exec {client} timeout 20 nfs-{command} {' '.join(map(shlex.quote, arguments))}")


def at(export: str, name: str = "") -> str:
    """Where the scenario's clients find it."""
    return f"nfs://192.0.2.1/{export}/{name}?version=4"


def md5(host, path: str) -> str:
    return host.check_output(f"md5sum {path}").split()[0]


def disks(host) -> dict[str, str]:
    """The loop device that each of the scenario's disks is."""
    return {name: host.check_output(f"readlink {DISKS}/{name}") for name in ("disk1", "disk2", "disk4", "disk5")}


@pytest.fixture
def scratch(host, settings):
    """Makes names of files of the test in a directory; they are removed in the end."""
    made = []

    def name(directory: str) -> str:
        made.append(f"{directory}/lsst-test-{uuid.uuid4().hex}")
        return made[-1]

    yield name
    for path in made:
        host.run(f"rm --recursive --force {path} {path}.*")


@pytest.mark.reads
def test_the_file_systems_are_mounted(host, settings):
    for row in settings["storage_filesystems"]:
        kind, options, label = host.check_output(
            f"findmnt --noheadings --output FSTYPE,OPTIONS {row['path']}; blkid -o value -s LABEL {row['devices'][0]}"
        ).split()
        assert (kind, label) == (row["type"], row["name"])
        assert "noatime" in options.split(",")


@pytest.mark.reads
def test_what_is_exported_is_served(host, settings):
    """And its directories are there, under the mode that they should have."""
    for export in settings["storage_exports"]:
        assert host.run(f"timeout 20 nfs-ls {url(host, export)}").rc == 0, export["name"]
    for row in settings["storage_directories"]:
        found = host.file(row["path"])
        assert found.is_directory and f"{found.mode:04o}" == row.get("mode", "0755")


@pytest.mark.reads
def test_the_disks_are_looked_at(host, settings):
    """The exporter's metrics are of the last minute, and say that all is well."""
    for row in settings["storage_filesystems"]:
        path = f"/var/lib/prometheus/node-exporter/storage-{row['name']}.prom"
        assert host.check_output(f"cat {path}") == f'storage_faults{{filesystem="{row["name"]}"}} 0'
        assert host.check_output(f"find {path} -newermt '-60 seconds'") == path


@pytest.mark.reads
def test_snapshots_scrubs_and_looks_will_come(host):
    """Their timers have a next time, within a day, a month, a minute."""
    days = {"storage-health.timer": 1, "storage-snapshot.timer": 1.1, "storage-scrub.timer": 32}

    def come() -> bool:
        now = time.time() * 1e6
        rows = json.loads(host.check_output("systemctl list-timers --all --output json"))
        after = {row["unit"]: (row["next"] or 0) - now for row in rows}
        return all(0 < after[unit] < most * 86400e6 for unit, most in days.items())

    # One whose service runs at the moment has no next time.
    wait_for(come, 20, "all have a next time")


@in_molecule
@pytest.mark.writes
def test_each_client_may_do_what_its_export_says(host):
    """The writer writes, its root being nobody, or root where that is said; the reader reads; the stranger sees nothing."""
    host.check_output("head -c 100000 /dev/urandom >/tmp/lsst-test")
    for export, directory, owner in (("project", "/data/project", "nobody"), ("scratch", "/bulk/scratch", "root")):
        done = nfs(host, "writer", "cp", "/tmp/lsst-test", at(export, "lsst-test"))
        assert done.rc == 0, done.stdout + done.stderr
        assert md5(host, f"{directory}/lsst-test") == md5(host, "/tmp/lsst-test")
        assert host.file(f"{directory}/lsst-test").user == owner
        refused = nfs(host, "reader", "cp", "/tmp/lsst-test", at(export, "lsst-test-reader"))
        assert refused.rc and "NFS4ERR_ROFS" in refused.stdout + refused.stderr
        assert "lsst-test" in nfs(host, "reader", "ls", at(export)).stdout
        refused = nfs(host, "stranger", "ls", at(export))
        assert refused.rc and "NFS4ERR_NOENT" in refused.stdout + refused.stderr
        host.check_output(f"rm {directory}/lsst-test")
    # Nobody may not write where only root may.
    refused = nfs(host, "writer", "cp", "/tmp/lsst-test", at("project/shared", "lsst-test"))
    assert refused.rc and "NFS4ERR_ACCESS" in refused.stdout + refused.stderr


@in_molecule
@pytest.mark.writes
def test_a_quota_stops_who_writes_more(host, scratch):
    """64 MiB are the limit, and what is beside it does not suffer."""
    file = scratch("/data/project")
    done = host.run(f"dd if=/dev/zero of={file} bs=1M count=80")
    assert done.rc and "Disk quota exceeded" in done.stderr
    assert 60 << 20 < host.file(file).size <= 64 << 20
    host.check_output(f"dd if=/dev/zero of={scratch('/data/home')} bs=1M count=80 status=none")


# It takes the oldest snapshots away.
@in_molecule
@pytest.mark.disturbs
def test_a_snapshot_brings_a_deleted_file_back(machine, host, scratch):
    """On either file system; what is there now is not lost, and only so many snapshots stay."""
    files = {
        path: host.check_output(f"head -c 1000000 /dev/urandom | tee {path} | md5sum")
        for path in map(scratch, ("/data/home", "/bulk/scratch"))
    }
    for _ in range(3):
        host.check_output("systemctl start storage-snapshot && sleep 1")
    assert host.check_output("ls /data/.snapshots/home /bulk/.snapshots/scratch | grep -c Z$") == "4"
    assert host.run("runuser -u nobody -- ls /data/.snapshots").rc != 0
    first, second = files
    host.check_output(f"rm {first} && echo new >{second}")
    for path, word in ((first, "as it was at"), (second, f"{second} is there. Allowed: a path that is gone, or")):
        done = operate("restore-file", f"--limit={machine.name}", storage_restore=machine.name, storage_restore_path=path)
        assert word in words(done), done.stdout + done.stderr
    done = operate(
        "restore-file",
        f"--limit={machine.name}",
        storage_restore=machine.name,
        storage_restore_path=second,
        storage_restore_overwrite=f"{machine.name}:{second}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: host.check_output(f"md5sum <{path}") for path in files} == files
    assert host.file(f"{second}.replaced").content_string == "new\n"


@in_molecule
@pytest.mark.disturbs
def test_a_writer_outlives_the_death_of_the_server(host):
    """A stream in pieces of 1 MB, each sent until it is taken, while the server is killed: all of it is there."""
    assert nfs(host, "writer", "ls", at("scratch")).rc == 0
    count = 500 if LONG else 50
    pieces = "split --bytes=1M --numeric-suffixes --suffix-length=4 - /tmp/lsst-test.d/x"
    host.check_output(f"mkdir /tmp/lsst-test.d && head -c {count}M /dev/urandom | {pieces}")
    # A name for each attempt: one that was cut off in its creation belongs to that attempt (NFS4ERR_EXIST).
    take = "timeout 5 nfs-cp $each 'nfs://192.0.2.1/scratch/lsst-test-'$n'?version=4'"
    send = f"for each in x*; do until n=$((n + 1)); {take}; do sleep 0.1; done; echo lsst-test-$n >>names; done"
    try:
        host.check_output(
            "systemd-run --quiet --unit lsst-test --working-directory /tmp/lsst-test.d --property NetworkNamespacePath=/run/netns/writer"
            f" sh -c {shlex.quote(send)}"
        )
        for _ in range(3):
            host.run("sleep 1; systemctl kill --signal KILL nfs-ganesha")
        wait_for(lambda: host.run("systemctl is-active lsst-test").stdout.strip() != "active", 60 + count, "all pieces are taken")
        arrived = host.check_output("cd /bulk/scratch && xargs cat </tmp/lsst-test.d/names | md5sum")
        assert arrived == host.check_output("cat /tmp/lsst-test.d/x* | md5sum")
        assert int(host.check_output("systemctl show nfs-ganesha --property NRestarts --value")) > 0
    finally:
        host.run("systemctl stop lsst-test; systemctl reset-failed lsst-test; rm -rf /tmp/lsst-test.d /bulk/scratch/lsst-test-*")


@in_molecule
@pytest.mark.disturbs
def test_what_must_not_be_is_refused_before_anything_changes(host, apply, settings, scratch):
    """A disk with something on it, a quota below what is there, a quota on XFS where the kernel keeps none."""
    tops, directories = settings["storage_filesystems"], settings["storage_directories"]
    extra = {"name": "extra", "path": "/extra", "type": "xfs", "devices": [f"{DISKS}/disk5"]}
    host.check_output(
        f"mkfs.xfs -q -f -L somebody {DISKS}/disk5 && dd if=/dev/zero of={scratch('/data/project')} bs=1M count=20 status=none"
    )
    before = host.check_output(f"head -c 64M {DISKS}/disk5 | md5sum")
    smaller = [row | ({"quota": "1M"} if "quota" in row else {}) for row in directories]
    limited = [*directories, {"path": "/bulk/limited", "quota": "1M"}]
    for change, refusal in (
        (
            {"storage_filesystems": [*tops, extra]},
            "disk5 is meant for the file system extra, but holds xfs 'somebody'. Allowed: an empty disk",
        ),
        (
            {"storage_directories": smaller},
            "/data/project holds 20 MiB, more than the quota of 1 MiB. Allowed: a quota above what is there",
        ),
        ({"storage_directories": limited}, "keeps no project quotas on XFS (CONFIG_XFS_QUOTA is off). Allowed: a kernel that does"),
    ):
        if "CONFIG_XFS_QUOTA" in refusal and host.file("/proc/fs/xfs/xqmstat").exists:
            continue
        done = apply(**change)
        assert done.returncode and refusal in words(done) and "Edit" in done.stdout, done.stdout + done.stderr
    assert host.check_output(f"head -c 64M {DISKS}/disk5 | md5sum") == before
    assert not host.file("/etc/systemd/system/extra.mount").exists


@in_molecule
@pytest.mark.disturbs
def test_a_run_that_was_killed_in_mkfs_is_mended_by_the_next(host, apply, settings):
    """The disk is as a killed one leaves it: with a file system that has not got its name yet."""
    extra = {"name": "extra", "path": "/extra", "type": "xfs", "devices": [f"{DISKS}/disk5"]}
    everything = {"storage_filesystems": [*settings["storage_filesystems"], extra]}
    host.check_output(f"wipefs --all --quiet {DISKS}/disk5 && mkfs.xfs -q -L extra~ {DISKS}/disk5")
    try:
        assert changed(apply(**everything))
        found = host.check_output(f"findmnt --noheadings --output FSTYPE /extra; blkid -o value -s LABEL {DISKS}/disk5")
        assert found.split() == ["xfs", "extra"]
        assert not changed(apply(**everything))
    finally:
        gone = "/etc/systemd/system/extra.mount /var/lib/prometheus/node-exporter/storage-extra.prom"
        host.run(f"systemctl disable --now extra.mount; wipefs --all {DISKS}/disk5")
        apply()
        host.run(f"rm -f {gone}; systemctl daemon-reload")


@in_molecule
@pytest.mark.disturbs
def test_a_dead_disk_is_reported_replaced_and_nothing_is_lost(machine, host, settings):
    """While somebody writes. Then the mirror gets its old disk back, a third one, and loses that again."""
    data = settings["storage_filesystems"][0]
    loops = disks(host)
    metrics = "/var/lib/prometheus/node-exporter/storage-data.prom"
    # Each piece is on the disk before its sum is noted.
    write = "for i in {1..300}; do head -c 1M /dev/urandom >load.$i; sync load.$i && md5sum load.$i >>sums; sleep 0.1; done; sleep infinity"
    there = "/data/home/lsst-test"
    host.check_output(f"mkdir {there} && cd {there} && head -c 50M /dev/urandom >before && md5sum before >sums")
    host.check_output(f"systemd-run --quiet --unit lsst-test --working-directory {there} bash -c {shlex.quote(write)}")
    try:
        # Not a byte of it can be read or written any more; what is under way makes the file longer again.
        dead = f"truncate --size=0 /var/lib/lab-disks/disk2; losetup --set-capacity {loops['disk2']}"
        host.check_output(f"sync -f /data; until [ $(blockdev --getsize64 {loops['disk2']}) = 0 ]; do {dead}; done")
        wait_for(lambda: f"cannot read {DISKS}/disk2" in host.file(metrics).content_string, 60, "the dead disk is reported")
        assert 'storage_faults{filesystem="data"} 0' not in host.file(metrics).content_string
        assert f"cannot read {DISKS}/disk2" in host.check_output(
            "journalctl --sync; journalctl --unit storage-health --priority err --since -2min --output cat"
        )
        done = operate("replace-disk", f"--limit={machine.name}", storage_replace="another-host")
        assert done.returncode and f"storage_replace is another-host, but the host is {machine.name}. Allowed: " in words(done)
        replaced = [data | {"devices": [f"{DISKS}/disk1", f"{DISKS}/disk4"]}, *settings["storage_filesystems"][1:]]
        done = operate("replace-disk", f"--limit={machine.name}", storage_replace=machine.name, storage_filesystems=replaced)
        assert done.returncode == 0 and "no errors found" in done.stdout, done.stdout + done.stderr
        assert {loops["disk1"], loops["disk4"]} == set(re.findall(r"path (\S+)", host.check_output("btrfs filesystem show /data")))
        # A new disk in the old place, for the one that is in use.
        host.check_output(f"truncate --size=2G /var/lib/lab-disks/disk2; losetup --set-capacity {loops['disk2']}")
        done = operate("replace-disk", f"--limit={machine.name}", storage_replace=machine.name)
        assert done.returncode == 0 and "no errors found" in done.stdout, done.stdout + done.stderr
        grown = [data | {"devices": [*data["devices"], f"{DISKS}/disk4"]}, *settings["storage_filesystems"][1:]]
        done = operate("grow-storage", f"--limit={machine.name}", storage_grow=machine.name, storage_filesystems=grown)
        assert done.returncode == 0, done.stdout + done.stderr
        assert set(re.findall(r"path (\S+)", host.check_output("btrfs filesystem show /data"))) == {
            loops[name] for name in ("disk1", "disk2", "disk4")
        }
        host.check_output(f"systemctl stop lsst-test; btrfs device remove {loops['disk4']} /data && btrfs scrub start -B /data")
        sums = host.check_output("cd /data/home/lsst-test && md5sum --check --quiet sums && wc -l <sums")
        assert int(sums) > 10
        wait_for(lambda: host.file(metrics).content_string == 'storage_faults{filesystem="data"} 0\n', 60, "all is well again")
    finally:
        host.run("systemctl stop lsst-test; systemctl reset-failed lsst-test; rm -rf /data/home/lsst-test")


@in_molecule
@pytest.mark.disturbs
def test_everything_comes_back_with_the_machine(machine, host):
    host.check_output("echo here >/data/home/lsst-test-restart")
    restart(machine)
    # The clients do not.
    host.check_output("sh -c %s", (Path(__file__).parent / "prepare.sh").read_text())
    assert host.file("/data/home/lsst-test-restart").content_string == "here\n"
    assert wait_for(lambda: host.run(f"nfs-ls '{at('scratch')}'").rc == 0, 20, "the exports are served")
    host.check_output("rm /data/home/lsst-test-restart")
