"""nameserver, asked with dig: what it serves, to whom, without its primaries, and while it changes."""

from __future__ import annotations

import re
import time
import uuid
from contextlib import contextmanager

import pytest

from conftest import Machine, under_test

KEY = "-k /etc/bind/transfer.key"
# Of a documentation network: no host has it and no network that is served holds it.
NOBODY = "192.0.2.53"
# The servers that have others beside them; a site is disturbed once.
redundant = pytest.mark.where(lambda machine: machine.settings["nameserver"]["nameserver_peers"])


def dig(host, *words: str, server: str = "127.0.0.1") -> str:
    """What dig on ``host`` prints for the answer of ``server``; no answer at all is an error."""
    return host.check_output(f"dig +time=2 +tries=2 @{server} {' '.join(words)}")


def status(answer: str) -> str:
    """The status in dig's output, such as NXDOMAIN."""
    return re.search(r"status: (\w+)", answer)[1]


def flags(answer: str) -> set[str]:
    """The flags in dig's output: ``aa`` for a server that knows the zone itself, ``ra`` for one that would look elsewhere."""
    return set(re.search(r"flags: ([a-z ]+);", answer)[1].split())


def full(name: str, zone: str) -> str:
    """A name of a zone file with its zone."""
    return f"{zone}." if name == "@" else name if name.endswith(".") else f"{name}.{zone}."


def records(settings: dict, kinds: tuple[str, ...]) -> list[tuple[str, int, str, str]]:
    """Name, ttl, type and value of the records in the role's own zones, names in full."""
    found = [(zone["name"], record) for zone in settings["nameserver_zones"] for record in zone["records"] if record["type"] in kinds]
    return [
        (
            full(record["name"], zone),
            record.get("ttl") or settings["nameserver_ttl"],
            record["type"],
            record["value"] if record["type"] == "A" else full(record["value"], zone),
        )
        for zone, record in found
    ]


def is_ours(host, zone: str) -> bool:
    """Whether the server on ``host`` answers for ``zone`` from its own data."""
    answer = dig(host, "+norecurse", zone, "SOA")
    return status(answer) == "NOERROR" and "aa" in flags(answer)


@pytest.mark.reads
def test_serves_every_record_of_its_zones(host, settings):
    """Forward and reverse, with their ttl."""
    wanted = records(settings, ("A", "PTR", "CNAME", "NS"))
    lines = dig(host, "+noall", "+answer", "+nottlunits", *(f"{name} {kind}" for name, _, kind, _ in wanted)).splitlines()
    answers = {(name, int(ttl), kind, value) for name, ttl, _, kind, value in map(str.split, lines)}
    assert set(wanted) - answers == set()


@pytest.mark.reads
def test_keeps_copies_of_other_sites_zones(host, settings):
    """One that was never fetched is no fault as long as none of its primaries can be reached."""
    dig(host, ".", "SOA")
    zones = settings["nameserver_secondary_zones"]
    missing = [zone for zone in zones if not is_ours(host, zone["name"])]
    reached = {address for zone in missing for address in zone["primaries"] if host.run(f"dig +time=1 +tries=1 @{address} . SOA").rc == 0}
    assert [zone["name"] for zone in missing if reached & set(zone["primaries"])] == []


@pytest.mark.reads
def test_says_at_once_that_outside_names_do_not_exist(host, settings):
    """A server with forwarders passes the question on."""
    answer = dig(host, f"{uuid.uuid4()}.example.org", "A")
    assert status(answer) in ("NXDOMAIN", "NOERROR")
    if not settings["nameserver_forwarders"]:
        assert "aa" in flags(answer)
        assert int(re.search(r"Query time: (\d+) msec", answer)[1]) < 100


@pytest.mark.reads
def test_gives_a_zone_away_for_the_key_only(host, settings):
    for zone in settings["nameserver_zones"]:
        assert "Transfer failed." in dig(host, zone["name"], "AXFR")
        assert len(re.findall(r"\sSOA\s", dig(host, KEY, zone["name"], "AXFR"))) == 2


