"""A site converges without the others, without any one of its hosts, host by host and role by role."""

import pytest

from runs import PLAN, answers, on, podman, run, until

pytestmark = pytest.mark.disturbs


@pytest.fixture
def other_sites_stopped(base):
    """Every container of the lab but Base's hosts and Base's gateway is stopped, and started again afterwards."""
    names = podman("ps", "--format", "{{.Names}}", "--filter", "label=lsst.lab").split()
    others = [name for name in names if name not in base and name != "lab-gw-base"]
    for name in others:
        podman("stop", "--time", "3", name)
    yield others
    for name in others:
        podman("start", name)


def test_without_the_other_sites(base, other_sites_stopped):
    done = run("--limit=" + ",".join(base))
    assert done.rc == 0 and done.changed() == {}, done.text[-3000:]


@pytest.mark.parametrize("host", sorted(PLAN["sites"]["base"]["hosts"]))
def test_without_one_host(base, host):
    """The others end converged; the summary names the dead one."""
    if host not in base:
        pytest.fail(f"{host} does not run in the lab; start the whole site: lab/lab.py up base")
    podman("kill", host)
    try:
        done = run("--limit=" + ",".join(base))
    finally:
        podman("start", host)
        until(lambda: answers(host), 30, f"{host} answers again")
    assert f"NOT REACHED: {host}" in done.text
    assert done.failed() == [host], done.text[-3000:]
    assert set(done.stats["ok"]) >= set(base) - {host}


def test_one_host_alone(base, victim):
    done = run(f"--limit={victim}")
    assert done.rc == 0 and set(done.stats["ok"]) == {victim}


def test_one_role_alone(victim):
    """--tags firewall builds the full rule set from nothing."""
    before = on(victim, "nft --stateless list table inet lsst")
    on(victim, "systemctl stop nftables; rm /etc/nftables.conf; nft flush ruleset")
    assert run(f"--limit={victim}", "--tags=firewall").rc == 0
    assert on(victim, "nft --stateless list table inet lsst") == before
