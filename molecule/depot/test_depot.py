"""depot, as another host of its site meets it: packages through the cache, files over TLS, and what is refused."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from conftest import TOP, Machine, call, changed, machines

CACHE_LOG = "/var/log/apt-cacher-ng/apt-cacher.log"
OTHER_KEY = "export GNUPGHOME=$(mktemp -d); gpg -q --batch --passphrase '' --quick-gen-key other ed25519 sign never && gpg --armor --export"
SERVED = "/srv/depot/www/debian"
# Has every process that starts from now on see a clock that is two days ahead.
MOVE_CLOCK = "echo +2d >/etc/faketimerc && ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/etc/ld.so.preload"
MOVE_ON = """set -eu
mkdir -p /tmp/newer/DEBIAN
printf '%s\\n' 'Package: hello' 'Version: 99' 'Architecture: amd64' 'Maintainer: nobody' 'Description: newer' >/tmp/newer/DEBIAN/control
dpkg-deb --build /tmp/newer /tmp/hello_99_amd64.deb
sudo -u depot -H sh -euc '
    aptly repo create -component=main 20260105
    aptly repo copy 20260101 20260105 "!Name (= hello)"
    aptly repo add 20260105 /tmp/hello_99_amd64.deb
    aptly snapshot create 20260105 from repo 20260105
    aptly publish snapshot -batch -skip-contents -distribution=20260105 -origin=lsst 20260105 filesystem:depot:debian'
rm -r /tmp/newer /tmp/hello_99_amd64.deb"""
DROP = """sudo -u depot -H sh -c '
    for each in {}; do aptly publish drop $each filesystem:depot:debian; aptly snapshot drop $each; aptly repo drop $each; done
    aptly db cleanup'"""
makes = pytest.mark.where(lambda machine: not machine.settings["depot"]["depot_source"])
copies = pytest.mark.where(lambda machine: machine.settings["depot"]["depot_source"])


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
    # A client of a snapshot has another source, and shall keep its lists.
    own = "-o Dir::Etc::SourceList=sources.list -o Dir::Etc::SourceParts=sources.list.d -o Dir::State::Lists=/tmp/lsst-test/lists"
    apt = f"apt-get {own} -o Acquire::http::Proxy=http://{depot}:3142 -o Acquire::Retries=0 -o Dir::Cache::archives=/tmp/lsst-test -qq"
    direct = apt.replace(f"http://{depot}:3142", "DIRECT")
    fetched = f"grep -c 'O|.*/hello_' {CACHE_LOG}"
    before = int(host.run(fetched).stdout or 0)
    shut_in.check_output("mkdir -p /tmp/lsst-test/partial /tmp/lsst-test/lists/partial")
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


@pytest.mark.disturbs
def test_a_name_server_that_was_away_is_asked_again(host, client, depot):
    proxy, archive = f"--proxy http://{depot}:3142", f"{archives(host)[0]}dists/lsst-test/InRelease"
    # Without a connection left to the archive.
    host.check_output("systemctl restart apt-cacher-ng")
    host.check_output("nft 'table inet lsst_test { chain out { type filter hook output priority 0; udp dport 53 drop; }; }'")
    try:
        assert status(client, proxy, archive) == 503
    finally:
        host.check_output("nft delete table inet lsst_test")
    assert status(client, proxy, archive) == 404


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


@pytest.mark.writes
def test_media_are_served_when_they_have_their_name(host, client, depot):
    """Whoever is in the group may put them there; what is still being written begins with a dot."""
    media = "/srv/depot/www/media"
    host.check_output(f"setpriv --reuid=nobody --regid=depot --clear-groups sh -c 'echo medium >{media}/.lsst-test.iso'")
    try:
        assert host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups touch {media}/x").rc != 0
        assert status(client, "", f"https://{depot}/media/.lsst-test.iso") == 403
        host.check_output(f"mv {media}/.lsst-test.iso {media}/lsst-test.iso")
        assert client.check_output(f"curl --silent https://{depot}/media/lsst-test.iso") == "medium"
    finally:
        host.run(f"rm {media}/*lsst-test.iso")


@pytest.mark.writes
def test_the_log_says_what_each_host_took(host, settings, client, depot):
    server = client.check_output(f"getent ahostsv4 {depot}").split()[0]
    source = client.check_output(f"ip -oneline route get {server}").partition(" src ")[2].split()[0]
    known = {entry["address"]: entry["name"] for entry in settings["depot_clients"]}
    assert status(client, "", f"http://{depot}/debian/lsst-test") == 404
    line = host.check_output("grep /debian/lsst-test /var/log/nginx/access.log | tail -1").split()
    assert line[1:3] == [known.get(source, source), "404"]


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


