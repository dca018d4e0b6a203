"""depot, as another host of its site meets it: packages through the cache, files over TLS, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import TOP, changed, machines

CACHE_LOG = "/var/log/apt-cacher-ng/apt-cacher.log"
OTHER_KEY = "export GNUPGHOME=$(mktemp -d); gpg -q --batch --passphrase '' --quick-gen-key other ed25519 sign never && gpg --armor --export"
SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", TOP))


@pytest.fixture
def client(machine, request):
    """Another host of the depot's site that trusts the root."""
    site = machine.name.partition("-")[0]
    everyone = machines(request.config.getoption("settings")).values()
    found = [m.host for m in everyone if m.name.startswith(f"{site}-") and "certificate" in m.settings and "depot" not in m.settings]
    return found[0]


@pytest.fixture
def depot(machine) -> str:
    """The depot's name, as its certificate has it."""
    return machine.settings["certificate"]["certificate_names"][0]


@pytest.fixture
def shut_in(client):
    """The client with every way to a package archive closed but that through a package cache."""
    client.check_output(
        "nft 'table inet lsst_test { chain out { type filter hook output priority 0; tcp dport { 80, 443 } reject with tcp reset; }; }'"
    )
    yield client
    client.check_output("nft delete table inet lsst_test")


def status(client, options: str, url: str) -> int:
    """HTTP status that the client gets for ``url``; 0 when it gets no answer at all."""
    return int(client.run(f"curl --silent --output /dev/null --max-time 8 --write-out '%{{http_code}}' {options} '{url}'").stdout or 0)


def archives(host) -> list[str]:
    """Debian's archives as the host's apt knows them."""
    return sorted(set(host.check_output("apt-get indextargets --format '$(REPO_URI)'").split()))


@pytest.mark.writes
def test_a_client_installs_through_the_cache_alone(host, depot, shut_in):
    apt = f"apt-get -o Acquire::http::Proxy=http://{depot}:3142 -o Acquire::Retries=0 -o Dir::Cache::archives=/tmp/lsst-test -qq"
    direct = apt.replace(f"http://{depot}:3142", "DIRECT")
    fetched = f"grep -c 'O|.*/hello_' {CACHE_LOG}"
    before = int(host.run(fetched).stdout or 0)
    shut_in.check_output("mkdir -p /tmp/lsst-test/partial")
    try:
        shut_in.check_output(f"{apt} update")
        assert shut_in.run(f"{direct} install hello").rc == 100
        shut_in.check_output(f"{apt} install hello")
        assert shut_in.check_output("hello") == "Hello, world!"
        assert int(host.check_output(fetched)) == before + 1
    finally:
        shut_in.run("apt-get -qq purge hello; rm -r /tmp/lsst-test")


@pytest.mark.reads
def test_the_cache_passes_on_its_own_archives_only(host, client, depot):
    proxy = f"--proxy http://{depot}:3142"
    for archive in archives(host):
        suite = host.check_output("apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | grep '^%s ' | head -1", archive).split()[1]
        assert status(client, proxy, f"{archive}dists/{suite}/InRelease") == 200
        # Neither another tree of that server, nor the cache's own store without a map.
        assert status(client, proxy, f"{archive.rstrip('/').rpartition('/')[0]}/somewhere/else.deb") == 403
    assert status(client, proxy, "http://www.example.com/pool/x.deb") == 403
    assert client.run(f"curl --silent {proxy} --proxytunnel --write-out '%{{http_connect}}' https://www.example.com/").stdout.endswith(
        "403"
    )


@pytest.mark.reads
def test_nobody_changes_the_cache_from_its_page(client, depot):
    assert status(client, "", f"http://{depot}:3142/acng-report.html") == 200
    assert status(client, "", f"http://{depot}:3142/acng-report.html?doExpire=Start") == 401
    assert status(client, "--user root:root", f"http://{depot}:3142/acng-report.html?doExpire=Start") == 401


@pytest.mark.writes
def test_the_daily_cleanup_runs(host):
    """It goes through the same page with the password that only root can read."""
    host.check_output("/etc/cron.daily/apt-cacher-ng")
    admin = host.file("/etc/apt-cacher-ng/zz_admin.conf")
    assert (admin.user, admin.group, admin.mode) == ("root", "apt-cacher-ng", 0o640)


@pytest.mark.writes
def test_files_come_over_tls_only(host, client, depot):
    host.check_output("echo from the depot > /srv/depot/www/lsst-test.txt")
    try:
        assert client.check_output(f"curl --silent --show-error https://{depot}/lsst-test.txt") == "from the depot"
        assert "lsst-test.txt" in client.check_output(f"curl --silent https://{depot}/")
        assert status(client, "", f"http://{depot}/lsst-test.txt") == 403
        assert status(client, "--request PUT --data x", f"https://{depot}/lsst-test.txt") == 405
    finally:
        host.check_output("rm /srv/depot/www/lsst-test.txt")


@pytest.mark.reads
def test_the_depot_proves_who_it_is(client, depot):
    """A client refuses another name, and refuses the depot if it trusts another CA: 60 is curl's code for that."""
    wrong = client.run(
        f"curl --silent --show-error --connect-to somebody-else.lsst.internal:443:{depot}:443 https://somebody-else.lsst.internal/"
    )
    assert (wrong.rc, "somebody-else.lsst.internal" in wrong.stderr) == (60, True)
    other_ca = client.check_output("ls /usr/share/ca-certificates/mozilla/*.crt").split()[0]
    assert client.run(f"curl --silent --capath /nonexistent --cacert '{other_ca}' https://{depot}/").rc == 60


