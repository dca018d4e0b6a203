"""control: a site's own host has all that a run needs, follows the project, loses nothing that was done on it, and is root's alone."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import TOP, changed, machines, operate

COPY = "/srv/control/ldf"
MIRROR = "/srv/control/ldf.git"
KEYS = ("vault_key", "id", "id-cert.pub", "known_hosts")
LOCK = (TOP / "requirements-control.lock").read_text()
# One package of the lock file, pure Python, with its checksums: an environment that is built within seconds.
SMALL_LOCK = re.search(r"^iniconfig==.*?(?=^[a-z])", LOCK, re.M | re.S)[0]
NO_CONFIG = {"GIT_CONFIG_GLOBAL": "/dev/null"}
PERSON = {f"GIT_{who}_{what}": "test@lsst.internal" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
INVENTORY = """
all:
  hosts:
    control-client:
      ansible_user: ldfadmin
      ansible_python_interpreter: /usr/bin/python3
      ansible_ssh_common_args: -o HostKeyAlias=control-client.lsst.internal -o StrictHostKeyChecking=yes -o BatchMode=yes
      word: !vault |
"""

in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)


@dataclass(frozen=True)
class Checkout:
    """A project of its own on the control side, with the lock file of a small environment."""

    path: Path

    def git(self, *arguments: str) -> str:
        """What git printed."""
        command = ["git", "-C", str(self.path), *arguments]
        environment = os.environ | PERSON | NO_CONFIG
        return subprocess.run(command, env=environment, text=True, capture_output=True, check=True).stdout.strip()

    def commit(self, **files: str) -> str:
        """Commit ``files`` (name, with __ for a dot: content), or nothing at all; the commit's hash."""
        for name, content in files.items():
            path = self.path / name.replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", f"Change {' '.join(files) or 'nothing'}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """A new project with one commit."""
    made = Checkout(tmp_path / "checkout")
    made.path.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    (made.path / "requirements-control.lock").write_text(SMALL_LOCK)
    made.commit(readme="one\n")
    return made


@pytest.fixture
def client(machine, request):
    """Another host of the control host's site that trusts the root."""
    site = machine.name.partition("-")[0]
    everyone = machines(request.config.getoption("settings")).values()
    return next(m.host for m in everyone if m.name.startswith(f"{site}-") and "certificate" in m.settings and "control" not in m.settings)


@pytest.fixture
def depot(machine) -> str:
    """The control host's name, as its certificate has it."""
    return machine.settings["certificate"]["certificate_names"][0]


@pytest.fixture
def sync(host, checkout) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Brings the test's checkout to a control host that has nothing yet: ``sync("--check")``."""
    empty(host)
    yield lambda *arguments: operate("sync-control", *arguments, control_checkout=str(checkout.path))
    empty(host)


def empty(host) -> None:
    """Leave the control host with an empty mirror and no environment in use; what was built stays, as it takes long."""
    host.check_output("test -x /usr/local/sbin/lsst-control-fetch")
    host.check_output(f"rm -rf {COPY} {MIRROR}/worktrees /opt/lsst/control/current")
    refs = host.check_output(f"git --git-dir={MIRROR} for-each-ref --format='%(refname)'").split()
    for ref in refs:
        host.check_output(f"git --git-dir={MIRROR} update-ref -d {ref}")


def as_root(host, command: str):
    """What ``command`` does in the shell of an operator who has become root."""
    return host.run("env -i SUDO_USER=jane HOME=/root bash --login -c %s", f"cd {COPY} && {command}")


def head(host) -> str:
    """The commit of the working copy."""
    return host.check_output(f"git -C {COPY} rev-parse HEAD")


def fetched(host) -> tuple[int, str]:
    """How the service of the timer ended, run now, and what it said."""
    cursor = host.check_output("journalctl --lines 0 --show-cursor").rpartition(": ")[2]
    code = host.run("systemctl start control-fetch").rc
    host.check_output("journalctl --sync")
    return code, host.check_output(f"journalctl --unit control-fetch --output cat --after-cursor '{cursor}'")