def descendants(parent: int) -> list[int]:
    """Numbers of the processes below ``parent``, those in containers too."""
    found = []
    with suppress(OSError):  # It has ended meanwhile.
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


def play(playbook: str, to: Machine, *arguments: str, when: str = "", **variables: object) -> subprocess.CompletedProcess:
    """Run playbooks/``playbook``.yml on one depot. ``when``: kill the run and all that it started once this holds there."""
    command = call("ansible-playbook", f"--limit={to.name}", *arguments, f"playbooks/{playbook}.yml", **variables)
    with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        if when:
            to.host.check_output("timeout 60 sh -c %s", f"until {when}; do :; done")
            for each in [process.pid, *descendants(process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        said, _ = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, said, "")


def lacks_until_a_run(depot: Machine, name: str, word: str, **variables: object) -> None:
    """The depot gets its site's snapshot by an ordinary run; a check run before says so, a run after it has nothing to do."""
    run = partial(play, "depot", depot, "--tags=depot", depot_snapshot=name, lsst_ldf_batch_probes=True, **variables)
    told = run("--check")
    assert changed(told) and f"{name} would be {word}" in told.stdout, told.stdout
    assert depot.host.run(f"ls {SERVED}/dists/{name}").rc != 0
    assert changed(run())
    assert depot.host.file(f"{SERVED}/dists/{name}/InRelease").is_file
    assert not changed(run())


def installed(machine: Machine) -> set[str]:
    """``package<tab>version`` of each."""
    return set(machine.host.check_output("dpkg-query --show").splitlines())


@pytest.fixture(scope="module")
def maker(request) -> Machine:
    """The depot that makes snapshots."""
    return next(m for m in machines(request.config.getoption("settings")).values() if "depot" in m.settings and makes.args[0](m))


@pytest.fixture(scope="module")
def locks(tmp_path_factory) -> Path:
    """Where the lock files are."""
    return tmp_path_factory.mktemp("locks")


@pytest.fixture(scope="module")
def fill(maker, locks) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Makes a snapshot: ``fill("20260101", "--check")``."""
    yield lambda name, *arguments, **more: play(
        "fill-depot", maker, *arguments, **{"depot_snapshot": name, "depot_locks": str(locks), **more}
    )
    maker.host.run(DROP.format("$(aptly repo list -raw)"))
    maker.host.run(f"rm -rf {SERVED}/* /srv/depot/fetched/*")


@pytest.fixture(scope="module")
def filled(maker, fill, locks) -> None:
    """Two snapshots of the maker, 20260101 and 20260102. A first run writes the lock file, a second has nothing to do."""
    assert changed(fill("20260101", "--check")) and not (locks / "20260101.txt").exists()
    assert changed(fill("20260101"))
    assert not changed(fill("20260101"))
    lacks_until_a_run(maker, "20260102", "made", depot_locks=str(locks))
    assert (locks / "20260102.txt").exists()


@pytest.fixture
def sync(machine) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Copies a snapshot to the depot under test: ``sync("20260101", "--check")``."""
    yield lambda name, *arguments, **more: play("sync-depot", machine, *arguments, **{"depot_snapshot": name, **more})
    machine.host.run(f"rm -rf /srv/depot/copied/* /srv/depot/copied/.temp {SERVED}/*")


@pytest.fixture
def builds(request) -> list[Machine]:
    """The scenario's hosts that install."""
    return [m for m in machines(request.config.getoption("settings")).values() if "depot" not in m.settings]


@pytest.fixture
def on_snapshot(builds, apply, depot):
    """Has a host, the first one unless told, install ``packages`` from a snapshot of the depot alone; gives what that run said."""
    key = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets" / "depot.pub.asc").read_text()
    before: dict[str, set[str]] = {}

    def run(snapshot: str, *packages: str, key: str = key, to: Machine = builds[0]) -> subprocess.CompletedProcess:
        before.setdefault(to.name, installed(to))
        to.host.check_output("apt-get clean; rm -rf /var/lib/apt/lists/*")
        archive = {"package_archive": f"http://{depot}/debian", "package_snapshot": snapshot, "package_signed_by": key}
        return apply(to=[to], molecule_roles=["package"], package_base=packages, **archive)

    yield run
    for each in (m for m in builds if m.name in before):
        each.host.run(f"apt-get -qq purge {' '.join(line.split()[0] for line in installed(each) - before[each.name])}")


@pytest.fixture
def newer(maker) -> Iterator[Callable[[], object]]:
    """Makes a third snapshot of the maker, 20260105, that is 20260101 with a newer hello."""
    yield lambda: maker.host.check_output(MOVE_ON)
    maker.host.run(DROP.format("20260105"))


@pytest.fixture
def later(builds) -> Iterator[Machine]:
    """A host of its own whose clock is two days ahead."""
    found = builds[-1]
    found.host.check_output(f"apt-get -qq install libfaketime && {MOVE_CLOCK}")
    yield found
    found.host.check_output("rm /etc/ld.so.preload /etc/faketimerc")


@makes
@pytest.mark.disturbs
def test_a_snapshot_is_what_hosts_install(host, client, filled, locks, apply, on_snapshot):
    """Hosts get what it holds and its key signed, nothing else. The depot is as the role left it."""
    assert not changed(apply("--check", lsst_ldf_batch_probes=True))
    assert changed(on_snapshot("20260101", "tree"))
    assert client.package("tree").is_installed
    assert "tree_" in host.check_output("grep ' /debian/pool/.*tree_' /var/log/nginx/access.log")
    locked = {line.split("  ")[1].split("_")[0] for line in (locks / "20260101.txt").read_text().splitlines()}
    assert set(client.check_output("apt-cache pkgnames --generate | sort").split()) >= locked >= {"tree", "hello", "libc6"}
    refused = on_snapshot("20260101", "bind9")
    assert refused.returncode != 0 and "bind9" in refused.stdout
    refused = on_snapshot("20260101", "hello", key=host.check_output(OTHER_KEY))
    assert refused.returncode != 0 and "20260101 InRelease' is not signed" in refused.stdout


@makes
@pytest.mark.disturbs
def test_hosts_built_two_days_apart_are_the_same_to_the_version(builds, later, filled, newer, on_snapshot):
    """Of one snapshot, although the depot has got a newer one meanwhile."""
    brought = []
    for each in (builds[0], later):
        before = installed(each)
        assert changed(on_snapshot("20260101", "tree", "hello", "jq", to=each))
        brought.append(installed(each) - before)
        if each is not later:
            newer()
    assert brought[0] == brought[1]
    assert {line.split("\t")[0] for line in brought[0]} >= {"tree", "hello", "jq", "libonig5:amd64"}
    # It was two days later, to the installer as to everybody.
    now = datetime.fromisoformat(builds[0].host.check_output("date '+%F %T'"))
    for told in ("date '+%F %T'", "tail -1 /var/log/dpkg.log | cut -c-19"):
        assert abs(datetime.fromisoformat(later.host.check_output(told)) - now - timedelta(days=2)) < timedelta(minutes=5)


@makes
@pytest.mark.disturbs
def test_what_the_lock_file_does_not_say_is_refused(host, filled, fill, locks):
    """Another checksum, a version that is gone, a line that is none: no snapshot, and a message that says which."""
    good = (locks / "20260102.txt").read_text()
    other = "".join("0" * 64 + line[64:] if "hello" in line else line for line in good.splitlines(keepends=True))
    wrong = {
        r"hello_\S+_amd64.deb: FAILED": other,
        r"1\.9-nowhere\S+ for \S+tree\S+ was not found": good.replace("tree_", "tree_1.9-nowhere+"),
        "line 1 of the lock file is 'no line'": "no line\n",
    }
    for said, lock in wrong.items():
        (locks / "20260104.txt").write_text(lock)
        done = fill("20260104")
        assert done.returncode != 0 and re.search(said, done.stdout), done.stdout
        assert host.run(f"ls {SERVED}/dists/20260104").rc != 0


@makes
@pytest.mark.disturbs
def test_a_fill_that_is_killed_or_finds_no_room_is_taken_up(machine, host, client, filled, fill, on_snapshot):
    """Nothing of it is served meanwhile, and who installs from an older snapshot goes on."""
    host.check_output("rm /srv/depot/fetched/*; mount -t tmpfs -o size=100k,mode=0777 none /srv/depot/fetched")
    full = fill("20260103")
    host.check_output("umount /srv/depot/fetched")
    assert full.returncode != 0 and "No space left on device" in full.stdout, full.stdout
    killed = fill("20260103", when="ls /srv/depot/fetched | grep -q .")
    assert killed.returncode != 0 and host.run(f"ls {SERVED}/dists/20260103").rc != 0
    assert changed(on_snapshot("20260101", "tree")) and client.package("tree").is_installed
    assert changed(fill("20260103"))
    assert changed(on_snapshot("20260103", "hello")) and client.package("hello").is_installed


@makes
@pytest.mark.disturbs
@pytest.mark.invariant("refused before the host is asked")
def test_what_is_no_date_is_refused(machine, fill):
    done = fill("yesterday")
    assert done.returncode != 0 and "depot_snapshot is yesterday" in done.stdout and "Allowed: a date" in done.stdout


@copies
@pytest.mark.disturbs
def test_a_copy_is_what_hosts_install(machine, client, filled, sync, on_snapshot):
    """From the copy alone, by the maker's signature; any run copies what the site's hosts install from."""
    lacks_until_a_run(machine, "20260101", "copied")
    assert changed(on_snapshot("20260101", "tree")) and client.package("tree").is_installed


@copies
@pytest.mark.disturbs
def test_a_bad_copy_is_refused(machine, host, maker, client, filled, sync, on_snapshot):
    """Corrupt, cut short, not signed, changed, no room, killed: each says what is wrong, and the older copy serves on, until it goes."""
    assert changed(sync("20260101", "--check")) and host.run(f"ls {SERVED}/dists").rc != 0
    assert changed(sync("20260101")) and not changed(sync("20260101"))
    lists, hello = f"{SERVED}/dists/20260102", maker.host.check_output(f"ls {SERVED}/pool/main/h/hello/*.deb")
    wrong = {
        r"hello_\S+.deb: FAILED": (hello, f"printf x | dd of={hello} bs=1 seek=5000 conv=notrunc status=none"),
        r"unexpected end of file": (lists, f"truncate -s -10 {lists}/main/binary-amd64/Packages.gz"),
        r"Release.gpg": (lists, f"rm {lists}/InRelease {lists}/Release.gpg"),
        r"BAD signature": (lists, f"sed -i s/lsst/other/ {lists}/Release"),
    }
    fresh = "rm -rf /srv/depot/copied/pool/main/h /srv/depot/copied/dists/20260102 /srv/depot/copied/.temp"
    for said, (path, damage) in wrong.items():
        host.check_output(fresh)
        # A copy, because what is served is linked to what the snapshots are made of.
        maker.host.check_output(f"cp -a {path} /srv/kept; cp -a {path} {path}.n; rm -r {path}; mv {path}.n {path}; {damage}")
        done = sync("20260102")
        maker.host.check_output(f"rm -r {path}; mv /srv/kept {path}")
        assert done.returncode != 0 and re.search(said, done.stdout), done.stdout
    host.check_output(f"{fresh}; mount -t tmpfs -o size=500k,mode=0777 none /srv/depot/copied")
    full = sync("20260102")
    host.check_output("umount /srv/depot/copied; rm -r /srv/depot/copied/pool")
    assert full.returncode != 0 and "No space left on device" in full.stdout, full.stdout
    killed = sync("20260102", when="ls /srv/depot/copied/pool/main/*/* 2>/dev/null | grep -q deb")
    assert killed.returncode != 0 and host.check_output(f"ls {SERVED}/dists") == "20260101"
    assert changed(on_snapshot("20260101", "tree")) and client.package("tree").is_installed
    assert changed(sync("20260102"))
    old = "pool/main/h/hello/hello_1_amd64.deb"
    host.check_output(f"cd /srv/depot && sudo -u depot touch copied/{old} && sudo -u depot ln copied/{old} www/debian/{old}")
    prune = partial(play, "prune-depot", machine, depot_keep=1, depot_prune=machine.name)
    killed = prune(when=f"! ls -d {SERVED}/dists/20260101 /srv/depot/copied/dists/20260101 >/dev/null 2>&1")
    assert killed.returncode == -signal.SIGKILL and changed(prune())
    for tree in (SERVED, "/srv/depot/copied"):
        assert host.check_output(f"ls {tree}/dists") == "20260102" and not host.file(f"{tree}/{old}").exists
    assert changed(on_snapshot("20260102", "hello")) and client.package("hello").is_installed


@copies
@pytest.mark.disturbs
def test_wheels_come_as_the_lock_file_says(host, maker, filled, fill, sync, client, depot, tmp_path):
    """To the maker from where the project is, to the other depot from the maker; one that was damaged there is refused."""
    lock = tmp_path / "wheels.lock"
    # Of the project's own environment, so that its hash need not be written here a second time.
    lock.write_text(re.search(r"^packaging==(?:.*\\\n)+.*\n", (TOP / "requirements.lock").read_text(), re.M)[0])
    wheels = {"depot_wheels_locks": [str(lock)], "depot_wheels_cache": str(tmp_path / "wheels")}
    assert changed(fill("20260101", **wheels)) and not changed(fill("20260101", **wheels))
    served = maker.host.check_output("ls /srv/depot/www/wheels/*.whl")
    maker.host.check_output(f"cp {served} /srv/kept; printf x | dd of={served} bs=1 seek=500 conv=notrunc status=none")
    try:
        bad = sync("20260101", **wheels)
        assert bad.returncode != 0 and "did not match" in bad.stdout and host.run(f"ls {served}").rc != 0, bad.stdout
        maker.host.check_output(f"mv /srv/kept {served}")
        assert changed(sync("20260101", **wheels)) and not changed(sync("20260101", **wheels))
        sums = client.check_output(f"curl --silent https://{depot}/wheels/SHA256SUMS").split()
        fetched = client.check_output(f"curl --silent https://{depot}/wheels/{sums[1]} | sha256sum").split()
        assert fetched[0] == sums[0] and sums[0] in lock.read_text()
    finally:
        for each in (host, maker.host):
            each.run("rm -rf /srv/depot/www/wheels/*")


@makes
@pytest.mark.disturbs
def test_old_snapshots_go_when_the_depot_is_named(machine, host, filled, fill, on_snapshot, client):
    """The newest and what is in use stay, with every package they name; the rest goes, by the next run when one is killed."""
    assert changed(fill("20250101", depot_packages=[{"name": "x", "packages": ["figlet"]}]))
    options = {"depot_keep": 1, "depot_in_use": ["20260101"]}
    refused = play("prune-depot", machine, **options)
    assert refused.returncode != 0 and f"but the host is {machine.name}" in refused.stdout
    options["depot_prune"] = machine.name
    before = host.check_output(f"ls {SERVED}/dists").split()
    asked = play("prune-depot", machine, "--check", **options)
    assert changed(asked) and "=www/debian: figlet_" in asked.stdout and "jq_" not in asked.stdout, asked.stdout
    assert host.check_output(f"ls {SERVED}/dists").split() == before
    killed = play("prune-depot", machine, when=f"! [ -e {SERVED}/dists/20250101 ]", **options)
    assert killed.returncode == -signal.SIGKILL and host.check_output(f"find {SERVED} -name 'figlet_*'")
    assert on_snapshot("20260101", "tree").returncode == 0 and client.package("tree").is_installed
    assert changed(play("prune-depot", machine, **options)) and not changed(play("prune-depot", machine, **options))
    assert host.check_output(f"ls {SERVED}/dists").split() == ["20260101", before[-1]]
    assert not host.check_output("find /srv/depot -name 'figlet_*'")
    stored = "for each in repo snapshot publish; do sudo -u depot -H aptly $each list -raw; done | tr ' ' '\\n' | grep '^20' | sort -u"
    assert host.check_output(stored).split() == ["20260101", before[-1]]
    for name in ("20260101", before[-1]):
        assert on_snapshot(name, "hello").returncode == 0 and client.package("hello").is_installed
        client.check_output("apt-get -qq purge hello")


@makes
@pytest.mark.disturbs
def test_a_site_gets_a_snapshot_after_the_one_before_it(machine, filled, tmp_path):
    table = tmp_path / "package.yml"
    table.write_text('__package_snapshots:\n  ncsa: ""\n  tucson: ""\n  base: ""\n  summit: "20260101"\n')

    def promote(site: str, name: str, *arguments: str) -> subprocess.CompletedProcess:
        return play("promote-snapshot", machine, *arguments, promote_file=str(table), promote_site=site, depot_snapshot=name)

    early = promote("tucson", "20260101")
    assert early.returncode != 0 and "not what ncsa uses (no snapshot)" in early.stdout
    missing = promote("ncsa", "20260109")
    assert missing.returncode != 0 and f"20260109 is not on {machine.name}" in missing.stdout
    before = table.read_text()
    assert changed(promote("ncsa", "20260101", "--check")) and table.read_text() == before
    for site in ("ncsa", "tucson"):
        assert changed(promote(site, "20260101")) and not changed(promote(site, "20260101"))
    assert table.read_text() == before.replace('ncsa: ""', 'ncsa: "20260101"').replace('tucson: ""', 'tucson: "20260101"')
    # A line that somebody wrote in another form is not passed over in silence.
    table.write_text("__package_snapshots:\n  ncsa: ''\n")
    other = promote("ncsa", "20260101")
    assert other.returncode != 0 and "Allowed: a line of two spaces" in " ".join(other.stdout.split())
