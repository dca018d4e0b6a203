"""sysctl, asked of the running kernel: every setting is in force or really refused, and of systemd, which sets them at boot."""

from __future__ import annotations

import json
import re

import pytest

from conftest import changed, restart

# The table that the sites' own configuration has, profile by profile.
PROFILES = {
    "default": {},
    "dtn": {
        "net.core.rmem_max": "2147483647",
        "net.core.wmem_max": "2147483647",
        "net.ipv4.tcp_rmem": "4096 87380 2147483647",
        "net.ipv4.tcp_wmem": "4096 65536 2147483647",
        "net.core.netdev_max_backlog": "250000",
        "net.ipv4.tcp_congestion_control": "htcp",
        "net.ipv4.tcp_mtu_probing": "1",
        "net.ipv4.tcp_no_metrics_save": "1",
        "net.core.default_qdisc": "fq",
    },
    "lhn": {
        "net.core.rmem_max": "536870912",
        "net.core.wmem_max": "536870912",
        "net.ipv4.tcp_rmem": "4096 87380 536870912",
        "net.ipv4.tcp_wmem": "4096 65536 536870912",
        "net.ipv4.tcp_congestion_control": "bbr",
        "net.ipv4.tcp_mtu_probing": "1",
        "net.ipv4.tcp_slow_start_after_idle": "0",
        "net.core.default_qdisc": "fq",
    },
    "daq": {"net.core.rmem_max": "18874368", "net.core.wmem_max": "18874368"},
    "perfsonar": {
        "net.core.rmem_max": "268435456",
        "net.core.wmem_max": "268435456",
        "net.ipv4.tcp_rmem": "4096 87380 134217728",
        "net.ipv4.tcp_wmem": "4096 65536 134217728",
        "net.ipv4.tcp_congestion_control": "htcp",
        "net.ipv4.tcp_no_metrics_save": "1",
        "net.core.default_qdisc": "fq",
        "net.ipv4.conf.all.arp_announce": "2",
        "net.ipv4.conf.all.arp_ignore": "1",
        "net.ipv4.conf.all.arp_filter": "1",
        "net.ipv4.conf.default.arp_filter": "1",
    },
}
# The file of each profile, and one of an older installation.
FILES = {
    "dtn": "93-tcp_ip.conf",
    "lhn": "93-tcp_ip.conf",
    "daq": "99-lsst-daq.conf",
    "perfsonar": "10-perfsonar.conf",
    "older": "99-lsst-daq-ccs.conf",
}


def common(settings: dict) -> dict[str, str]:
    """What the role's options ask for beside the profile."""
    wanted = {} if settings["sysctl_ipv6"] else {f"net.ipv6.conf.{name}.disable_ipv6": "1" for name in ("all", "default")}
    if settings["sysctl_arp_filter"]:
        wanted |= {f"net.ipv4.conf.{name}.arp_filter": "1" for name in ("all", "default")}
    return wanted | {f"net.ipv4.conf.{name}.rp_filter": str(settings["sysctl_rp_filter"]) for name in ("all", "default")}


def wanted(settings: dict) -> dict[str, str]:
    """All that this machine should have."""
    return PROFILES[settings["sysctl_profile"]] | common(settings)


def value(host, key: str, prefix: str = "") -> str | None:
    """What the kernel has, None for a key that is not there."""
    done = host.run(f"{prefix}sysctl --values {key}")
    return " ".join(done.stdout.split()) if done.succeeded else None


def reported(host) -> dict[str, dict]:
    """What the role reported as refused, from its last run."""
    return json.loads(host.check_output("cat /var/lib/lsst/kernel-settings/refused-$(uname -r)/sysctl.json"))


def in_force(host, settings) -> dict[str, str]:
    """The settings of this machine that are not reported as refused."""
    refused = reported(host)
    return {key: text for key, text in wanted(settings).items() if key not in refused}


