"""lab.py up: repeatable, repairs the smallest thing, and goes on from whatever an earlier run left."""

import json
import os
import signal
import subprocess
import time

import pytest
from driving import LAB, call, lab, ssh

from plan import hosts_of
from runs import PLAN, TOP, on, podman


def identity(name: str) -> str:
    """Changes when the container is made again."""
    return podman("inspect", "--format", "{{.Id}}", name).strip()


def processes(name: str) -> list[int]:
    """The container's monitor and its first process."""
    return [int(number) for number in podman("inspect", "--format", "{{.State.ConmonPid}} {{.State.Pid}}", name).split()]


def test_up_again_does_nothing(running):
    hosts = ",".join(name for name in running if name.startswith("base-"))
    before = podman("ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}", "--filter", "label=lsst.lab")
    text = lab("up", "base", "--limit", hosts)
    assert podman("ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}", "--filter", "label=lsst.lab") == before
    assert "networks: 0 made" in text
    assert not any(what in text for what in ("host: ", "gateway: ", "routes: ")), text


def test_a_killed_host_is_started_and_keeps_what_it_has(victim):
    before = identity(victim)
    on(victim, "touch /var/kept")
    lab("kill", victim)
    assert f"{victim} started" in lab("up", "base", "--limit", victim)
    assert identity(victim) == before
    on(victim, "rm /var/kept")


def test_a_lost_container_is_made_again(victim):
    """Monitor and first process gone at once, as when the namespace is lost: podman still says that it runs."""
    before = identity(victim)
    for number in processes(victim):
        os.kill(number, signal.SIGKILL)
    assert podman("inspect", "--format", "{{.State.Status}}", victim).strip() == "running"
    lab("up", "base", "--limit", victim)
    assert identity(victim) != before
    assert ssh(victim, "true").rc == 0


@pytest.mark.parametrize("seconds", [0.9, 1.5, 2.2])
def test_a_killed_start_is_gone_on_with(victim, seconds):
    """The whole process group dies, at three points of a host's first start."""
    podman("rm", "--force", "--time", "0", victim)
    with subprocess.Popen([LAB, "up", "base", "--limit", victim], stdout=subprocess.DEVNULL, start_new_session=True) as start:
        time.sleep(seconds)
        os.killpg(start.pid, signal.SIGKILL)
    lab("up", "base", "--limit", victim)
    assert ssh(victim, "true").rc == 0


def test_a_container_of_another_checkout_gives_way(victim):
    image = podman("inspect", "--format", "{{.ImageName}}", victim).strip()
    podman("rm", "--force", "--time", "0", victim)
    podman("create", "--name", victim, "--label", "lsst.lab=/nowhere", "--label", "lsst.lab.run=0", "--network", "none", image)
    lab("up", "base", "--limit", victim)
    assert ssh(victim, "true").rc == 0


def test_a_vanished_directory_is_filled_again(victim):
    """Somebody emptied .cache/lab/machines while the host runs."""
    (TOP / ".cache/lab/machines" / victim / "net").unlink()
    lab("up", "base", "--limit", victim)
    assert ssh(victim, "cat /etc/lab/net").rc != 0
    assert "proto 76" in on(victim, "cat /etc/lab/net")


def test_a_site_that_is_taken_down_leaves_nothing(running, near):
    assert "lab-gw-summit" not in running, "the Summit runs and this would stop it. Stop it first: lab/lab.py down summit"
    route = next(net["subnet"] for net in PLAN["sites"]["summit"]["networks"].values())
    lab("up", "summit", "--limit", "summit-spare01")
    names = [name for name in podman("network", "ls", "--format", "{{.Name}}").split() if name.startswith("lsst-lab-summit-")]
    interfaces = {net["network_interface"] for net in json.loads(podman("network", "inspect", *names))}
    assert route in on(near, "ip route")
    lab("down", "summit")
    assert not {name for name in podman("ps", "--all", "--format", "{{.Names}}").split() if "summit" in name}
    assert {name for name in podman("network", "ls", "--format", "{{.Name}}").split() if "summit" in name} == {"lsst-lab-link-summit-base"}
    assert not interfaces & {link["ifname"] for link in json.loads(call("ip", "-json", "link").text)}
    assert route not in on(near, "ip route")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("up", "bass"), "site 'bass'"),
        (("up", "base", "--limit", "base-dtn99"), "host 'base-dtn99'"),
        (("cut", "base-summit"), "link 'base-summit'"),
    ],
)
def test_a_wrong_name_is_refused_in_three_parts(running, arguments, wrong):
    done = call(LAB, *arguments)
    assert done.rc == 1
    assert f"there is no {wrong}. Allowed: " in done.text and "inventories/production" in done.text
    assert "Traceback" not in done.text


def test_status_names_every_host_and_link():
    text = lab("status")
    assert all(f"link {link['name']}: carries" in text for link in PLAN["links"])
    assert set(lab("status", "--names").strip().split(",")) <= {host for site in PLAN["sites"] for host in hosts_of(site, PLAN)}
