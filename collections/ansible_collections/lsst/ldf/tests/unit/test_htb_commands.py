"""Rates of a card: which commands of tc they make, and which are refused with which words."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lsst.ldf.plugins.filter.htb_commands import htb_commands

NCSA = {"name": "ncsa", "destination": "10.64.32.0/20", "rate_mbit": 2500}
SUMMIT = {"name": "summit", "destination": "10.64.64.0/20", "rate_mbit": 500, "burst_mbit": 4}


def test_commands():
    whole = "rate 10000mbit ceil 10000mbit burst 40mbit cburst 40mbit quantum 100000"
    assert htb_commands([NCSA, SUMMIT], "lsst-lh", 10000, 40) == [
        "qdisc add dev lsst-lh root handle 1: htb default 2",
        f"class add dev lsst-lh parent 1: classid 1:1 htb {whole}",
        "class add dev lsst-lh parent 1:1 classid 1:2 htb rate 7000mbit ceil 10000mbit burst 40mbit cburst 40mbit quantum 100000",
        "class add dev lsst-lh parent 1:1 classid 1:3 htb rate 2500mbit ceil 2500mbit burst 40mbit cburst 40mbit quantum 100000",
        "filter add dev lsst-lh parent 1: protocol ip prio 1 u32 match ip dst 10.64.32.0/20 flowid 1:3",
        "class add dev lsst-lh parent 1:1 classid 1:4 htb rate 500mbit ceil 500mbit burst 4mbit cburst 4mbit quantum 100000",
        "filter add dev lsst-lh parent 1: protocol ip prio 1 u32 match ip dst 10.64.64.0/20 flowid 1:4",
    ]


@pytest.mark.parametrize(
    ("classes", "options", "words"),
    [
        ([], {"interface": "lsst lh"}, "shaping_interface: 'lsst lh' is no name of one. Allowed: up to 15 letters"),
        ([], {"rate_mbit": 0}, "shaping_rate_mbit: 0 is none. Allowed: a whole number above 0."),
        ([], {"burst_mbit": True}, "shaping_burst_mbit: True is none. Allowed: a whole number"),
        ([NCSA | {"rate_mbit": 0}], {}, "shaping_classes[0]: rate_mbit 0 is none. Allowed: a whole number above 0."),
        ([NCSA, SUMMIT | {"burst_mbit": -1}], {}, "shaping_classes[1]: burst_mbit -1 is none."),
        ([NCSA | {"destination": "ncsa"}], {}, "shaping_classes[0]: destination 'ncsa' is no network"),
        ([NCSA | {"destination": "10.64.32.1/20"}], {}, "has host bits set). Allowed: one such as 10.64.32.0/20."),
        ([NCSA, SUMMIT | {"destination": "10.64.32.0/27"}], {}, "shaping_classes[1]: destination 10.64.32.0/27 overlaps 10.64.32.0/20."),
        ([NCSA], {"rate_mbit": 2500}, "the rates sum up to 2500 Mbit/s. Allowed: less than shaping_rate_mbit together, which is 2500."),
    ],
)
def test_refused(classes, options, words):
    with pytest.raises(AnsibleFilterError) as caught:
        htb_commands(classes, **{"interface": "lsst-lh", "rate_mbit": 10000, "burst_mbit": 40, **options})
    assert words in str(caught.value)
    assert "Allowed: " in str(caught.value)
    assert "Edit inventories/production/group_vars/shaping/shaping.yml, or the file that sets shaping_" in str(caught.value)
