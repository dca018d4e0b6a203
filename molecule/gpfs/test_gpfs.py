"""gpfs: nothing without the media, a cluster by one command, mounts that are there or told. The media are a stand-in."""

from __future__ import annotations

import pytest

METRICS = "/var/lib/prometheus/node-exporter/gpfs.prom"

with_media = pytest.mark.where(lambda machine: machine.settings["gpfs"]["gpfs_provider"] == "gpfs")
elsewhere = pytest.mark.where(lambda machine: machine.settings["gpfs"]["gpfs_provider"] == "storage")


def paths(settings) -> list[str]:
    """Where the file systems are."""
    return [each["path"] for each in settings["gpfs_filesystems"]]


def metrics(host) -> str:
    """What the next look writes."""
    host.check_output("systemctl start gpfs-health")
    return host.check_output(f"cat {METRICS}")


@pytest.fixture
def cluster(host, settings):
    """A cluster, made by the operator's command."""
    assert host.run("/etc/lsst/gpfs/create-cluster").rc == 0
    yield
    host.run(f"umount {' '.join(paths(settings))}; rm -f /var/mmfs/gen/mmsdrfs /run/gpfs-standin")


@pytest.mark.where(lambda machine: machine.in_molecule)
@with_media
@pytest.mark.disturbs
def test_the_cluster_is_made_once_and_mounted(host, settings, cluster):
    again = host.run("/etc/lsst/gpfs/create-cluster")
    assert again.rc == 1 and "in a cluster already" in again.stderr
    host.check_output("systemctl restart gpfs-mounts")
    for path in paths(settings):
        host.check_output(f"touch {path}/x && mountpoint {path}")
        assert f'lsst_gpfs_mounted{{path="{path}"}} 1' in metrics(host)
    assert "lsst_gpfs_active 1" in metrics(host)


@pytest.mark.where(lambda machine: machine.in_molecule)
@with_media
@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("media", "told"),
    [
        (
            [{"file": "gpfs.base_9.deb", "sha256": "a" * 64}],
            ["gpfs.base_9.deb cannot be had: HTTP Error 404", "Put it there, or edit gpfs_media"],
        ),
        ([], ["No media are named", "Edit gpfs_media in inventories/production/group_vars/ncsa/gpfs.yml"]),
        ("other", ["has the SHA-256", "Put the right file there, or edit gpfs_media"]),
    ],
    ids=["absent", "unnamed", "another"],
)
def test_without_the_media_nothing_changes(host, apply, settings, media, told):
    """Neither of what an earlier run has left, nor anything new."""
    host.check_output("test -e /etc/lsst/gpfs/nodes")
    if media == "other":
        media = [settings["gpfs_media"][0] | {"sha256": "b" * 64}]
    look = "find /etc/lsst /usr/lpp /var/cache/lsst -type f -newermt @{since} | wc -l"
    since = host.check_output("date +%s")
    done = apply(gpfs_media=media)
    text = " ".join(done.stdout.split())
    assert done.returncode != 0 and all(words in text for words in told), done.stdout
    assert host.check_output(look.format(since=since)) == "0"


@elsewhere
@pytest.mark.reads
def test_the_paths_are_mounted(host, settings):
    host.check_output("systemctl is-active gpfs-mounts")
    for path in paths(settings):
        host.check_output(f"mountpoint {path}")


@pytest.mark.where(lambda machine: machine.in_molecule)
@elsewhere
@pytest.mark.disturbs
def test_a_lost_mount_is_told(host, settings):
    path = paths(settings)[0]
    assert f'lsst_gpfs_mounted{{path="{path}"}} 1' in metrics(host)
    host.check_output(f"umount {path}")
    try:
        assert f'lsst_gpfs_mounted{{path="{path}"}} 0' in metrics(host)
        host.check_output("journalctl --sync")
        assert f"{path} is not mounted" in host.check_output("journalctl --unit gpfs-health --priority err --output cat")
        assert host.run("systemctl restart gpfs-mounts").rc != 0
    finally:
        host.check_output(f"mount -t tmpfs storage {path}; systemctl restart gpfs-mounts")


@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.disturbs
def test_a_flag_skips_mounting(host):
    host.check_output("touch /root/no_gpfs")
    try:
        host.check_output("systemctl restart gpfs-mounts && journalctl --sync")
        assert "while /root/no_gpfs is there" in host.check_output("journalctl --unit gpfs-mounts --lines 3 --output cat")
    finally:
        host.check_output("rm /root/no_gpfs; systemctl restart gpfs-mounts")


@pytest.mark.writes
def test_somebody_looks_every_minute(host):
    """By itself, within a minute and a margin; the timer has done it before, or does it now."""
    host.check_output("systemctl is-active gpfs-health.timer")
    due = host.check_output("systemctl show --value --property NextElapseUSecRealtime gpfs-health.timer")
    assert due, "the timer has no next time"
    assert host.check_output(f"find {METRICS} -mmin -2") == METRICS
