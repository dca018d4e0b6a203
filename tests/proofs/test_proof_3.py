"""A site converges without the others, without any one of its hosts, host by host and role by role."""

import time
from concurrent.futures import ThreadPoolExecutor

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


def died_together() -> list[list[str]]:
    """Base hosts that are dead in the same run.

    Those that others need die alone. The rest dies by halves, once for every binary digit of their number and for both its values: so for
    any two hosts there is a run in which the one is dead and the other ends converged, and runs are few.
    """
    hosts = sorted(PLAN["sites"]["base"]["hosts"])
    alone = [host for host in hosts if "depot" in host or "nameserver" in host]
    rest = sorted(set(hosts) - set(alone))
    digits = [(digit, value) for digit in range(len(rest).bit_length()) for value in (0, 1)]
    halves = [[host for i, host in enumerate(rest) if i >> digit & 1 == value] for digit, value in digits]
    return [[host] for host in alone] + [half for half in halves if half]


@pytest.mark.parametrize("dead", died_together(), ids=lambda dead: f"{dead[0]}+{len(dead) - 1}")
def test_without_some_hosts(base, dead):
    """The others end converged; the summary names the dead."""
    assert set(dead) <= set(base), "not the whole site runs in the lab. Start it: lab/lab.py up base"
    podman("kill", *dead)
    try:
        done = run("--limit=" + ",".join(base))
    finally:
        podman("start", *dead)
        for host in dead:
            until(lambda host=host: answers(host), 60, f"{host} answers again")
    assert done.failed() == dead, done.text[-3000:]
    told = done.text.partition("NOT REACHED: ")[2].split("\n")[0]
    assert all(host in told for host in dead), done.text[-3000:]
    assert done.changed() == {} and set(done.stats["ok"]) >= set(base) - set(dead)


def test_a_host_that_falls_silent(base, victim):
    """Its open connection neither answers nor ends: the run ends long before the kernel would give up, names it and has the others."""
    other = next(host for host in base if host != victim)
    hole = "nft 'add table inet hole; add chain inet hole in { type filter hook input priority -200; policy drop; }'"
    with ThreadPoolExecutor() as pool:
        silenced = pool.submit(on, victim, f"until pgrep -f lsst_ldf_batch >/dev/null; do sleep 0.1; done; {hole}")
        began = time.monotonic()
        try:
            done = run(f"--limit={victim},{other}")
            silenced.result()
        finally:
            on(victim, "nft delete table inet hole", check=False)
    assert done.failed() == [victim] and victim in done.text.partition("NOT REACHED: ")[2], done.text[-3000:]
    assert done.stats["ok"][other] > done.stats["ok"].get(victim, 0) and time.monotonic() - began < 150


def test_one_host_alone(base, victim):
    done = run(f"--limit={victim}")
    assert done.rc == 0 and set(done.stats["ok"]) == {victim}


def test_one_role_alone(victim):
    """--tags firewall builds the full rule set from nothing."""
    before = on(victim, "nft --stateless list table inet lsst")
    on(victim, "systemctl stop nftables; rm /etc/nftables.conf; nft flush ruleset")
    assert run(f"--limit={victim}", "--tags=firewall").rc == 0
    assert on(victim, "nft --stateless list table inet lsst") == before