@pytest.mark.reads
def test_the_depot_shows_its_newest_certificate(host, client, depot):
    """A renewed one that nginx has not read yet would end while it is shown."""
    shown = client.check_output(f"openssl s_client -connect {depot}:443 </dev/null 2>/dev/null | openssl x509 -noout -serial")
    assert shown == host.check_output("openssl x509 -in /etc/lsst/tls/host.crt -noout -serial")


@pytest.mark.reads
def test_no_process_is_roots(host):
    for command, user in (("nginx", "www-data"), ("apt-cacher-ng", "apt-cacher-ng")):
        assert {process.user for process in host.process.filter(comm=command)} == {user}


@pytest.mark.reads
def test_the_tree_is_roots(host, settings):
    for directory in ("", *settings["depot_directories"]):
        found = host.file(f"/srv/depot/www/{directory}")
        assert (found.user, found.group, found.mode) == ("root", "root", 0o755)


@pytest.fixture
def fill(machine, tmp_path) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Makes a snapshot by playbooks/fill-depot.yml: ``fill("20260101")``; lock files are in the test's directory."""
    inventories = [f"--inventory={each}/inventory.yml" for each in (TOP / "molecule" / "shared", SCENARIO)]
    environment = {key: value for key, value in os.environ.items() if key != "ANSIBLE_CALLBACKS_ENABLED"}

    def run(snapshot: str, *arguments: str) -> subprocess.CompletedProcess:
        chosen = json.dumps({"depot_snapshot": snapshot, "depot_locks": str(tmp_path)})
        command = ["ansible-playbook", *inventories, "-e", chosen, *arguments, "playbooks/fill-depot.yml"]
        made.append(snapshot)
        return subprocess.run(command, cwd=TOP, env=environment, text=True, capture_output=True, check=False)

    made: list[str] = []
    yield run
    for name in made:
        drop = f"aptly publish drop {name} filesystem:depot:debian; aptly snapshot drop {name}; aptly repo drop {name}"
        machine.host.run(f"sudo -u depot -H sh -c '{drop}'")
    machine.host.run("sudo -u depot -H aptly db cleanup")


@pytest.fixture
def on_snapshot(machine, request, apply, depot):
    """Has the client install ``packages`` from a snapshot of the depot alone; gives what that run said."""
    client = next(m for m in machines(request.config.getoption("settings")).values() if "depot" not in m.settings)
    key = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets" / "depot.pub.asc").read_text()

    def run(snapshot: str, *packages: str, key: str = key) -> subprocess.CompletedProcess:
        client.host.check_output("apt-get clean; rm -r /var/lib/apt/lists/*")
        archive = {"package_archive": f"http://{depot}/debian", "package_snapshot": snapshot, "package_archive_key": key}
        return apply(to=[client], molecule_roles=["package"], package_base=packages, **archive)

    yield run
    apply(to=[client], molecule_roles=["package"], package_base=[])
    client.host.run("apt-get -qq purge tree")


@pytest.mark.disturbs
def test_a_snapshot_is_what_hosts_install(host, client, fill, on_snapshot, tmp_path):
    """A first run writes the lock file, a second has nothing to do; hosts get what it holds and its key signed, nothing else."""
    assert changed(fill("20260101", "--check")) and not (tmp_path / "20260101.txt").exists()
    assert changed(fill("20260101"))
    assert not changed(fill("20260101"))
    assert changed(on_snapshot("20260101", "tree"))
    assert client.package("tree").is_installed
    assert "tree_" in host.check_output("grep ' /debian/pool/.*tree_' /var/log/nginx/access.log")
    locked = {line.split("  ")[1].split("_")[0] for line in (tmp_path / "20260101.txt").read_text().splitlines()}
    assert set(client.check_output("apt-cache pkgnames --generate | sort").split()) >= locked >= {"tree", "hello", "libc6"}
    refused = on_snapshot("20260101", "bind9")
    assert refused.returncode != 0 and "bind9" in refused.stdout
    refused = on_snapshot("20260101", "hello", key=host.check_output(OTHER_KEY))
    assert refused.returncode != 0 and "20260101 InRelease' is not signed" in refused.stdout


@pytest.mark.disturbs
def test_what_the_lock_file_does_not_say_is_refused(host, fill, tmp_path):
    """Another checksum, a version that is gone, a line that is none: no snapshot, and a message that says which."""
    assert changed(fill("20260102"))
    good = (tmp_path / "20260102.txt").read_text()
    other = "".join("0" * 64 + line[64:] if "hello" in line else line for line in good.splitlines(keepends=True))
    wrong = {"hello": other, "1.9-nowhere": good.replace("tree_", "tree_1.9-nowhere+"), "no line": "no line\n"}
    for said, lock in wrong.items():
        (tmp_path / "20260103.txt").write_text(lock)
        done = fill("20260103")
        assert done.returncode != 0 and said in done.stdout, done.stdout
        assert host.run("ls /srv/depot/www/debian/dists/20260103").rc != 0


@pytest.mark.disturbs
@pytest.mark.invariant("refused before the host is asked")
def test_what_is_no_date_is_refused(fill):
    done = fill("yesterday")
    assert done.returncode != 0 and "depot_snapshot is yesterday" in done.stdout and "Allowed: a date" in done.stdout
