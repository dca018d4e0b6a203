"""Production's inventory with one thing broken: the message says what is wrong, what is allowed and which file to edit."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret
from reading import ansible, ansible_inventory, everything_wrong, read

BASE, GROUPS, PLAN, CONNECTIONS = "base.yml", "groups.yml", "group_vars/all/plan.yml", "group_vars/all/connections.yml"
NAMESERVER02 = "    base-nameserver02: {shutdown_tier: 5, placement: {rack: r2, hypervisor: h2}}"
SEALED = "!vault |\n  $ANSIBLE_VAULT;1.2;AES256;ncsa\n  6162\n"


def edit(file: Path, old: str, new: str) -> None:
    """The first ``old`` becomes ``new``; an empty ``old`` is the end of the file, which may be new."""
    file.parent.mkdir(exist_ok=True, parents=True)
    text = file.read_text() if file.exists() else "---\n"
    assert old in text
    file.write_text(text.replace(old, new, 1) if old else text + new)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        pytest.param(
            "ncsa.yml",
            "ncsa:\n  hosts:\n",
            "ncsa:\n  hosts:\n    base-dtn01:\n",
            "host 'base-dtn01' is in the sites base and ncsa. Allowed: one site for a host. "
            "Edit: inventories/production/base.yml and inventories/production/ncsa.yml",
            id="host in two sites",
        ),
        pytest.param(
            BASE,
            "dtn:\n  hosts:\n",
            "dtn:\n  hosts:\n    base-dtn03:\n",
            "host 'base-dtn03' is in no site. Allowed: a line under base or",
            id="host in no site",
        ),
        pytest.param(
            BASE,
            "base:\n  hosts:\n",
            "base:\n  hosts:\n    base-dtn03: {shutdown_tier: 1, placement: {rack: r1}}\n",
            "host 'base-dtn03' of base is not in the plan. Allowed: an index in a network. "
            "Edit: inventories/production/group_vars/all/plan.yml",
            id="host without an address",
        ),
        pytest.param(
            PLAN,
            "base-dtn02: {service: 22, lhn: 22}",
            "base-dtn02: {service: 22, lhn: 21}",
            "base-dtn01 and base-dtn02 both have 10.64.31.21 on base's lhn. Allowed: an index of its own for each host. "
            "Edit: inventories/production/group_vars/all/plan.yml",
            id="two hosts with one address on one network",
        ),
        pytest.param(
            GROUPS,
            "    in2p3:",
            "    fe01:",
            "host 'fe01' is a hexadecimal number, which podman takes for a container's ID. Allowed: another name. "
            "Edit: inventories/production/",
            id="hexadecimal name",
        ),
        pytest.param(
            BASE,
            NAMESERVER02,
            f"{NAMESERVER02}\n    ncsa-nameserver09:",
            "host 'ncsa-nameserver09' of base is not called after it. Allowed: base-<service><nn>. Edit: inventories/production/",
            id="host called after another site",
        ),
        pytest.param(
            GROUPS,
            "\nforwarder:",
            "\nforwarder:\n  children:\n    catchup:",
            "the service group forwarder has children: catchup. Allowed: children of camera, place only",
            id="service group with children",
        ),
        pytest.param(
            "group_vars/rabbitmq/sysctl.yml",
            "",
            "sysctl_profile: dtn\n",
            None,
            id="a key of one service",
        ),
        pytest.param(
            "group_vars/daq_client/sysctl.yml",
            "",
            "sysctl_profile: daq\n",
            "sysctl_profile is set by daq_client and by forwarder, both of depth 1, for base-forwarder01, base-forwarder02, "
            "ncsa-forwarder01, ncsa-forwarder02, summit-forwarder01, summit-forwarder02, tucson-forwarder01. "
            "Allowed: one group of a depth for a key, or one variable for both. "
            "Edit: inventories/production/group_vars/daq_client or forwarder",
            id="one key set by two groups of one depth",
        ),
        pytest.param(
            "group_vars/base/nameserver.yml",
            "nameserver_transfer_key: !vault |",
            "nameserver_transfer_key: |",
            "inventories/production/group_vars/base/nameserver.yml holds the secret nameserver_transfer_key in plain text. "
            "Allowed: an inline !vault value of a site. Edit: inventories/production/group_vars/base/",
            id="secret in plain text",
        ),
        pytest.param(
            "group_vars/base/certificate.yml",
            "",
            "certificate_names: ['-----BEGIN PRIVATE KEY-----']\n",
            "holds the secret certificate_names in plain text",
            id="private key under another name",
        ),
        pytest.param(
            BASE,
            "{shutdown_tier: 5,",
            "{x_password: abc, shutdown_tier: 5,",
            "inventories/production/base.yml holds the secret x_password in plain text",
            id="secret of a host in a site's file",
        ),
        pytest.param(
            "host_vars/base-dtn01/nameserver.yml",
            "",
            f"nameserver_transfer_key: {SEALED}",
            "inventories/production/host_vars/base-dtn01/nameserver.yml holds the secret nameserver_transfer_key "
            "under the vault id 'ncsa'. Allowed: a site's secrets in its own directory, under its own id. "
            "Edit: inventories/production/group_vars/<site>/",
            id="secret in host_vars",
        ),
        pytest.param(
            "group_vars/all/nameserver.yml",
            "",
            f"nameserver_transfer_key: {SEALED}",
            "group_vars/all/nameserver.yml holds the secret nameserver_transfer_key under the vault id 'ncsa'",
            id="secret of all",
        ),
        pytest.param(
            "group_vars/base/depot.yml",
            "",
            f"depot_upload_password: {SEALED}",
            "group_vars/base/depot.yml holds the secret depot_upload_password under the vault id 'ncsa'",
            id="secret under another site's id",
        ),
        pytest.param(
            BASE,
            NAMESERVER02,
            "    base-nameserver02: {shutdown_tier: 5, placement: {rack: r1, hypervisor: h2}}",
            "base-nameserver01 and base-nameserver02 are each other's reserve as nameserver and share the rack r1. "
            "Allowed: a rack and a hypervisor of its own for each. Edit: inventories/production/base.yml",
            id="redundant hosts in one rack",
        ),
        pytest.param(
            BASE,
            NAMESERVER02,
            "    base-nameserver02: {shutdown_tier: 5, placement: {rack: r2, hypervisor: h1}}",
            "as nameserver and share the hypervisor h1",
            id="redundant hosts on one hypervisor",
        ),
        pytest.param(
            BASE,
            NAMESERVER02,
            "    base-nameserver02: {shutdown_tier: 5}",
            "host 'base-nameserver02' has the placement None. Allowed: rack, and perhaps pdu and hypervisor",
            id="no placement",
        ),
        pytest.param(
            BASE,
            NAMESERVER02,
            "    base-nameserver02: {shutdown_tier: 0, placement: {rack: r2}}",
            "host 'base-nameserver02' has the shutdown_tier 0. Allowed: 1 (first) to 5 (last). Edit: inventories/production/base.yml",
            id="no such tier",
        ),
        pytest.param(
            BASE,
            NAMESERVER02,
            "    base-nameserver02: {shutdown_tier: 2, placement: {rack: r2}}",
            "base-nameserver02 goes down in tier 2, before base-archiver01 in tier 3, which needs it as nameserver. "
            "Allowed: a server's tier at least its clients'. Edit: shutdown_tier in inventories/production/base.yml",
            id="server down before its clients",
        ),
        pytest.param(
            CONNECTIONS,
            "from: monitor,",
            "from: monitr,",
            "connection monitr to all, port 9100: there is no group 'monitr'. Allowed: all, or a group of "
            "inventories/production/groups.yml. Edit: inventories/production/group_vars/all/connections.yml",
            id="connection of a group that is not there",
        ),
        pytest.param(
            CONNECTIONS, "port: 9100", "port: 91000", "the port is 91000. Allowed: 1 to 65535, or a range such as", id="no such port"
        ),
        pytest.param(CONNECTIONS, "port: 9100", "port: 90-80", "the port is '90-80'. Allowed: 1 to 65535", id="range that ends first"),
        pytest.param(CONNECTIONS, "proto: udp", "proto: upd", "proto is 'upd'. Allowed: tcp, udp", id="no such protocol"),
        pytest.param(
            CONNECTIONS,
            "class: bulk",
            "class: bluk",
            "connection dtn to dtn, port 1094: class is 'bluk'. Allowed: bulk, catchup, management, prompt. "
            "Edit: inventories/production/group_vars/all/connections.yml, or inventories/production/group_vars/all/plan.yml",
            id="class of traffic that is not there",
        ),
        pytest.param(
            CONNECTIONS,
            "class: bulk",
            "class: bulk, interface: lsst-daq",
            "port 1094: a class on lsst-daq. Allowed: a class or",
            id="DAQ's class",
        ),
        pytest.param(
            PLAN,
            "dscp: af41, share: 50",
            "dscp: af41, share: 60",
            "the shares of the classes sum up to 110 percent. Allowed: 100 together: no link carries more. "
            "Edit: inventories/production/group_vars/all/plan.yml",
            id="classes that promise more than a link has",
        ),
        pytest.param(CONNECTIONS, ", scope: any", "", "missing scope, unknown none. Allowed: from, port, proto, scope, to", id="no scope"),
        pytest.param(
            BASE,
            "monitor:\n  hosts:\n    base-monitor01:\n",
            "",
            "connection monitor to all, port 9100: base has no monitor and falls back to nobody. Allowed: a host of monitor at base, "
            "or a fall-back. Edit: inventories/production/base.yml, or inventories/production/group_vars/all/connections.yml",
            id="wiring that finds nobody",
        ),
        pytest.param(
            CONNECTIONS,
            "bastion: ncsa",
            "bastion: base2",
            "fallback: tucson has bastion from base2, and there is no such site. Allowed: base, ncsa, summit, tucson",
            id="fall-back to no site",
        ),
        pytest.param(
            CONNECTIONS,
            "dtn: ncsa",
            "dtn: summit",
            "fallback: tucson has dtn from summit, which has none. Allowed: base, ncsa",
            id="fall-back to a site that has none",
        ),
        pytest.param(
            CONNECTIONS,
            "dtn: ncsa",
            "depot: ncsa",
            "fallback: tucson has depot from ncsa, but has its own. Allowed: sites without a host of the group",
            id="fall-back that is not needed",
        ),
        pytest.param(
            BASE,
            "\ndtn:",
            "\ndnt:",
            "inventories/production/base.yml has the group 'dnt'. Allowed: one that inventories/production/groups.yml declares",
            id="typo in a group of a site's file",
        ),
        pytest.param(
            "group_vars/forwader/sysctl.yml",
            "",
            "sysctl_profile: lhn\n",
            "inventories/production/group_vars/forwader/sysctl.yml is for the group 'forwader', which is not there",
            id="typo in a directory of group_vars",
        ),
        pytest.param(
            "group_vars/base/systl.yml",
            "",
            "sysctl_profile: lhn\n",
            "inventories/production/group_vars/base/systl.yml is for the role 'systl', which is not there. Allowed:",
            id="typo in a file of group_vars",
        ),
        pytest.param(
            "group_vars/dtn/sysctl.yml",
            "",
            "sshd_forwarding: true\n",
            "inventories/production/group_vars/dtn/sysctl.yml sets sshd_forwarding. Allowed: variables of the role sysctl",
            id="variable of another role",
        ),
    ],
)
def test_what_is_broken_is_named(copy, file, old, new, words):
    edit(copy / file, old, new)
    found = everything_wrong(read(copy))
    if words is None:
        assert found == []
    else:
        assert any(words in message for message in found), "\n".join(found)
        assert all(" Allowed: " in message and " Edit: " in message for message in found)


def test_yaml_error_in_one_sites_file_stops_ansible(copy):
    """Without any_unparsed_is_failed the site would be gone, and everything else would be converged as if it had never been."""
    edit(copy / BASE, "dtn:\n  hosts:\n", "dtn:\n hosts:\n   - base-dtn01:\n  wrong\n")
    with pytest.raises(AnsibleError, match=r"base\.yml"):
        read(copy)
    done = ansible_inventory("-i", str(copy), "--list")
    assert done.returncode != 0
    assert "base.yml" in done.stderr


def test_a_sites_vault_key_opens_nothing_of_another_site(copy, tmp_path):
    for site in ("base", "summit"):
        secret = VaultSecret(f"password of {site}".encode())
        sealed = VaultLib([(site, secret)]).encrypt(f"transfer key of {site}", secret=secret, vault_id=site).decode()
        text = f"nameserver_transfer_key: !vault |\n{textwrap.indent(sealed, '  ')}"
        (copy / "group_vars" / site / "nameserver.yml").write_text(text)
    password = tmp_path / "password"
    password.write_text("password of summit\n")
    show = ("-m", "ansible.builtin.debug", "-a", "msg={{ nameserver_transfer_key }}")
    run = ("adhoc", "-i", str(copy), "--vault-id", f"summit@{password}", *show)
    own, other = ansible(*run, "summit-nameserver01"), ansible(*run, "base-nameserver01")
    assert "transfer key of summit" in own.stdout
    assert other.returncode != 0
    assert "transfer key" not in other.stdout + other.stderr
    assert "Decryption failed" in other.stdout + other.stderr
