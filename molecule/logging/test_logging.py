"""logging, as the collector sees it: what a host logs is there, whatever ends or is cut off meanwhile."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from conftest import LONG, Machine, changed, machines

COLLECTED = "/var/log/collected"
in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)
# Not the collector itself: it is what is stopped.
a_client = pytest.mark.where(lambda machine: machine.in_molecule and "log_collector" not in machine.settings)


@pytest.fixture
def collector(settings, request) -> Machine:
    """The machine that the host logs to."""
    [name] = settings["logging_collector_names"]
    for other in machines(request.config.getoption("settings")).values():
        if "log_collector" in other.settings and name in other.settings["certificate"]["certificate_names"]:
            other.host.check_output("systemctl is-active log-collector")
            return other
    pytest.skip(f"{name} takes no part")


@pytest.fixture
def arrived(machine, host, collector) -> Callable[[str], list[str]]:
    """The lines of the host that the collector has with a word in them."""
    # Nobody waits for what cannot come.
    host.check_output("systemctl is-active rsyslog")
    return lambda word: collector.host.run("grep -rhF -- %s %s", word, f"{COLLECTED}/{machine.name}").stdout.splitlines()


@pytest.fixture
def word() -> str:
    """What is in no other line."""
    return f"lsst-test-{uuid.uuid4().hex}"


def wait_for(host, condition: Callable[[], bool], seconds: float, what: str) -> None:
    """AssertionError, which names ``what``, unless ``condition`` becomes true within ``seconds``.

    Meanwhile the host logs more: what was sent into a broken connection goes again with the next line.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        host.run("logger --tag lsst-test next")
        time.sleep(0.3)


def numbers(lines: list[str]) -> list[int]:
    """The numbers that lines end with, in order."""
    return sorted(int(line.rpartition(" ")[2]) for line in lines)


def count(host, word: str, first: int, last: int) -> None:
    """Log the numbers from ``first`` to ``last``, a line each."""
    host.check_output(f"seq --format '{word} %.0f' {first} {last} | logger --tag lsst-test")


@contextmanager
def without(collector: Machine):
    """Nobody collects meanwhile."""
    collector.host.check_output("systemctl stop log-collector")
    try:
        yield
    finally:
        collector.host.check_output("systemctl start log-collector")


@pytest.mark.reads
def test_is_connected(host, settings):
    address = f"{settings['logging_collector']}:{settings['logging_port']}"
    assert address in host.check_output("ss --no-header --tcp --numeric state established")


@pytest.mark.invariant("a container's journal is on disk as soon as its image has the directory")
@pytest.mark.reads
def test_the_journal_is_on_disk(host):
    """And its newest file is the one that is written to."""
    [newest, *_] = host.check_output("find /var/log/journal -name system.journal -mmin -60").splitlines()
    assert newest and host.run("ls /run/log/journal/*/*.journal").rc


@pytest.mark.writes
def test_lines_arrive_however_they_are_logged(host, arrived, word):
    """Those of log-ins, which the published profile leaves out, too."""
    logger = "logger --tag lsst-test --priority"
    ways = {
        f"{logger} user.info {word}": f" user.info lsst-test: {word}",
        f"{logger} auth.notice {word}": f" auth.notice lsst-test: {word}",
        f"{logger} authpriv.err {word}": f" authpriv.err lsst-test: {word}",
        f"echo {word} | systemd-cat --identifier=lsst-test --priority=debug": f".debug lsst-test: {word}",
        f"systemd-run --quiet --wait --collect --property SyslogIdentifier=lsst-test echo {word}": f" daemon.info lsst-test: {word}",
    }
    host.check_output(" && ".join(ways))

    def texts() -> list[str]:
        return sorted(re.sub(r"^\S+ \S+( \w+\.\w+ lsst-test)(\[\d+\])?", r"\1", line) for line in arrived(f": {word}"))

    wait_for(host, lambda: len(texts()) >= len(ways), 60, "they arrive")
    found = [line for line in texts() if "lsst-test:" in line]
    assert all(any(line.endswith(end) for line in found) for end in ways.values()), found


