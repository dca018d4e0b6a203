"""Bad input: the inventory is broken in one place, and the run says what is wrong, what is allowed and which file to edit.

Every test breaks a copy. No host is contacted: what is proven is that nothing starts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[2]
CHECK = TOP / "playbooks" / "check.yml"
HOST = "base-dtn01"
# What the lab's overlay reads from files; their content is not what is judged here.
SECRETS = ["tsig", "depot.asc", "depot.pub.asc", "ssh-user-ca", "ssh-user-ca.pub", "ssh-host-ca", "ssh-host-ca.pub", "tls/root.crt"]
SECRETS += ["object-store", "munge"]
SECRETS += [f"tls/{site}.{kind}" for site in ("base", "ncsa", "summit", "tucson") for kind in ("crt", "key")]
SECRETS += ["known_hosts", *(f"control-{site}{kind}" for site in ("base", "ncsa", "summit", "tucson") for kind in ("", "-cert.pub"))]


@pytest.fixture
def inventories(tmp_path) -> Path:
    """A copy of production's inventory and the lab's overlay, to be broken, with secrets that are none."""
    for name in SECRETS:
        path = tmp_path / "secrets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("none\n")
    return Path(shutil.copytree(TOP / "inventories", tmp_path / "inventories"))


def run(inventories: Path, *arguments: str, limit: str = HOST, playbook: Path = CHECK) -> subprocess.CompletedProcess:
    """The playbook over the copy."""
    command = ["ansible-playbook", "-i", str(inventories / "production"), "-i", str(inventories / "lab"), "-l", limit, str(playbook)]
    command += ["-e", f"lab_secrets={inventories.parent / 'secrets'}", *arguments]
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=TOP, env=environment, text=True, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, check=False)


def refused(inventories: Path, *arguments: str, **options) -> str:
    """What the run said; it must have failed."""
    done = run(inventories, *arguments, **options)
    assert done.returncode != 0, done.stdout
    print(done.stdout)
    return " ".join(done.stdout.split())


def append(path: Path, text: str) -> None:
    """``text`` at the end of the YAML file, which may be new."""
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "---\n") + text)


def last_line(path: Path) -> str:
    """The place that a message about the last line names."""
    return f"edit: {path}:{len(path.read_text().splitlines())}"


def test_the_inventory_as_it_is_passes(inventories):
    """One host of each kind that the tests below break."""
    done = run(inventories, limit="base,tucson")
    assert done.returncode == 0, done.stdout


def test_typo_in_a_variable(inventories):
    file = inventories / "production" / "group_vars" / "all" / "timesync.yml"
    append(file, "timesync_alow: [10.64.0.0/14]\n")
    text = refused(inventories)
    assert f"{HOST}: 1 of its values in the inventory are wrong - timesync_alow is read by no role" in text
    assert "allowed: timesync_allow, perhaps" in text
    assert last_line(file) in text


def test_typo_in_the_prefix_of_a_variable(inventories):
    file = inventories / "production" / "group_vars" / "all" / "timesync.yml"
    append(file, "tymesync_allow: [10.64.0.0/14]\n")
    text = refused(inventories)
    assert "tymesync_allow is read by no role allowed: timesync_allow, perhaps" in text
    assert last_line(file) in text


def test_typo_in_a_group_of_a_play(inventories, tmp_path):
    """Without host_pattern_mismatch the play would be skipped and the run would end well."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(CHECK.read_text().replace("hosts: site", "hosts: siet"))
    assert "Could not match supplied host pattern, ignoring: siet" in refused(inventories, playbook=playbook)


def test_unknown_sysctl_profile(inventories):
    file = inventories / "production" / "group_vars" / "base" / "sysctl.yml"
    append(file, "sysctl_profile: dnt\n")
    text = refused(inventories)
    assert "value of sysctl_profile must be one of: default, dtn, lhn, daq, perfsonar, got: dnt" in text
    assert "allowed: one of default, dtn, lhn, daq, perfsonar" in text
    assert last_line(file) in text


