"""A batch means what include_tasks means: the same outcome, the same host, and neither finds anything to do after the other."""

from __future__ import annotations

import pytest

from conftest import both, inside, quiet, run, same_hosts


def test_check_of_a_bare_host(fresh):
    told = both("--check", "--diff")
    assert told["batch"].changed


def test_first_run(fresh):
    told = both("--diff")
    assert told["batch"].rc == 0 and told["batch"].handlers
    same_hosts()
    assert "s3cret-of-the-torture" not in told["batch"].text


@pytest.mark.parametrize("arguments", [(), ("--check", "--diff")])
def test_again(pair, arguments):
    told = both(*arguments)
    assert quiet(told["batch"]) and not told["batch"].handlers
    same_hosts()


@pytest.mark.parametrize(("way", "on"), [("batch", "include"), ("include", "batch")])
def test_through_the_other_way(pair, way, on):
    assert quiet(run(way, on=on))


def test_another_value(pair):
    told = both("--diff", who="everybody")
    assert "Render" in told["batch"].changed and "First" in told["batch"].handlers
    same_hosts()


def test_tags(pair):
    told = both("--tags", "special")
    assert told["batch"].changed in ([], ["Tagged"])


def test_without_probes(pair):
    assert quiet(run("batch", who="everybody", lsst_ldf_batch_probes=False))


def test_switched_off(pair):
    """One by one, with a warning, and the same outcome."""
    told = run("batch", who="everybody", lsst_ldf_batch=False)
    assert quiet(told) and "runs its tasks one by one: lsst_ldf_batch is false" in told.text


def test_free_strategy(pair, monkeypatch):
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    assert quiet(run("batch", who="everybody"))


# By hand: altered, and gone or replaced, which would hide the former.
ALTERED = [
    "chmod 0777 /opt/dir1",
    "chown root /opt/dir3",
    "chmod 0600 /opt/dir1/a",
    "chown root:root /opt/dir1/a",
    "echo more >>/opt/dir1/a",
    "echo '{}' >/opt/c.json",
    "truncate --size 0 /opt/d.json",
    "chmod 0644 /opt/binary",
    "printf x >>/opt/binary",
    "echo changed >/opt/tree/f1",
    "ln -sfn /etc/passwd /opt/tree/link",
    "chmod 0644 /opt/sudoers",
    "echo guess >/opt/secret",
    "ln -sfn /etc /opt/link",
    "echo hello >/etc/motd",
    "sed -i 's/^D=.*/D=other/' /etc/environment",
    "echo 'D=twice' >>/etc/environment",
    "chmod 0600 /etc/environment",
    "sed -i 's/1/0/' /etc/sysctl.d/80-torture.conf",
    "usermod --shell /bin/false second",
    "usermod --uid 4444 first",
    "usermod --gid users second",
    "systemctl stop torture",
    "systemctl disable torture",
    "echo '# more' >>/etc/systemd/system/torture.service",
    "chmod 0755 /opt/last || true",
]
GONE = [
    "rm /opt/dir1/a",
    "rm /opt/dir3/a.j2",
    "mv /opt/c.json /opt/c2.json; ln -s c2.json /opt/c.json",
    "rm -r /opt/tree/sub",
    "rm /opt/link",
    "rm -f /opt/marker",
    "rm -f /opt/shell",
    "rm /etc/sysctl.d/80-torture.conf",
    "rm /etc/systemd/system/torture.service",
    "rm /opt/block",
    "rmdir /opt/last; touch /opt/last-was-here",
]


@pytest.mark.parametrize("drifts", [ALTERED, GONE], ids=["altered", "gone"])
def test_drift(pair, drifts):
    """Changes by hand, many at a time: a check run names them, a run mends them, whichever way."""
    for drift in drifts:
        for way in pair:
            inside(way, drift)
    found = both("--check")
    assert found["batch"].changed
    both("--diff")
    same_hosts()
    assert quiet(run("batch"))
