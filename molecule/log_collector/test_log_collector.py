"""log_collector, from its senders' side and its reader's: who gets in, under which name a line is filed, and that none is lost."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conftest import Machine, machines, wait_for

COLLECTED = "/var/log/collected"
METRICS = "/var/lib/prometheus/node-exporter/log_collector.prom"
# The site's own, not the one that it passes everything on to.
of_a_site = pytest.mark.where(lambda machine: machine.in_molecule and bool(machine.settings["log_collector"]["log_collector_forward"]))
# A second rsyslog on the host, with what it says of itself, and with which certificate, as the test wants it.
SENDER = """
module(load="imuxsock" sysSock.use="off")
module(load="omrelp" tls.tlsLib="openssl")
input(type="imuxsock" socket="/run/lsst-test/log")
template(name="forged" type="string" string="<%PRI%>1 %TIMESTAMP:::date-rfc3339% {host} lsst-test - - - %msg%")
action(type="omrelp" target="{target}" port="{port}" template="forged" action.resumeRetryCount="-1" action.resumeInterval="1" {tls})
"""
TLS = """tls="on" tls.authMode="name" tls.permittedPeer="{peer}" tls.caCert="/etc/lsst/tls/root.crt"
  tls.myCert="{directory}/host.crt" tls.myPrivKey="{directory}/host.key\""""


@pytest.fixture
def everyone(request) -> dict[str, Machine]:
    return machines(request.config.getoption("settings"))


@pytest.fixture
def client(machine, host, everyone):
    """A host that logs to the collector, and is none itself."""
    # Nobody waits for what cannot come.
    host.check_output("systemctl is-active log-collector")
    names = machine.settings["certificate"]["certificate_names"]
    return next(
        m
        for m in everyone.values()
        if "log_collector" not in m.settings and set(m.settings.get("logging", {}).get("logging_collector_names", ())) & set(names)
    )


@pytest.fixture
def upstream(settings, everyone) -> Machine:
    """The collector that this one passes everything on to."""
    [name] = settings["log_collector_forward_names"]
    return next(m for m in everyone.values() if name in m.settings["certificate"]["certificate_names"])


@pytest.fixture
def word() -> str:
    """What is in no other line."""
    return f"lsst-test-{uuid.uuid4().hex}"


def filed(host, word: str) -> dict[str, list[str]]:
    """Directory -> its lines that have ``word`` and something after it as their text, in any file."""
    found: dict[str, list[str]] = {}
    for line in host.run("grep -r -- %s %s", f" lsst-test[^ ]*: {word} ", COLLECTED).stdout.splitlines():
        path, _, text = line.partition(":")
        found.setdefault(Path(path).parent.name, []).append(text)
    return found


def numbers(lines: list[str]) -> list[int]:
    """The numbers that lines end with, in order."""
    return sorted(int(line.rpartition(" ")[2]) for line in lines)


def reached(host, client, word: str, number: int) -> bool:
    """Whether a number of the client's is on the host. What was sent into a broken connection goes again with the next line."""
    client.host.run("logger --tag lsst-test next")
    return number in numbers(filed(host, word).get(client.name, []))


def count(host, word: str, first: int, last: int) -> None:
    """Log the numbers from ``first`` to ``last``, a line each."""
    host.check_output(f"seq --format '{word} %.0f' {first} {last} | logger --tag lsst-test")


@contextmanager
def sender(host, target: str, port: int, tls: str = "", claims: str = "lsst-test") -> Iterator[None]:
    """A second rsyslog on the host, which sends what is written to /run/lsst-test/log; ``claims``: the host that it says it is."""
    text = SENDER.format(target=target, port=port, tls=tls, host=claims)
    host.check_output("mkdir --parents --mode 0700 /run/lsst-test/work && echo %s >/run/lsst-test/conf", text)
    run = "systemd-run --quiet --collect --unit lsst-test-sender --service-type notify --working-directory /run/lsst-test/work"
    try:
        host.check_output(f"{run} rsyslogd -n -f /run/lsst-test/conf -i NONE")
        yield
    finally:
        host.run("systemctl kill --signal KILL lsst-test-sender; systemctl stop lsst-test-sender; rm --recursive --force /run/lsst-test")


def say(host, text: str) -> None:
    host.check_output("logger --socket /run/lsst-test/log -- %s", text)