def test_missing_required_variable(inventories):
    for file in inventories.glob("production/group_vars/*/resolver.yml"):
        kept = {name: value for name, value in yaml.safe_load(file.read_text()).items() if name != "resolver_nameservers"}
        file.write_text(yaml.safe_dump(kept))
    text = refused(inventories)
    assert f"{HOST}: 1 of its values in the inventory are wrong - resolver_nameservers is missing allowed: list of str. " in text
    assert "edit: inventories/production/group_vars/all/resolver.yml" in text


def test_missing_secret(inventories):
    """The secret is looked for in its file, and the message names it, not what stands in others."""
    (inventories.parent / "secrets" / "tls" / "base.key").unlink()
    text = refused(inventories)
    assert "certificate_ca_key cannot be computed: The lookup plugin" in text
    assert "secrets/tls/base.key" in text
    assert "none" not in text.partition("certificate_ca_key")[2].partition("edit:")[0]


def test_value_of_a_wrong_type_and_everything_else_in_one_message(inventories):
    append(inventories / "production" / "group_vars" / "base" / "package.yml", "package_lists_max_age: a day\npackage_bsae: []\n")
    append(inventories / "production" / "group_vars" / "base" / "sysctl.yml", "sysctl_profile: dnt\n")
    text = refused(inventories)
    assert f"{HOST}: 3 of its values in the inventory are wrong" in text
    assert "argument 'package_lists_max_age' is of type str and we were unable to convert to int" in text


def test_wiring_that_finds_nobody(inventories):
    """No site has a name server: whoever asks for one is told so, in three parts."""
    for file in (inventories / "production").glob("*.yml"):
        tree = yaml.safe_load(file.read_text())
        if tree.pop("nameserver", None) and file.name != "groups.yml":
            file.write_text(yaml.safe_dump(tree, sort_keys=False))
    text = refused(inventories)
    assert "connection all to nameserver, port 53: base has no nameserver and falls back to nobody." in text
    assert "Allowed: a host of nameserver at base, or a fall-back. Edit: inventories/production/base.yml" in text


def test_a_site_that_nobody_collects_the_logs_of(inventories):
    file = inventories / "production" / "base.yml"
    tree = yaml.safe_load(file.read_text())
    del tree["log_collector"]
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    text = refused(inventories)
    assert "connection all to log_collector, port 1514: base has no log_collector and falls back to nobody." in text
    assert "Allowed: a host of log_collector at base, or a fall-back. Edit: inventories/production/base.yml" in text


def test_a_day_count_that_is_none(inventories):
    file = inventories / "production" / "group_vars" / "base" / "log_collector.yml"
    append(file, "log_collector_keep_days: half a year\n")
    text = refused(inventories, limit="base-security-console01")
    assert "argument 'log_collector_keep_days' is of type str and we were unable to convert to int" in text
    assert last_line(file) in text


@pytest.mark.parametrize(
    ("text", "wrong", "allowed"),
    [
        (
            "storage_filesystems: [{name: data, path: /data, type: ext4, devices: [/dev/md/data]}]\n",
            "value of type must be one of: xfs, btrfs, got: ext4",
            "type (one of xfs, btrfs, required)",
        ),
        ("storage_filesystems: [{name: data, path: /data, type: xfs}]\n", "devices", "allowed: "),
        ("storage_health_seconds: often\n", "argument 'storage_health_seconds' is of type str", "allowed: int"),
    ],
)
def test_storage_that_cannot_be(inventories, text, wrong, allowed):
    """What contradicts itself beyond that, lsst.ldf.storage_problems says, whose own tests have the table."""
    file = inventories / "lab" / "group_vars" / "lab" / "storage.yml"
    file.write_text(f"---\n{text}")
    found = refused(inventories, limit="base-storage01")
    assert wrong in found and allowed in found and f"{file}:2" in found


def test_a_release_that_the_depots_do_not_have(inventories):
    append(inventories / "production" / "group_vars" / "base" / "object_store.yml", "object_store_version: 9.9.9\n")
    text = refused(inventories, limit="base-storage01")
    assert "object_store_sha256 cannot be computed" in text and "group_vars/object_store/object_store.yml" in text