@in_molecule
@pytest.mark.writes
def test_keeps_the_full_name_and_long_lines(host, machine, arrived, word):
    host.check_output(f"(printf {word}; head -c 40000 /dev/zero | tr '\\0' x; echo end) | logger --size 60000 --tag lsst-test")
    wait_for(host, lambda: arrived(word), 60, "the line arrives")
    [line] = arrived(word)
    assert line.endswith("x" * 40000 + "end")
    assert line.split()[1] == host.check_output("hostname --fqdn")


@a_client
@pytest.mark.disturbs
def test_a_client_that_ends_during_an_outage_loses_nothing(host, collector, arrived, word):
    """Stopped, and killed twice; of more lines than rsyslog takes from a journal within ten minutes by default. Few come twice."""
    count(host, word, 1, 500)
    with without(collector):
        count(host, word, 501, 20000)
        host.check_output("systemctl restart rsyslog")
        count(host, word, 20001, 22000)
        host.check_output("systemctl kill --signal KILL rsyslog && sleep 1 && systemctl restart rsyslog")
    host.check_output("systemctl kill --signal KILL rsyslog && sleep 1 && systemctl restart rsyslog")
    wait_for(host, lambda: 22000 in numbers(arrived(f": {word}")), 360, "the last line arrives")
    found = numbers(arrived(f": {word}"))
    assert sorted(set(found)) == list(range(1, 22001))
    print(f"{len(found) - 22000} of 22000 lines twice")
    assert len(found) < 22000 + 4 * 400


@a_client
@pytest.mark.disturbs
def test_a_host_that_is_cut_off_delivers_later(host, settings, arrived, word):
    """For longer than it takes rsyslog to give the connection up."""
    count(host, word, 1, 10)
    wait_for(host, lambda: len(arrived(word)) == 10, 60, "they arrive")
    host.check_output("nft add table inet lsst-test && nft add chain inet lsst-test out '{ type filter hook output priority 0; }'")
    try:
        host.check_output(f"nft add rule inet lsst-test out ip daddr {settings['logging_collector']} drop")
        count(host, word, 11, 1000)
        time.sleep(60 if LONG else 25)
        assert len(arrived(word)) == 10
    finally:
        host.check_output("nft delete table inet lsst-test")
    wait_for(host, lambda: set(numbers(arrived(word))) == set(range(1, 1001)), 180, "the others arrive")


@a_client
@pytest.mark.disturbs
def test_gives_nothing_to_a_collector_of_another_name(host, apply, arrived, word):
    """And all of it to the right one, afterwards."""
    count(host, word, 0, 0)
    wait_for(host, lambda: arrived(word), 60, "the first arrives")
    began = host.check_output("date +%s")
    try:
        assert changed(apply(logging_collector_names=["somebody-else.test"]))
        count(host, word, 1, 10)
        wait_for(
            host,
            lambda: host.run(f"journalctl --unit rsyslog --since @{began} --grep 'no permited name found|peer.*name'").rc == 0,
            60,
            "it refuses",
        )
        assert len(arrived(word)) == 1
    finally:
        apply()
    wait_for(host, lambda: set(numbers(arrived(word))) == set(range(11)), 90, "the others arrive")


@a_client
@pytest.mark.disturbs
def test_says_what_the_journal_lost(host, word):
    """A cursor that the journal does not have any more."""
    state = "/var/spool/rsyslog/journal"
    began = host.check_output("date +%s")
    host.check_output(
        f"systemctl stop rsyslog && sed --in-place 's/i=[0-9a-f]*/i=1/;s/x=[0-9a-f]*/x=1/' {state} && systemctl start rsyslog"
    )
    # Not by unit: a process that ends as quickly as logger has none any more when the journal looks.
    said = host.check_output(f"journalctl --sync; journalctl --identifier logging-rewind --since @{began} --output cat")
    assert "the journal lost lines" in said
