"""Zone files: texts, serials, and which record a complaint is about."""

import shutil

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.zone import (
    CHECKER,
    Record,
    Zone,
    ZoneError,
    check,
    complaint_of,
    next_text,
    record_at,
    refuse_unwritable,
    render,
)

NS = Record("@", "NS", "ns1")
GLUE = Record("ns1", "A", "10.64.16.1")
HOST = Record("dtn01", "A", "10.64.16.21", 30)


def zone(*records: Record, name: str = "base.test", ttl: int = 60) -> Zone:
    return Zone(name, (NS, GLUE, *records), ttl, 7776000)


def test_render_has_one_line_a_record():
    lines = render(zone(HOST), 7).splitlines()
    assert lines[3] == "    7 ; serial"
    assert lines[-3:] == ["@ IN NS ns1", "ns1 IN A 10.64.16.1", "dtn01 30 IN A 10.64.16.21"]
    assert [record_at(zone(HOST), number + 1) for number in range(len(lines))] == [None] * (len(lines) - 3) + [NS, GLUE, HOST]


@pytest.mark.parametrize(
    ("old", "now", "serial"),
    [
        ("", 100.5, 100),
        (render(zone(), 50), 100, 100),
        (render(zone(), 100), 100, 101),
        # A clock that was set back, or a serial that somebody wrote by hand: never backwards.
        (render(zone(), 2026112501), 100, 2026112502),
        (render(zone(HOST, ttl=30), 50), 100, 100),
        ("a file of somebody else", 100, 100),
    ],
)
def test_a_change_makes_the_serial_greater(old, now, serial):
    assert next_text(zone(HOST), old, now) == render(zone(HOST), serial)


def test_no_change_keeps_the_file():
    old = render(zone(HOST), 50)
    assert next_text(zone(HOST), old, 100) == old


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (zone(name="base.test."), "zone 'base.test.' has no usable name"),
        (zone(name="../passwd"), "zone '../passwd' has no usable name"),
        (zone(Record("a b", "A", "10.64.16.1")), "record 'a b IN A 10.64.16.1': no usable name or type"),
        (zone(Record("$INCLUDE", "A", "/etc/passwd")), "no usable name or type"),
        (zone(Record("a", "a", "10.64.16.1")), "no usable name or type"),
        (zone(Record("@", "SOA", "ns1 x 1 1 1 1 1")), "no usable name or type"),
        (zone(Record("a", "A", " ")), "no value on one line"),
        (zone(Record("a", "TXT", "x\n$INCLUDE /etc/passwd")), "no value on one line"),
        (zone(Record("a", "A", "10.64.16.1", -1)), "a negative ttl"),
        (Zone("base.test", (GLUE,), 60, 60), "zone base.test has no server\nAllowed: at least one record"),
    ],
)
def test_what_cannot_be_written_is_refused(wrong, message):
    with pytest.raises(ZoneError) as refusal:
        refuse_unwritable(wrong)
    assert message in str(refusal.value)
    assert "\nAllowed: " in str(refusal.value)


@pytest.mark.parametrize(
    "good",
    [
        zone(),
        zone(Record("*.k8s", "A", "10.64.16.9"), Record("_ldap._tcp", "SRV", "0 0 389 ns1")),
        zone(name="."),
        zone(name="16.64.10.in-addr.arpa"),
    ],
)
def test_what_can_be_written_is_not_refused(good):
    refuse_unwritable(good)


def test_the_server_may_be_named_in_full():
    refuse_unwritable(Zone("base.test", (Record("base.test.", "NS", "ns1"),), 60, 60))


def test_the_root_has_a_file_of_its_own():
    assert (zone(name=".").file, zone().file) == ("root.zone", "base.test.zone")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("x: /t/zone:9: bad dotted quad\nzone base.test/IN: x", "zone base.test, record 'dtn01 30 IN A 10.64.16.21': bad dotted quad"),
        ("/t/zone:5: out of range", "zone base.test, record 'SOA': out of range"),
        ("zone base.test/IN: loaded serial 7\nOK", ""),
    ],
)
def test_a_complaint_names_its_record(words, complaint):
    assert complaint_of(zone(HOST), words, "/t/zone") == complaint


def test_a_missing_checker_is_an_error_but_not_of_a_check_run(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    check(zone(), render(zone(), 1), predicting=True)
    with pytest.raises(ZoneError, match="named-checkzone is not on this host"):
        check(zone(), render(zone(), 1))


@pytest.mark.parametrize(
    ("script", "refusal"),
    [
        ("echo zone base.test/IN: loaded serial 1; echo OK", None),
        (
            "echo \"$path:9: near '10.1': bad dotted quad\"; exit 1",
            "zone base.test, record 'dtn01 30 IN A 10.64.16.21': near '10.1': bad dotted quad\n",
        ),
        # Only a word to the checker, an error to us.
        ('echo "$path:9: ignoring out-of-zone data (x)"', "ignoring out-of-zone data"),
        ("echo zone base.test/IN: NS ns1 has no address records; exit 1", "^zone base.test/IN: NS ns1 has no address records\n"),
        ("exit 1", "^named-checkzone failed\n"),
    ],
)
def test_the_checker_decides(tmp_path, monkeypatch, script, refusal):
    (tmp_path / CHECKER).write_text(f"#!/bin/sh\nfor path; do :; done\n{script}\n")
    (tmp_path / CHECKER).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    text = render(zone(HOST), 1)
    if refusal is None:
        check(zone(HOST), text)
    else:
        with pytest.raises(ZoneError, match=refusal + ".*Allowed: what named-checkzone accepts" if refusal.endswith("\n") else refusal):
            check(zone(HOST), text)
