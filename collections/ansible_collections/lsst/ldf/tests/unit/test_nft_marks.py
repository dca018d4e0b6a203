"""Classes of traffic: which rules they make, and which are refused with which words."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lsst.ldf.plugins.filter.nft_marks import nft_marks

GOOD = {"name": "bulk", "dscp": "cs1", "end": "client", "proto": "tcp", "port": "1094", "peers": ["10.64.38.85"]}


@pytest.mark.parametrize(
    ("marks", "rules"),
    [
        ([], []),
        ([GOOD], ["ip daddr { 10.64.38.85 } tcp dport 1094 ip dscp set cs1"]),
        ([GOOD | {"end": "server", "dscp": "af41"}], ["ip daddr { 10.64.38.85 } tcp sport 1094 ip dscp set af41"]),
        ([GOOD | {"proto": "udp", "port": "5000-5050", "peers": ["any"]}], ["udp dport 5000-5050 ip dscp set cs1"]),
        (
            [GOOD | {"peers": ["10.64.38.86", "10.64.38.85", "10.64.36.0/24"]}],
            ["ip daddr { 10.64.36.0/24, 10.64.38.85, 10.64.38.86 } tcp dport 1094 ip dscp set cs1"],
        ),
    ],
)
def test_rules(marks, rules):
    assert nft_marks(marks) == rules


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"end": "both"}, "end 'both' is none. Allowed: client, server."),
        ({"dscp": "cs0"}, "dscp 'cs0' is none. Allowed: cs1 to cs7, af11 to af43, ef."),
        ({"dscp": "cs1 accept"}, "dscp 'cs1 accept' is none."),
        ({"proto": "icmp"}, "proto 'icmp' is unknown. Allowed: tcp, udp"),
        ({"port": "0"}, "port '0' is none."),
        ({"peers": []}, "peers [] are none. Allowed: IPv4 addresses"),
        ({"peers": ["base-dtn01"]}, "source 'base-dtn01' is no IPv4 address or network"),
    ],
)
def test_refused(wrong, words):
    with pytest.raises(AnsibleFilterError) as refusal:
        nft_marks([GOOD, GOOD | wrong])
    message = str(refusal.value)
    assert message.startswith("firewall_marks[1]: ")
    assert words in message
    assert "Allowed: " in message
    assert message.endswith("Edit inventories/production/group_vars/all/connections.yml, or the file that sets firewall_marks.")