@pytest.mark.reads
def test_listens_as_a_user_who_can_do_nothing_else(host, settings):
    """Without capabilities or a way to new ones."""
    process = host.check_output("systemctl show --property MainPID --value log-collector")
    status = dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{process}/status").splitlines() if ":\t" in line)
    assert status["Uid"].split() == [host.check_output("id --user log-collector")] * 4
    assert (status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2")
    listening = host.check_output("ss --no-header --listening --tcp --numeric --processes")
    assert re.search(rf"0\.0\.0\.0:{settings['log_collector_port']} .*pid={process},", listening)


@pytest.mark.reads
def test_will_compress_and_delete_again(host):
    assert host.check_output("systemctl show --property NextElapseUSecRealtime --value log-collector-keep.timer")
    assert host.check_output("systemctl show --property Result --value log-collector-keep.service") == "success"


@pytest.mark.reads
def test_is_read_by_group_adm_alone(host):
    assert host.run(f"runuser -u nobody -- ls {COLLECTED}").rc
    assert host.check_output(f"runuser -u nobody -g adm -- ls {COLLECTED}") is not None


@of_a_site
@pytest.mark.writes
def test_a_line_is_filed_under_its_sender_whoever_it_says_it_is(host, client, settings, word):
    """Even if it says that it is the collector itself."""
    tls = TLS.format(peer=client.settings["logging"]["logging_collector_names"][0], directory="/etc/lsst/tls")
    target = client.settings["logging"]["logging_collector"]
    with sender(client.host, target, settings["log_collector_port"], tls, claims="log-collector-server"):
        say(client.host, f"{word} forged")
        wait_for(lambda: filed(host, word), 60, "the line arrives")
    assert list(filed(host, word)) == [client.name]


@of_a_site
@pytest.mark.writes
def test_what_it_passes_on_is_filed_under_its_sender_there(host, client, settings, upstream, word):
    count(client.host, word, 1, 3)
    count(host, word, 4, 4)
    wait_for(lambda: sum(map(len, filed(upstream.host, word).values())) >= 4, 60, "they arrive")
    assert {name: numbers(lines) for name, lines in filed(upstream.host, word).items()} == {
        client.name: [1, 2, 3],
        "log-collector-server": [4],
    }
    assert filed(upstream.host, word) == filed(host, word)


def certificate(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends: timedelta) -> tuple[str, str]:
    """A certificate for ``name``, signed by ``key`` in the name of ``issuer``, and its own key, in PEM."""
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(pem).decode(), secret.decode()


@of_a_site
@pytest.mark.writes
def test_refuses_whoever_is_not_a_sender(host, client, settings, word):
    """The last one is a right one, from another address: it is filed as nobody's."""
    site = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets/tls/site"
    authority = x509.load_pem_x509_certificate(site.with_suffix(".crt").read_bytes())
    ours, theirs = serialization.load_pem_private_key(site.with_suffix(".key").read_bytes(), None), ec.generate_private_key(ec.SECP256R1())
    day, name = timedelta(days=1), "log-collector-moved.test"
    asked = {
        "no TLS": None,
        "another authority": certificate(name, authority.subject, theirs, day),
        "ended": certificate(name, authority.subject, ours, -day / 24),
        "no sender": certificate("somebody-else.test", authority.subject, ours, day),
        "right": certificate(name, authority.subject, ours, day),
    }
    directory, chain = "/var/tmp/lsst-test", site.with_suffix(".crt").read_text()
    client.host.check_output(f"mkdir --mode 0700 {directory}")
    port, logging = settings["log_collector_port"], client.settings["logging"]
    try:
        for why, made in asked.items():
            if made:
                client.host.check_output(f"echo %s >{directory}/host.crt && echo %s >{directory}/host.key", made[0] + chain, made[1])
            tls = TLS.format(peer=logging["logging_collector_names"][0], directory=directory) if made else ""
            # From the container's other address, which is nobody's.
            with sender(client.host, elsewhere(host), port, tls):
                say(client.host, f"{word} {why}")
                if why == "right":
                    wait_for(lambda: filed(host, word), 60, "the right one's line arrives")
                else:
                    time.sleep(3)
    finally:
        client.host.check_output(f"rm --recursive {directory}")
    assert {name: [line.partition(f"{word} ")[2] for line in lines] for name, lines in filed(host, word).items()} == {"unknown": ["right"]}


def elsewhere(host) -> str:
    """Another address of the host on the same wire; who calls it comes from another one, too."""
    return next(word for word in host.check_output("hostname --all-ip-addresses").split() if not word.startswith("198.51.100."))


@of_a_site
@pytest.mark.disturbs
def test_nothing_is_lost_when_it_is_killed(host, client, upstream, word):
    """20,000 lines at 800 a second, while the collector is killed and away for ten seconds, twice; the other one, too."""
    # Sets its own pace: 80 lines each tenth of a second.
    stream = f"""
import syslog, time
syslog.openlog("lsst-test")
began = time.monotonic()
for number in range(1, 20001):
    syslog.syslog("{word} %d" % number)
    if number % 80 == 0:
        time.sleep(max(0, began + number / 800 - time.monotonic()))
"""
    client.host.check_output("systemd-run --quiet --collect --unit lsst-test-stream python3 -c %s", stream)
    try:
        for _ in range(2):
            time.sleep(2)
            assert client.host.run("systemctl is-active lsst-test-stream").rc == 0
            host.check_output("systemctl kill --signal KILL log-collector; systemctl stop log-collector")
            upstream.host.check_output("systemctl kill --signal KILL log-collector")
            time.sleep(10)
            host.check_output("systemctl start log-collector")
    finally:
        host.run("systemctl start log-collector")
    wait_for(lambda: reached(host, client, word, 20000), 180, "the last line arrives")
    found = numbers(filed(host, word)[client.name])
    print(f"{len(found) - 20000} of 20000 lines twice")
    assert sorted(set(found)) == list(range(1, 20001))
    assert len(found) < 22000


@of_a_site
@pytest.mark.disturbs
def test_a_full_disk_keeps_the_senders_waiting(host, client, word):
    """It is filled to the last byte while lines come; the host's own log says so, and all of them are there when there is room."""
    ballast = f"{COLLECTED}/lsst-test-ballast"
    count(client.host, word, 1, 100)
    wait_for(lambda: len(filed(host, word).get(client.name, [])) == 100, 60, "they arrive")
    client.host.check_output(
        "systemd-run --quiet --collect --unit lsst-test-stream sh -c %s",
        f"for n in $(seq 101 600); do logger -t lsst-test {word} $n; sleep 0.01; done",
    )
    began = host.check_output("date +%s")
    try:
        host.run(f"dd if=/dev/zero of={ballast} bs=1M")
        assert host.check_output(f"df --output=avail {COLLECTED} | tail -n 1").strip() == "0"
        wait_for(lambda: client.host.run("systemctl is-active lsst-test-stream").rc, 90, "all lines are logged")
        held = len(filed(host, word)[client.name])
        host.check_output("systemctl start log-collector-keep")
        assert "log_collector_takes_in 0" in host.check_output(f"cat {METRICS}")
        assert "no line is taken in" in host.check_output(f"journalctl --priority alert --since @{began} --output cat")
    finally:
        host.check_output(f"rm --force {ballast}")
    wait_for(lambda: reached(host, client, word, 600), 180, "the last line arrives")
    assert held < 600
    assert sorted(set(numbers(filed(host, word)[client.name]))) == list(range(1, 601))
    host.check_output("systemctl start log-collector-keep")
    assert "log_collector_takes_in 1" in host.check_output(f"cat {METRICS}")


@of_a_site
@pytest.mark.disturbs
def test_what_the_other_collector_missed_comes_later(host, client, upstream, word):
    """Although what passes it on was killed meanwhile, and while it went on; nobody waits for that."""
    kill = "systemctl kill --signal KILL log-collector-forward"
    upstream.host.check_output("systemctl stop log-collector")
    try:
        count(client.host, word, 1, 10000)
        wait_for(lambda: reached(host, client, word, 10000), 180, "they arrive here")
        host.check_output(kill)
    finally:
        upstream.host.check_output("systemctl start log-collector")
    wait_for(lambda: filed(upstream.host, word), 180, "the first ones arrive there")
    host.check_output(kill)
    wait_for(lambda: reached(upstream.host, client, word, 10000), 180, "the last one arrives there")
    found = numbers(filed(upstream.host, word)[client.name])
    print(f"{len(found) - 10000} of 10000 lines twice")
    assert sorted(set(found)) == list(range(1, 10001))
    assert len(found) < 13000


@of_a_site
@pytest.mark.writes
def test_days_are_compressed_read_and_deleted(host, client, word):
    """Yesterday's file is compressed, the reader finds its line, one that is too old is gone, and today's is as it was."""
    directory = f"{COLLECTED}/lsst-test"
    today, yesterday, old = (datetime.now(UTC).date() - timedelta(days) for days in (0, 1, 190))
    script = f"""
        mkdir {directory}
        for day in {yesterday} {today} {old}; do
            echo "${{day}}T12:00:00.000000+00:00 a.test user.info lsst-test: {word} $day" >{directory}/$day.log
        done
        for day in {yesterday} {old}; do touch --date "$day 12:00 UTC" {directory}/$day.log; done
        chown -R log-collector:adm {directory}
    """
    try:
        host.check_output(script)
        # Not before it has been passed on.
        host.check_output("systemctl stop log-collector-forward")
        host.check_output("rm /var/lib/log-collector/imfile-state:*; systemctl start log-collector-keep")
        assert host.check_output(f"ls {directory}").split() == [f"{yesterday}.log", f"{today}.log"]
        host.check_output("systemctl start log-collector-forward")
        wait_for(lambda: not host.run("log-collector-passed-on %s", f"{directory}/{yesterday}.log").rc, 60, "it is passed on")
        host.check_output("systemctl start log-collector-keep")
        assert host.check_output(f"ls {directory}").split() == [f"{yesterday}.log.zst", f"{today}.log"]
        found = host.check_output(f"runuser -u nobody -g adm -- collected-logs --host 'lsst-t*' --grep '{word}'").splitlines()
        assert [line.split()[-1] for line in found] == [str(yesterday), str(today)]
        for options, days in {
            "--since today": [today],
            f"--since '{yesterday} 11:00' --until '{yesterday} 13:00'": [yesterday],
            f"--grep '{word}.*{today}'": [today],
            "--host nobody": [],
        }.items():
            found = host.check_output(f"TZ=UTC collected-logs --host lsst-test {options}").splitlines()
            assert [line.split()[-1] for line in found] == [str(day) for day in days], options
        done = host.run("collected-logs --since whenever")
        assert done.rc == 2 and "'whenever' is no time. Allowed: such as yesterday" in done.stderr
    finally:
        host.check_output(f"rm --recursive {directory}")


@of_a_site
@pytest.mark.writes
def test_the_reader_follows(host, client, word):
    count(client.host, word, 0, 0)
    wait_for(lambda: filed(host, word), 60, "the line arrives")
    host.check_output(
        "systemd-run --quiet --collect --unit lsst-test-reader --property StandardOutput=truncate:/run/lsst-test-reader"
        f" collected-logs --follow --host {client.name} --grep {word}"
    )
    try:
        time.sleep(1)
        count(client.host, word, 1, 3)
        wait_for(lambda: len(host.file("/run/lsst-test-reader").content_string.splitlines()) == 3, 60, "they are shown")
    finally:
        host.run("systemctl stop lsst-test-reader; rm --force /run/lsst-test-reader")


@of_a_site
@pytest.mark.writes
def test_forecasts_the_room(host):
    """A day of 1 MB, kept for as long as is asked, does not fit into this disk; the host's log and the metrics say so."""
    directory, day = f"{COLLECTED}/lsst-test", datetime.now(UTC).date() - timedelta(1)
    try:
        host.check_output(f"mkdir {directory} && head -c 1000000 /dev/urandom >{directory}/{day}.log.zst")
        host.check_output("systemctl start log-collector-keep")
        said = host.check_output("journalctl --unit log-collector-keep --lines 5 --priority warning --output cat")
        assert re.search(r"183 days need 0\.[12] GB of 0\.1 GB: too little\. Give it a larger disk", said) or "too little" in said
        metrics = dict(line.split() for line in host.check_output(f"cat {METRICS}").splitlines())
        assert float(metrics["log_collector_needed_bytes"]) > float(metrics["log_collector_size_bytes"])
    finally:
        host.check_output(f"rm --recursive {directory}; systemctl start log-collector-keep")


@of_a_site
@pytest.mark.disturbs
def test_refuses_to_keep_less_than_six_months(host, apply):
    before = host.check_output("sha256sum /etc/systemd/system/log-collector-keep.service")
    done = apply(log_collector_keep_days=90)
    words = " ".join(done.stdout.split())
    assert done.returncode != 0 and "log_collector_keep_days 90" in words, words
    assert "Allowed: 183 days or more" in words and "Edit inventories/production/group_vars/log_collector/log_collector.yml" in words
    assert host.check_output("sha256sum /etc/systemd/system/log-collector-keep.service") == before