@pytest.mark.writes
def test_answers_no_outsider(host, settings):
    """Neither from its zones nor by looking elsewhere, and not even for the key. The outsider is another address of the host itself."""
    dig(host, ".", "SOA")
    own = host.check_output("hostname -I").split()[0]
    try:
        host.check_output(f"ip address add {NOBODY}/32 dev lo")
        for zone in [entry["name"] for entry in settings["nameserver_zones"]] + ["example.org"]:
            answer = dig(host, f"-b {NOBODY}", zone, "SOA", server=own)
            assert status(answer) == "REFUSED" and "ra" not in flags(answer)
        for zone in settings["nameserver_zones"]:
            assert "Transfer failed." in dig(host, f"-b {NOBODY}", KEY, zone["name"], "AXFR", server=own)
    finally:
        host.run(f"ip address del {NOBODY}/32 dev lo")


@pytest.mark.reads
@pytest.mark.parametrize("question", ["version.bind", "hostname.bind", "id.server"])
def test_does_not_say_what_it_is(host, settings, question):
    assert not re.search(r"\sTXT\s+\"", dig(host, question, "CH", "TXT"))


@pytest.mark.reads
def test_logs_queries_for_the_collector(host, settings):
    """As facility local6 (22), which collectors pick them by."""
    name = f"{uuid.uuid4()}.example.org"
    dig(host, name, "A")
    assert name in host.check_output("journalctl --sync; journalctl --unit named --since -1min SYSLOG_FACILITY=22 --output cat")


@pytest.mark.disturbs
def test_serves_copies_without_their_primaries_even_after_a_restart(host, settings):
    """The WAN is cut and the server starts anew: the copies are on disk, as its own zones are."""
    own, copied = ([zone["name"] for zone in settings[f"nameserver_{kind}"]] for kind in ("zones", "secondary_zones"))
    kept = own + [zone for zone in copied if is_ours(host, zone)]
    primaries = {address for zone in settings["nameserver_secondary_zones"] for address in zone["primaries"]}
    try:
        for address in primaries:
            host.check_output(f"ip route add blackhole {address}/32")
        host.check_output("systemctl restart named")
        assert [zone for zone in kept if not is_ours(host, zone)] == []
    finally:
        for address in primaries:
            host.run(f"ip route del blackhole {address}/32")


@pytest.fixture
def site(host, settings, request) -> list[Machine]:
    """The servers that share their zones with this machine, itself included."""
    dig(host, ".", "SOA")
    zones = settings["nameserver_zones"]
    return [m for m in under_test(request.config) if m.settings.get("nameserver", {}).get("nameserver_zones") == zones]


@pytest.fixture
def client(settings, request):
    """A machine that resolves through this site's servers and is none itself."""
    peers = {peer.partition(":")[0] for peer in settings["nameserver_peers"]}
    for machine in under_test(request.config):
        if "nameserver" not in machine.settings and peers & set(machine.settings.get("resolver", {}).get("resolver_nameservers", [])):
            return machine.host
    pytest.fail("no client of these servers is at hand")


@contextmanager
def lookups(client, name: str, patience: float):
    """Look ``name`` up ten times a second on ``client`` meanwhile; each time is to end well within ``patience`` seconds."""
    once = f"timeout {patience} getent -s dns ahostsv4 {name} >/dev/null && echo answered || echo failed"
    unit = "--quiet --collect --unit lsst-test-lookups --property StandardOutput=truncate:/run/lsst-test-lookups"
    client.check_output(f"systemd-run {unit} sh -c 'while :; do ( {once} ) & sleep 0.1; done'")
    try:
        yield
        time.sleep(1)
        seen = client.check_output("cat /run/lsst-test-lookups").split()
        assert set(seen) == {"answered"} and len(seen) > 20, f"{seen.count('failed')} of {len(seen)} lookups failed"
    finally:
        client.run("systemctl stop lsst-test-lookups; rm --force /run/lsst-test-lookups")


