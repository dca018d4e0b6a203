"""A site that is cut off rebuilds a machine from its own control host and depot, and says afterwards what was decided there meanwhile."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import call, lab

from plan import address, fqdn, hosts_of
from runs import PLAN, TOP, answers, on, podman

BASTION, DEPOT = "base-bastion01", "base-depot01"
KIND = ["base-dtn01", "base-dtn02"]
OPERATOR = TOP / f".cache/lab/machines/{BASTION}/operator"
LINKS = [link["name"] for link in PLAN["links"] if "base" in link["sites"]]


@pytest.fixture(scope="module")
def prepared(running) -> list[str]:
    """The running hosts of Base, converged, but for those of ``KIND``, which are bare; and a new depot, which never saw such a host."""
    hosts = sorted(name for name in running if name.startswith("base-"))
    assert {BASTION, DEPOT, *KIND} <= set(hosts), "make base, or lab/lab.py up base"
    podman("rm", "--force", "--time", "0", "--volumes", DEPOT, *KIND)
    lab("up", "base", "--limit", ",".join([DEPOT, *KIND]))
    snapshot = (TOP / ".cache/lab/secrets/snapshot").read_text()
    for command in (["site.yml"], ["playbooks/fill-depot.yml", "-e", f"depot_snapshot={snapshot}"], ["playbooks/sync-control.yml"]):
        done = call("ansible-playbook", f"--limit={DEPOT}", *command, timeout=900)
        assert done.rc == 0, done.text
    return hosts


@pytest.fixture
def cut_off(prepared) -> Iterator[None]:
    """Links and uplink carry nothing, and the machine that drives the lab has no way into the site."""
    shutil.rmtree(OPERATOR, ignore_errors=True)
    OPERATOR.mkdir(mode=0o700)
    for name in ("id", "id-cert.pub", "known_hosts"):
        shutil.copy(TOP / ".cache/lab/secrets" / name, OPERATOR)
    for link in LINKS:
        lab("cut", link)
    way_out = on(DEPOT, "ip route show default").strip()
    on(DEPOT, "ip link set uplink down; : >/var/log/nginx/access.log")
    routes = [route for route in ip("route", "show", "root", PLAN["sites"]["base"]["prefix"]).splitlines() if " dev " in route]
    for route in routes:
        ip("route", "delete", *route.split())
    try:
        assert routes and not answers(DEPOT) and not answers(BASTION)
        yield
    finally:
        for route in routes:
            ip("route", "replace", *route.split())
        on(DEPOT, f"ip link set uplink up; ip route replace {way_out}")
        for link in LINKS:
            lab("mend", link)
        shutil.rmtree(OPERATOR)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], text=True, capture_output=True, check=True).stdout


def as_operator(command: str) -> str:
    """What ``command`` printed: from the bastion with the operator's certificate to the control host, and root there."""
    name = fqdn(DEPOT, PLAN)
    words = [f"HostKeyAlias={name}", "UserKnownHostsFile=/etc/lab/operator/known_hosts", "IdentitiesOnly=yes", "BatchMode=yes"]
    ssh = " ".join(["ssh -F none -i /etc/lab/operator/id", *(f"-o {word}" for word in words), f"ldfadmin@{address(DEPOT, PLAN)}"])
    there = f"sudo -i sh -c 'cd /srv/control/ldf && {command}'"
    script = f"{ssh} <<'END'\n{there}\nEND\n"
    done = subprocess.run(
        [str(TOP / "lab/podman"), "exec", "--interactive", BASTION, "sh"],
        input=script,
        text=True,
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_kind_of_machine_is_built_from_the_site_alone(prepared, cut_off):
    """By the plain command with the control host's own inventory; every package is in the depot's log, and nothing left the depot."""
    sent = "cat /sys/class/net/uplink/statistics/tx_packets"
    before = on(DEPOT, sent)
    log = {host: int(on(host, "cat /var/log/dpkg.log | wc -l")) for host in KIND}
    # The image brings packages; what apt fetched for it, and its lists, are not there.
    assert [on(host, "ls /var/cache/apt/archives/*.deb", check=False) for host in KIND] == ["", ""]
    everything = set(prepared) == set(hosts_of("base", PLAN))
    said = as_operator(f"ansible-playbook site.yml -l {'base' if everything else ','.join(prepared)}")
    assert KIND[0] in said and "failed: " not in said.splitlines()[-2], said[-3000:]
    taken = [line.split() for line in on(DEPOT, "cat /var/log/nginx/access.log").splitlines()]
    for host in KIND:
        assert on(host, "systemctl is-active dtn dtn-queue chrony").split() == ["active"] * 3
        events = [line.split() for line in on(host, f"tail -n +{log[host] + 1} /var/log/dpkg.log").splitlines()]
        installed = {words[3].split(":")[0] for words in events if words[2] in ("install", "upgrade")}
        served = {
            Path(words[5]).name.split("_")[0] for words in taken if words[1] == host and words[2] == "200" and words[5].endswith(".deb")
        }
        assert "xrootd-server" in installed and installed <= served, installed - served
    assert on(DEPOT, sent) == before
    packages = "dpkg-query --show --showformat='${db:Status-Abbrev} ${Package} ${Version}\n' | grep ^ii"
    assert on(KIND[0], packages) == on(KIND[1], packages)
    as_operator("git commit --quiet --allow-empty --message Meanwhile")


def test_when_the_link_is_back_the_mirror_says_so(prepared):
    done = call("ansible-playbook", f"--limit={DEPOT}", "playbooks/sync-control.yml", timeout=300)
    assert done.rc == 0 and "1 commits were made here" in done.text and "Meanwhile" in done.text, done.text
    on(DEPOT, "git -C /srv/control/ldf reset --quiet --hard HEAD~1")