@pytest.fixture
def upstream(host, sync, checkout) -> Iterator[Callable[[], str]]:
    """The mirror of another site, which the working copy has come up to; ``upstream()`` makes a commit there and gives its hash."""
    bare, work = "/srv/depot/www/git/upstream.git", "/root/lsst-test"
    assert changed(sync())
    host.check_output(f"git clone --quiet --bare {MIRROR} {bare} && git clone --quiet {bare} {work}")

    def publish(*how: str) -> str:
        commit = f"git -C {work} -c user.name=other -c user.email=other@lsst.internal commit --quiet --allow-empty --message Elsewhere"
        host.check_output(" ".join([commit, *how]))
        host.check_output(f"git -C {work} push --quiet --force && git --git-dir={bare} update-server-info")
        return host.check_output(f"git -C {work} rev-parse HEAD")

    yield publish
    host.check_output(f"rm -rf {bare} {work}; systemctl reset-failed control-fetch || true")


@pytest.mark.reads
def test_root_alone_has_the_environment_and_the_keys(host, settings):
    inventory = ",".join(f"{COPY}/{each}" for each in settings["control_inventories"])
    mine = host.check_output("bash --login -c env")
    assert f"ANSIBLE_INVENTORY={inventory}\n" in mine and "ANSIBLE_PRIVATE_KEY_FILE=/etc/lsst/control/id\n" in mine
    for each in settings["control_environment"]:
        assert f"{each['name']}={each['value']}\n" in mine
    assert re.search("^PATH=/opt/lsst/control/current/bin:", mine, re.M)
    theirs = host.run("runuser -u nobody -- bash --login -c env")
    assert theirs.rc == 0 and "ANSIBLE" not in theirs.stdout and "/opt/lsst/control" not in theirs.stdout and theirs.stderr == ""
    there = host.check_output("ls /etc/lsst/control").split()
    assert {"id", "id-cert.pub", "known_hosts"} <= set(there) <= set(KEYS)
    for name in there:
        assert host.run(f"cat /etc/lsst/control/{name}").rc == 0
        assert host.run(f"runuser -u nobody -- cat /etc/lsst/control/{name}").rc != 0


@pytest.mark.reads
def test_the_mirror_is_served(client, depot):
    assert client.check_output(f"curl --silent --show-error --fail https://{depot}/git/ldf.git/HEAD") == "ref: refs/heads/main"
    assert client.run(f"curl --silent --fail https://{depot}/git/ldf.git/info/refs").rc == 0


@pytest.mark.where(lambda machine: machine.settings["control"]["control_upstream"])
@pytest.mark.reads
def test_the_timer_runs(host, settings):
    timer = host.service("control-fetch.timer")
    assert timer.is_running and timer.is_enabled
    said = host.check_output("systemctl show --property=TimersMonotonic control-fetch.timer")
    assert f"OnUnitInactiveUSec={settings['control_fetch_minutes']}min" in said


@in_molecule
@pytest.mark.disturbs
def test_a_site_converges_from_its_own_control_host(host, sync, checkout, tmp_path):
    """The real environment, from the depot's wheels: root's login shell, the host's own inventory, vault key, login key and authority."""
    (tmp_path / "key").write_text(host.check_output("cat /etc/lsst/control/vault_key"))
    seal = ["ansible-vault", "encrypt_string", "--encrypt-vault-id=site", f"--vault-id=site@{tmp_path / 'key'}", "sesame"]
    sealed = subprocess.run(seal, cwd=TOP, text=True, capture_output=True, check=True).stdout.partition("\n")[2]
    (checkout.path / "requirements-control.lock").write_text(LOCK)
    checkout.commit(**{"inventories/test/hosts__yml": INVENTORY + sealed, "ansible__cfg": "[ssh_connection]\npipelining = true\n"})
    assert changed(sync())
    done = as_root(host, "ansible all --become -m ansible.builtin.shell -a 'echo {{ word }} $(id -un)@$(hostname)'")
    assert "sesame root@control-client" in done.stdout, done.stdout + done.stderr
    versions = as_root(host, "ansible --version && python -c 'import cryptography, netaddr, paramiko, pytest, testinfra, xdist, yaml'")
    assert versions.rc == 0 and f"[core {re.search('ansible-core==(.*?) ', LOCK)[1]}]" in versions.stdout, versions.stderr
    assert as_root(host, "echo $CONTROL_TEST").stdout == "it's a test\n"


