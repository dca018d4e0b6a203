"""nfs_client: what is exported is read and written, what is away holds nobody up, and a kernel that mounts nothing is told."""

from __future__ import annotations

import time
import uuid

import pytest

from conftest import TOP, changed, restart

in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)


def unit(path: str) -> str:
    """The automount of a path."""
    return f"{path[1:].replace('/', '-')}.automount"


def has_client(host) -> bool:
    """Whether the host's kernel mounts NFSv4."""
    return host.run(r"grep -qw nfs4 /proc/filesystems || modprobe --dry-run --quiet fs-nfs4").rc == 0


@pytest.mark.reads
def test_all_is_mounted_on_first_use(host, settings):
    for mount in settings["nfs_client_mounts"]:
        host.check_output(f"systemctl is-active {unit(mount['path'])} && systemctl is-enabled {unit(mount['path'])}")
        assert "autofs" in host.check_output(f"findmnt --noheadings --output FSTYPE {mount['path']}")


@pytest.mark.writes
def test_what_is_exported_is_read_and_written(machine, host, settings):
    """Through libnfs, and through the path where the kernel can."""
    mount = settings["nfs_client_mounts"][0]
    # libnfs has no command that removes: one file, which is empty in the end.
    name, word = f"lsst-test-{machine.name}", uuid.uuid4().hex
    url = f"nfs://{mount['server']}{mount['export']}"
    if has_client(host):
        host.check_output(f"echo {word} >{mount['path']}/{name}")
    else:
        host.check_output(f"echo {word} >/tmp/{name} && timeout 20 nfs-cp /tmp/{name} '{url}/{name}?version=4' && rm /tmp/{name}")
    try:
        assert host.check_output(f"timeout 20 nfs-cat '{url}/{name}?version=4'") == word
    finally:
        host.run(f"rm -f {mount['path']}/{name} || timeout 20 nfs-cp /dev/null '{url}/{name}?version=4'")


@in_molecule
@pytest.mark.disturbs
def test_a_server_that_is_away_holds_nobody_up(host, machine):
    """Neither the boot nor who asks for its files; systemd says what could not be mounted."""
    host.check_output("systemctl is-active net-away.automount")
    restart(machine)
    # The server's own network does not come back.
    host.check_output("sh -c %s", (TOP / "molecule/storage/prepare.sh").read_text())
    host.check_output("systemctl is-active net-away.automount net-project.automount")
    begin = time.monotonic()
    assert host.run("ls /net/away/").rc != 0
    assert time.monotonic() - begin < 90
    assert "net-away.mount" in host.check_output("systemctl --failed --plain --no-legend")


@in_molecule
@pytest.mark.disturbs
def test_a_kernel_without_a_client_is_told(host, apply):
    host.check_output("systemctl is-active net-project.automount")
    done = apply("--check")
    assert not changed(done)
    said = " ".join((done.stdout + done.stderr).split())
    assert ("cannot mount nfs4. Allowed: a kernel that can, or nfs-ls, nfs-cat and nfs-cp of libnfs-utils." in said) != has_client(host)


@in_molecule
@pytest.mark.disturbs
def test_a_path_twice_is_refused(host, apply, settings):
    host.check_output("systemctl is-active net-project.automount")
    done = apply(nfs_client_mounts=[settings["nfs_client_mounts"][0]] * 2)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0 and "nfs_client_mounts /net/project, /net/project" in said and "Allowed: each path once" in said, said
