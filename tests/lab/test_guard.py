"""The wrong environment is refused by ssh itself, before any task: the two worlds have different authorities."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from driving import call, ssh

import keys
from plan import address, gateway, network_in
from runs import PLAN, TOP, podman

ANSIBLE = str(TOP / ".cache/venv/bin/ansible")
PRODUCTION = ("-i", "inventories/production")
FOREIGN_HOST = "base-monitor01"
# A converged host ends the connection at the second wrong key.
NO_LOGIN = r"Permission denied \(publickey|Too many authentication failures"


@dataclass(frozen=True)
class World:
    """Another environment: its secrets, one host of it that really runs, and the arguments by which its operator reaches that."""

    secrets: Path
    address: str
    reach: tuple[str, ...]


def ping(*arguments: str, host: str, control: Path | None = None) -> tuple[int, str]:
    """An ad hoc command without privileges; ``control`` is where a run without a directory of its own keeps its sockets."""
    environment = {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(control)} if control else {}
    command = [ANSIBLE, *arguments, host, "-m", "ansible.builtin.raw", "-a", "true", "-e", "ansible_become=false"]
    done = call("env", *(f"{key}={value}" for key, value in environment.items()), *command)
    return done.rc, done.text


def arguments(secrets: Path, where: str) -> tuple[str, ...]:
    """Production's inventory with the keys of the world at ``secrets``, for a host that really is at the address ``where``."""
    options = (
        f"-F none -o IdentityFile={secrets}/id -o CertificateFile={secrets}/id-cert.pub -o IdentitiesOnly=yes -o IdentityAgent=none "
        f"-o UserKnownHostsFile={secrets}/known_hosts -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes "
        f"-o HostKeyAlias={FOREIGN_HOST}.base.{PLAN['domain']}"
    )
    return (*PRODUCTION, "-e", f"ansible_host={where}", "-e", f"ansible_ssh_common_args='{options}'")


@pytest.fixture(scope="module")
def other(running, tmp_path_factory) -> Iterator[World]:
    """A host of another environment: an sshd in the gateway, where no role has been, with authorities of its own."""
    secrets = tmp_path_factory.mktemp("other") / "secrets"
    keys.make(secrets, ["base"], "ldfadmin", PLAN["domain"])
    keys.ssh_key(secrets / "host", "host of another world")
    name = f"{FOREIGN_HOST}.base.{PLAN['domain']}"
    keys.sign(secrets / "ssh-host-ca", secrets / "host.pub", name, [name], timedelta(hours=1), host=True)
    where = gateway(network_in("base", "core", PLAN))
    files = {"key": "host", "key-cert.pub": "host-cert.pub", "ca.pub": "ssh-user-ca.pub"}
    start = ["mkdir -p /run/other /run/sshd", "id ldfadmin >/dev/null 2>&1 || useradd --create-home --shell /bin/sh ldfadmin", "umask 077"]
    start += [f"cat > /run/other/{to} <<'END'\n{(secrets / source).read_text()}END" for to, source in files.items()]
    options = {
        "HostKey": "/run/other/key",
        "HostCertificate": "/run/other/key-cert.pub",
        "TrustedUserCAKeys": "/run/other/ca.pub",
        "PidFile": "/run/other/pid",
        "PerSourcePenalties": "no",
        # Without it an account without a password counts as locked.
        "UsePAM": "yes",
    }
    start.append("/usr/sbin/sshd -f /dev/null -p 22 " + " ".join(f"-o {key}={value}" for key, value in options.items()))
    shell = [str(TOP / "lab/podman"), "exec", "--interactive", "lab-gw-base", "sh", "-e"]
    subprocess.run(shell, input="\n".join(start), text=True, check=True)
    yield World(secrets, where, arguments(secrets, where))
    stop = "kill $(cat /run/other/pid); pkill -u ldfadmin || true; rm -r /run/other; userdel --remove ldfadmin 2>/dev/null"
    podman("exec", "lab-gw-base", "sh", "-c", stop, check=False)


def test_the_other_world_works_for_its_own_operator(other):
    """Without this the refusals below would prove nothing."""
    rc, text = ping(*other.reach, host=FOREIGN_HOST)
    assert rc == 0, text


def test_the_lab_refuses_a_host_of_another_authority(other):
    rc, text = ping("-e", f"ansible_host={other.address}", host=FOREIGN_HOST)
    assert rc != 0
    assert "Host key verification failed" in text


def test_a_host_of_the_lab_refuses_a_key_of_another_authority(other, victim):
    """Even when the other operator is careless enough to take any host key."""
    options = other.reach[-1].replace("StrictHostKeyChecking=yes", "StrictHostKeyChecking=no").replace("known_hosts", "none")
    careless = (*other.reach[:-1], options, "-e", "ansible_ssh_args='-o ControlMaster=no'")
    rc, text = ping(*careless, "-e", f"ansible_host={address(victim, PLAN)}", host=victim)
    assert rc != 0
    assert re.search(NO_LOGIN, text)


def test_production_refuses_a_host_of_the_lab(victim, tmp_path):
    """Production's inventory as it is, against the lab's hosts at production's addresses; ad hoc, so that no guard play precedes."""
    rc, text = ping(*PRODUCTION, host=victim, control=tmp_path)
    assert rc != 0
    assert "Host key verification failed" in text


def test_a_host_of_the_lab_refuses_a_key_without_a_certificate(victim, tmp_path):
    """A key that only its owner vouches for opens nothing."""
    keys.ssh_key(tmp_path / "id", "nobody")
    config = (TOP / ".cache/lab/ssh_config").read_text()
    config = "\n".join(line for line in config.splitlines() if "CertificateFile" not in line)
    (tmp_path / "config").write_text(config.replace(f"{TOP}/.cache/lab/secrets/id", str(tmp_path / "id")))
    done = call("ssh", "-F", str(tmp_path / "config"), victim, "true")
    assert done.rc != 0 and re.search(NO_LOGIN, done.text)
    assert ssh(victim, "true").rc == 0


def test_the_lab_does_not_ride_a_warm_connection_of_another_world(other):
    """The other operator's socket for that very host, port and user is open; the lab's run does not find it."""
    with control_directory() as control:
        assert ping(*other.reach, host=FOREIGN_HOST, control=control)[0] == 0
        without_key = tuple(word.replace(f"{other.secrets}/id", "/dev/null") for word in other.reach)
        rc, text = ping(*without_key, host=FOREIGN_HOST, control=control)
        assert rc == 0, f"the connection is not warm, so the test proves nothing: {text}"
        rc, text = ping("-e", f"ansible_host={other.address}", host=FOREIGN_HOST, control=control)
        assert rc != 0
        assert "Host key verification failed" in text


def test_production_does_not_ride_a_warm_connection_of_the_lab(victim):
    with control_directory() as control:
        assert ping(host=victim, control=control)[0] == 0
        assert list((TOP / ".cache/lab/cp").iterdir())
        assert not list(control.iterdir())
        rc, text = ping(*PRODUCTION, host=victim, control=control)
        assert rc != 0
        assert "Host key verification failed" in text


@contextlib.contextmanager
def control_directory() -> Iterator[Path]:
    """A directory for sockets with a short path: theirs may have 107 bytes, and pytest's own directories are deep."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
        for socket in Path(name).iterdir():
            call("ssh", "-o", f"ControlPath={socket}", "-O", "exit", "x")
