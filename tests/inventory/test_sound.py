"""Production's inventory is sound: what each test says holds for every host."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import audit
import pytest
import yaml
from reading import PRODUCTION, TOP, ansible, ansible_inventory, everything_wrong, plain, read

import plan as address_plan
from wiring import Facility

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.yml"))


@pytest.fixture(scope="session")
def facility(inventory) -> Facility:
    return Facility(inventory.groups, inventory.table("plan"), inventory.table("fallback"))


@pytest.fixture(scope="session")
def listed() -> dict:
    """What ansible-inventory --list prints, and the seconds of a processor that it took: the machine may be busy with other tests."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = ansible_inventory("-i", str(PRODUCTION), "--list")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """The inventory as AWX gets it: exported, and handed back by a script."""
    done = ansible_inventory("-i", str(PRODUCTION), "--list", "--export")
    assert done.returncode == 0, done.stderr
    script = tmp_path_factory.mktemp("exported") / "inventory"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{done.stdout}\nEND\n")
    script.chmod(0o755)
    return script


def test_every_check_of_the_audit_passes(inventory):
    """Plan, places, names, connections, layers, files, secrets, placement and tiers; test_broken.py shows what each of them finds."""
    assert everything_wrong(inventory) == []


def test_depth_is_precedence(inventory):
    depths = {name: group.depth for name, group in inventory.manager.groups.items()}
    sites = inventory.table("plan")["sites"]
    trees = {"all", "place", "site", "camera", "teststand", "auxtel", "comcam", "lsstcam", *sites}
    assert {depths[name] for name in set(depths) - trees} == {1}
    assert {depths[name] for name in ("auxtel", "comcam", "lsstcam")} == {2}
    assert {depths[site] for site in sites} == {3}
    assert depths["teststand"] == 4


def test_a_deeper_layer_wins(copy, tmp_path):
    """All, service, camera, site, part of a site, lab, and a single host above them. Key n is set by all layers up to the n-th."""
    lab = Path(shutil.copytree(PRODUCTION.parent / "lab", tmp_path / "lab"))
    names = ["all", "forwarder", "comcam", "ncsa", "teststand", "lab", "ncsa-forwarder01"]
    for number, name in enumerate(names):
        top = lab if name == "lab" else copy
        directory = top / ("host_vars" if name == names[-1] else "group_vars") / name
        directory.mkdir(exist_ok=True, parents=True)
        (directory / "probe.yml").write_text("".join(f"probe_{key}: {name}\n" for key in range(number, len(names))))
    values = read(copy, lab).raw("ncsa-forwarder01")
    assert [values[f"probe_{key}"] for key in range(len(names))] == names


def test_nothing_is_set_for_a_single_host_but_where_it_stands(inventory):
    """A variable of one host is what nobody finds; it belongs to a group."""
    assert not (PRODUCTION / "host_vars").exists()
    for host in inventory.hosts:
        assert set(inventory.manager.get_host(host).vars) - {"inventory_file", "inventory_dir"} == {"placement", "shutdown_tier"}, host


def test_no_value_reads_other_hosts_or_omits_itself():
    for file in PRODUCTION.glob("group_vars/**/*.yml"):
        for word in ("hostvars", "default(omit", "default(none", "ansible_facts"):
            assert word not in file.read_text().replace(" ", ""), f"{file}: {word}"


def test_every_site_has_who_keeps_it_running(facility):
    for group in ("nameserver", "identity", "bastion", "depot", "control", "monitor", "log_collector"):
        for site in facility.sites:
            assert facility.server_site(group, site), f"{site} has no {group}"


def test_the_order_of_lines_means_nothing(inventory):
    """ansible-inventory sorts the keys and AWX's database has an order of its own: addresses and cards must not depend on it."""
    plan = inventory.table("plan")
    orders = [json.loads(json.dumps(plan, sort_keys=True)), reversed_keys(plan)]
    for host in inventory.hosts:
        assert [address_plan.nics(host, other) for other in orders] == [address_plan.nics(host, plan)] * 2


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in sorted(value, reverse=True)}
    return value


def test_daq_hosts_of_a_camera_are_on_its_daq(inventory):
    plan = inventory.table("plan")
    for camera in ("auxtel", "comcam", "lsstcam"):
        for host in set(inventory.groups[camera]) & {*inventory.groups["daq_mgt"], *inventory.groups["daq_client"]}:
            site = plan["sites"][host.split("-")[0]]
            assert [name for name in site["hosts"][host] if "isolated" in site["networks"][name]] == [f"daq-{camera}"], host


def test_what_sends_far_has_a_card_in_the_long_haul_network(inventory):
    plan = inventory.table("plan")
    on_it = {host for site in plan["sites"].values() for host, own in site["hosts"].items() if "lhn" in own}
    assert on_it == {host for group in ("dtn", "forwarder", "perfsonar") for host in inventory.groups[group]}


def test_listing_is_quick_and_needs_no_secret(listed, inventory):
    assert sorted(host for host in listed["_meta"]["hostvars"] if host in inventory.hosts) == inventory.hosts
    # The limit is 3 s; a processor that other tests share takes up to three times as long.
    assert listed["seconds"] < 9


def test_exported_equals_plain_for_every_host_and_key(listed, exported):
    done = ansible_inventory("-i", str(exported), "--list", ANSIBLE_INVENTORY_ENABLED="ansible.builtin.script")
    assert done.returncode == 0, done.stderr
    theirs, ours = json.loads(done.stdout)["_meta"]["hostvars"], listed["_meta"]["hostvars"]
    assert set(theirs) == set(ours)
    for host, values in ours.items():
        assert theirs[host] == values, host


def test_export_keeps_secrets_sealed(exported, inventory):
    text = exported.read_text()
    for site in inventory.table("plan")["sites"]:
        for file in (PRODUCTION / "group_vars" / site).glob("*.yml"):
            for value in (value for value in audit.load(file).values() if isinstance(value, audit.Sealed)):
                assert json.dumps({"__ansible_vault": str(value)})[1:-1] in text.replace("\n", ""), file


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_golden_values(inventory, file):
    """Some hosts and keys of each site, as their roles see them: a change here is a change of production."""
    for host, values in yaml.safe_load(file.read_text()).items():
        for key, value in values.items():
            assert inventory.value(host, key) == plain(value), f"{host}: {key}"


def test_every_site_has_golden_values(inventory):
    assert {file.stem for file in GOLDEN} == set(inventory.table("plan")["sites"])


@pytest.mark.parametrize("overlay", [[], ["-i", str(TOP / "inventories/lab")]], ids=["production", "lab"])
def test_a_delegated_task_reaches_the_other_host(overlay, tmp_path):
    """By its address and its certificate's name: inventory_hostname stays the first one's. The stand-in for ssh prints its arguments."""
    here, there, site = "base-dtn01", "ncsa-htcondor-manager01", "ncsa.lsst.internal"
    task = {"ansible.builtin.raw": "true", "delegate_to": there}
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": here, "gather_facts": False, "tasks": [task]}]))
    variables = {"ansible_ssh_executable": "/bin/echo", "lab_secrets": "/nowhere"}
    done = ansible("playbook", "-v", "-i", str(PRODUCTION), *overlay, "-e", json.dumps(variables), str(tmp_path / "play.yml"))
    assert f"HostKeyAlias={there}.{site} " in done.stdout and " 10.64.32.11 true" in done.stdout, done.stdout + done.stderr
    assert f"HostKeyAlias={here}" not in done.stdout