@redundant
@pytest.mark.once
@pytest.mark.disturbs
def test_a_changed_zone_fails_no_lookup(site, apply, client, settings, request):
    """Both servers take it up while a client asks, and so do those that keep copies."""
    first, *rest = settings["nameserver_zones"]
    new = str(uuid.uuid4())
    changed = [first | {"records": [*first["records"], {"name": "lsst-test", "type": "TXT", "value": new}]}, *rest]
    name = next(name for name, _, _, _ in records(settings, ("A",)))
    try:
        with lookups(client, name, patience=1):
            done = apply(to=site, nameserver_zones=changed)
        assert done.returncode == 0, done.stdout + done.stderr
        for member in site:
            assert new in dig(member.host, "+short", f"lsst-test.{first['name']}", "TXT")
        for other in under_test(request.config):
            copies = other.settings.get("nameserver", {}).get("nameserver_secondary_zones", [])
            if first["name"] in [zone["name"] for zone in copies] and is_ours(other.host, first["name"]):
                wait_for(lambda other=other: new in dig(other.host, "+short", f"lsst-test.{first['name']}", "TXT"), 30)
    finally:
        apply(to=site)


def wait_for(condition, seconds: float) -> None:
    """AssertionError unless ``condition`` becomes true within ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(1)


@redundant
@pytest.mark.once
@pytest.mark.disturbs
def test_a_change_that_breaks_bind_stops_at_the_first_server(site, apply, client, settings):
    """The checker cannot know that an address is not the host's. The first server fails with its journal, the second goes on."""
    name = next(name for name, _, _, _ in records(settings, ("A",)))
    try:
        # A client gives the dead server two seconds before it asks the other one.
        with lookups(client, name, patience=6):
            done = apply(to=site, nameserver_listen=[NOBODY])
        assert done.returncode != 0
        words = " ".join(done.stdout.split())
        # Its journal says which address does not answer: a timeout, or no route to it.
        assert f"{NOBODY}#53" in words
        assert re.search(r"named is due for a restart, but only 0 of its peers \S+ answer; 1 must\.", words)
        assert [m.host.run("systemctl is-active named").stdout.strip() == "active" for m in site].count(True) == len(site) - 1
    finally:
        repaired = apply(to=site)
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert all(m.host.run("systemctl is-active named").rc == 0 for m in site)


@pytest.mark.once
@pytest.mark.disturbs
@pytest.mark.parametrize(("options", "verb"), [({"nameserver_listen": [NOBODY]}, "restart"), ({"nameserver_ttl": 61}, "reload")])
def test_a_check_run_names_what_a_change_will_bring(machine, apply, options, verb):
    """Although the files, which the restart follows, are not written."""
    done = apply("--check", "--diff", lsst_ldf_batch_probes=True, **options)
    assert f"changed: [{machine.name}] => Start BIND where it does not run" in done.stdout and f"+{verb}" in done.stdout.splitlines()


@redundant
@pytest.mark.once
@pytest.mark.disturbs
def test_a_bad_record_is_refused_before_anything_changes(site, apply, settings):
    """With the record, the checker's words, what is allowed and where to correct it."""
    first, *rest = settings["nameserver_zones"]
    asked = site[0].host
    before = dig(asked, "+short", first["name"], "SOA")
    bad = {"name": "bad", "type": "A", "value": "10.64.16.999"}
    done = apply(to=site[:1], nameserver_zones=[first | {"records": [*first["records"], bad]}, *rest])
    words = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert f"zone {first['name']}, record 'bad IN A 10.64.16.999': near '10.64.16.999': bad dotted quad" in words
    assert "Allowed: what named-checkzone accepts, such as {name: base-dtn01, type: A, value: 10.64.16.21}." in words
    assert "Edit nameserver_zones in inventories/production/group_vars/nameserver/nameserver.yml" in words
    assert dig(asked, "+short", first["name"], "SOA") == before


@redundant
@pytest.mark.once
@pytest.mark.disturbs
def test_a_key_that_is_none_is_refused_without_being_shown(site, apply):
    done = apply(to=site[:1], nameserver_transfer_key="not-a-key")
    words = " ".join(done.stdout.split())
    assert done.returncode != 0 and "not-a-key" not in done.stdout + done.stderr
    assert "nameserver_transfer_key is no key. Allowed: 32 bytes in base64" in words and "group_vars/<site>/nameserver.yml" in words