@in_molecule
@pytest.mark.writes
def test_the_key_opens_the_sites_hosts_from_here_only(host, client):
    log_in = "ssh -o BatchMode=yes -o HostKeyAlias={}.lsst.internal ldfadmin@control-client id -un"
    assert host.check_output(log_in.format("control-client")) == "ldfadmin"
    assert "Host key verification failed" in host.run(log_in.format("somebody-else")).stderr
    client.check_output("mkdir -m 0700 /root/lsst-test")
    try:
        for name in ("id", "id-cert.pub"):
            content = host.check_output(f"cat /etc/lsst/control/{name}")
            client.check_output(f"umask 077; echo '{content}' >/root/lsst-test/{name}")
        words = ("IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
        options = " ".join(["-F none -i /root/lsst-test/id", *(f"-o {word}" for word in words)])
        assert client.run(f"ssh {options} ldfadmin@control-client id -un").rc == 255
        assert "not from a permitted source address" in client.check_output("journalctl --unit ssh --output cat --lines 20")
    finally:
        client.check_output("rm -r /root/lsst-test")


@in_molecule
@pytest.mark.disturbs
def test_what_is_brought_is_brought_once(host, sync, checkout):
    """A check run says what it would do; a second run has nothing to do; what is in no commit stays behind and is named."""
    host.check_output("rm -rf /opt/lsst/control/*")
    would = sync("--check")
    assert changed(would) and "would be brought" in would.stdout and "changed: [control-server]" in would.stdout
    assert host.run(f"ls {COPY} /opt/lsst/control/current").rc != 0
    assert changed(sync())
    assert host.check_output(f"cat {COPY}/readme") == "one"
    assert host.check_output("readlink -e /opt/lsst/control/current").startswith("/opt/lsst/control/")
    assert not changed(sync()) and not changed(sync("--check"))
    (checkout.path / "draft").write_text("not yet")
    newest = checkout.git("rev-parse", "HEAD")
    done = sync()
    assert not changed(done) and "?? draft" in done.stdout and head(host) == newest
    # An older commit than the host has is there already.
    (checkout.path / "draft").unlink()
    newer = checkout.commit(readme="two\n")
    assert changed(sync()) and head(host) == newer
    checkout.git("reset", "--quiet", "--hard", "HEAD~1")
    assert not changed(sync()) and head(host) == newer


@in_molecule
@pytest.mark.disturbs
def test_what_was_done_on_the_host_stays(host, machine, sync, checkout):
    """Changes, then a commit, which is of the person who became root, and which others can fetch; the run says so and loses nothing."""
    assert changed(sync())
    assert as_root(host, "echo here >readme").rc == 0
    checkout.commit(readme="two\n")
    done = sync()
    assert done.returncode == 0 and "files were changed here: readme" in done.stdout, done.stdout
    assert host.check_output(f"cat {COPY}/readme") == "here"
    done = as_root(host, "git commit --quiet --all --message 'Correct it here' && git log -1 --format=%an")
    assert done.stdout == "jane\n", done.stderr
    done = sync()
    said = " ".join(done.stdout.split())
    assert not changed(done) and re.search("1 commits were made here: [0-9a-f]+ Correct it here", said), said
    # They become part of the project, by way of the mirror, and the working copy follows again.
    host.check_output(f"git -C {MIRROR} bundle create --quiet /tmp/lsst-test.bundle main")
    content = subprocess.run(["podman", "exec", machine.name, "cat", "/tmp/lsst-test.bundle"], capture_output=True, check=True).stdout
    (checkout.path.parent / "there.bundle").write_bytes(content)
    checkout.git("fetch", "--quiet", str(checkout.path.parent / "there.bundle"), "main")
    checkout.git("merge", "--quiet", "--strategy-option=theirs", "--no-edit", "FETCH_HEAD")
    assert changed(sync()) and head(host) == checkout.git("rev-parse", "HEAD")


@in_molecule
@pytest.mark.disturbs
def test_another_history_is_refused(host, sync, checkout):
    assert changed(sync())
    before = head(host)
    checkout.git("commit", "--quiet", "--amend", "--message", "Another history")
    done = sync()
    assert done.returncode != 0 and "Allowed: what can be reached and holds the history of" in done.stdout, done.stdout
    assert head(host) == before and host.run("ls /srv/control/ldf.bundle").rc != 0


@in_molecule
@pytest.mark.disturbs
def test_a_commit_made_here_can_be_cloned_at_once(host, client, depot, sync):
    assert changed(sync())
    assert as_root(host, "git commit --quiet --allow-empty --message 'Only here'").rc == 0
    try:
        client.check_output(f"git clone --quiet https://{depot}/git/ldf.git /tmp/lsst-test")
        assert client.check_output("git -C /tmp/lsst-test log -1 --format=%s") == "Only here"
        assert client.run("git -C /tmp/lsst-test push origin HEAD:refs/heads/mine").rc != 0
    finally:
        client.check_output("rm -rf /tmp/lsst-test")


@in_molecule
@pytest.mark.disturbs
def test_a_wheel_with_another_checksum_is_refused(host, sync, checkout):
    assert changed(sync())
    before = host.check_output("readlink -e /opt/lsst/control/current")
    (checkout.path / "requirements-control.lock").write_text(re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", SMALL_LOCK))
    checkout.commit()
    done = sync()
    assert done.returncode != 0 and "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stdout, done.stdout
    assert host.check_output("readlink -e /opt/lsst/control/current") == before
    # What a killed run left is built anew.
    host.check_output(f"rm {before}/complete {before}/bin/python3")
    (checkout.path / "requirements-control.lock").write_text(SMALL_LOCK)
    checkout.commit()
    assert changed(sync())
    assert host.run(f"{before}/bin/python3 -c 'import iniconfig'").rc == 0


@in_molecule
@pytest.mark.disturbs
def test_the_service_follows_another_site(host, upstream):
    newest = upstream()
    code, said = fetched(host)
    assert (code, head(host)) == (0, newest) and "main is now" in said
    code, said = fetched(host)
    assert (code, head(host)) == (0, newest) and "stays" not in said
    assert as_root(host, "git commit --quiet --allow-empty --message 'Only here'").rc == 0
    mine = head(host)
    newest = upstream()
    code, said = fetched(host)
    assert (code, head(host)) == (0, mine) and re.search("1 commits were made here: [0-9a-f]+ Only here", said), said
    assert host.check_output(f"git --git-dir={MIRROR} rev-parse refs/remotes/upstream/main") == newest
    # Its history was rewritten: nothing is brought.
    upstream("--amend", "--message Rewritten")
    code, said = fetched(host)
    assert code != 0 and "Allowed: what can be reached and holds the history of" in said, said
    assert host.check_output(f"git --git-dir={MIRROR} rev-parse refs/remotes/upstream/main") == newest


@in_molecule
@pytest.mark.disturbs
def test_nothing_moves_under_a_run(host, upstream):
    before, newest = head(host), upstream()
    host.check_output("mkdir -p /tmp/bin && cp /usr/bin/sleep /tmp/bin/ansible-playbook")
    host.check_output(f"systemd-run --quiet --unit lsst-test --working-directory={COPY} /tmp/bin/ansible-playbook 600")
    try:
        _, said = fetched(host)
        assert head(host) == before and "Ansible is at work here" in said
    finally:
        host.check_output("systemctl stop lsst-test; rm /tmp/bin/ansible-playbook")
    fetched(host)
    assert head(host) == newest


@in_molecule
@pytest.mark.disturbs
def test_a_host_that_follows_nobody_has_no_timer(host, apply):
    timer = host.service("control-fetch.timer")
    assert timer.is_running
    try:
        assert changed(apply(control_upstream="", control_vault_key=""))
        assert not timer.is_running and not timer.is_enabled
        assert host.run("ls /etc/lsst/control/vault_key").rc != 0
        assert "ANSIBLE_VAULT_IDENTITY_LIST" not in host.check_output("bash --login -c env")
    finally:
        apply()
