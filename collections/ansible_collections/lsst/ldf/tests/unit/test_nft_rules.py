"""Accepted connections: which rules they make, and which are refused with which words."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lsst.ldf.plugins.filter.nft_rules import nft_rules

GOOD = {"port": "5671", "proto": "tcp", "sources": ["10.64.16.21"]}


@pytest.mark.parametrize(
    ("connections", "rules"),
    [
        ([], []),
        ([GOOD], ["ip saddr { 10.64.16.21 } tcp dport 5671 counter accept"]),
        ([GOOD | {"port": 22}], ["ip saddr { 10.64.16.21 } tcp dport 22 counter accept"]),
        ([GOOD | {"port": "5000-5050", "proto": "udp"}], ["ip saddr { 10.64.16.21 } udp dport 5000-5050 counter accept"]),
        ([GOOD | {"sources": ["any"]}], ["tcp dport 5671 counter accept"]),
        ([GOOD, GOOD | {"sources": ["any"]}], ["tcp dport 5671 counter accept"]),
        ([GOOD | {"interface": "lsst-daq"}], ['iifname "lsst-daq" ip saddr { 10.64.16.21 } tcp dport 5671 counter accept']),
        # Overlapping and neighbouring sources, of one entry or of two, become one set without overlaps.
        ([GOOD | {"sources": ["10.64.16.21", "10.64.16.0/24"]}], ["ip saddr { 10.64.16.0/24 } tcp dport 5671 counter accept"]),
        ([GOOD, GOOD | {"sources": ["10.64.16.20"]}], ["ip saddr { 10.64.16.20/31 } tcp dport 5671 counter accept"]),
        # The order is that of the rules, not of the list: a list that is only shuffled changes nothing on the host.
        (
            [GOOD | {"port": "443"}, GOOD | {"port": "22"}],
            ["ip saddr { 10.64.16.21 } tcp dport 22 counter accept", "ip saddr { 10.64.16.21 } tcp dport 443 counter accept"],
        ),
        # A DHCP client that has no address yet.
        ([GOOD | {"port": "67", "proto": "udp", "sources": ["0.0.0.0"]}], ["ip saddr { 0.0.0.0 } udp dport 67 counter accept"]),
    ],
)
def test_rules(connections, rules):
    assert nft_rules(connections) == rules


def test_interfaces():
    """A connection of an isolated interface is a rule there and nowhere else."""
    connections = [GOOD, GOOD | {"interface": "lsst-daq"}, GOOD | {"interface": "lsst-lh"}]
    assert [r.split()[1] for r in nft_rules(connections, inside=["lsst-daq"])] == ['"lsst-daq"']
    assert [r.split()[1] for r in nft_rules(connections, outside=["lsst-daq"])] == ["saddr", '"lsst-lh"']


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"port": "70000"}, "port '70000' is none. Allowed: a number from 1 to 65535"),
        ({"port": "0"}, "port '0' is none"),
        ({"port": "ssh"}, "port 'ssh' is none"),
        ({"port": "5050-5000"}, "port '5050-5000' is none"),
        ({"port": "1-2-3"}, "port '1-2-3' is none"),
        ({"port": "22; accept"}, "port '22; accept' is none"),
        ({"port": True}, "port True is none"),
        ({"port": None}, "port None is none"),
        ({"proto": "icmp"}, "proto 'icmp' is unknown. Allowed: tcp, udp"),
        ({"sources": []}, "nobody could connect"),
        ({"sources": "10.64.16.21"}, "nobody could connect"),
        ({"sources": ["base-dtn01"]}, "source 'base-dtn01' is no IPv4 address or network"),
        ({"sources": ["10.64.16.21/24"]}, "has host bits set"),
        ({"sources": ["fd00::/8"]}, "source 'fd00::/8' is no IPv4 address or network"),
        ({"sources": ["0.0.0.0/0"]}, "source '0.0.0.0/0' is everybody. If that is meant, write the word any"),
        ({"interface": 'lsst"daq'}, "is no name of one. Allowed: up to 15 letters"),
    ],
)
def test_refused(wrong, words):
    """The message names the entry, what is allowed, and the file."""
    with pytest.raises(AnsibleFilterError) as refusal:
        nft_rules([GOOD, GOOD | wrong])
    message = str(refusal.value)
    assert message.startswith("firewall_accept[1]: ")
    assert words in message
    assert "Allowed: " in message
    assert message.endswith("Edit inventories/production/group_vars/all/connections.yml, or the file that sets firewall_accept.")