@pytest.mark.reads
def test_every_setting_is_in_force_or_reported(host, settings):
    refused = reported(host)
    assert {key: value(host, key) for key in wanted(settings) if key not in refused} == in_force(host, settings)
    assert set(refused) <= set(PROFILES[settings["sysctl_profile"]])


@pytest.mark.writes
def test_what_is_reported_is_really_refused(host, settings):
    """A value that is written by hand is not there afterwards either."""
    for key, refusal in reported(host).items():
        before = value(host, key)
        host.run(f"sysctl --write {key}='{wanted(settings)[key]}'")
        assert value(host, key) == before != wanted(settings)[key], f"{key} {refusal['reason']}"


@pytest.mark.reads
def test_systemd_sets_the_same_at_boot(host, settings):
    """Of all files that systemd reads the last word counts; the files of the other profiles are not among them."""
    lines = host.check_output("/usr/lib/systemd/systemd-sysctl --cat-config").splitlines()
    at_boot = {key.strip(): text.strip() for key, _, text in (line.partition("=") for line in lines if not line.startswith("#"))}
    assert wanted(settings).items() <= at_boot.items()
    others = {key for name in PROFILES for key in PROFILES[name]} - set(wanted(settings))
    assert not others & set(at_boot)
    own = FILES.get(settings["sysctl_profile"])
    there = {path.split()[1].rpartition("/")[2] for path in lines if path.startswith("# /")}
    assert there & set(FILES.values()) == ({own} if own else set())


@pytest.mark.once
@pytest.mark.disturbs
def test_drift_is_seen_and_repaired_and_refusals_are_told_in_one_warning(host, settings, apply):
    """A check run sees a value that was set by hand, though not what the kernel refuses anyway."""
    before, refused = in_force(host, settings), reported(host)
    assert not changed(apply("--check"))
    host.check_output("sysctl --write net.ipv4.conf.all.rp_filter=1")
    assert changed(apply("--check"))
    assert value(host, "net.ipv4.conf.all.rp_filter") == "1"
    done = apply()
    assert changed(done)
    assert {key: value(host, key) for key in before} == before
    warnings = " ".join((done.stdout + done.stderr).split())
    assert warnings.count("the running kernel refuses") == bool(refused)
    assert all(f"{key} {refusal['reason']}" in warnings for key, refusal in refused.items())


@pytest.mark.once
@pytest.mark.disturbs
def test_another_profile_takes_the_old_one_back(host, settings, apply):
    """The file goes, and every value is that of a network namespace in which nothing was ever set."""
    own, profile = in_force(host, settings), settings["sysctl_profile"]
    released = [key for key in own if key in PROFILES[profile] and key not in common(settings)]
    try:
        assert changed(apply(sysctl_profile="default"))
        assert not host.file(f"/etc/sysctl.d/{FILES[profile]}").exists
        assert {key: value(host, key) for key in released} == {key: value(host, key, "unshare --net ") for key in released}
    finally:
        apply()
    assert {key: value(host, key) for key in own} == own


@pytest.mark.once
@pytest.mark.disturbs
def test_an_unknown_profile_is_refused_with_those_that_are_allowed(host, settings, apply):
    before = in_force(host, settings)
    done = apply(sysctl_profile="fast")
    assert done.returncode != 0
    words = " ".join(done.stdout.split())
    assert re.search(r"sysctl_profile must be one of: default, dtn, lhn, daq, perfsonar, got: fast", words), words
    assert {key: value(host, key) for key in before} == before


@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.once
@pytest.mark.disturbs
def test_the_settings_come_back_with_the_machine(machine, host, settings, apply):
    """systemd-sysctl survives what the kernel refuses; the next run has nothing to do."""
    before = in_force(host, settings)
    restart(machine)
    assert {key: value(host, key) for key in before} == before
    assert host.check_output("systemctl is-active systemd-sysctl") == "active"
    assert not changed(apply())
