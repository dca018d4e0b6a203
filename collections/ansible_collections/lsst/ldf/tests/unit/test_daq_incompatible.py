"""Which builds work together."""

import pytest
from ansible_collections.lsst.ldf.plugins.filter.daq_incompatible import daq_incompatible

MATRIX = [{"server": "R5-V11.0", "clients": ["R5-V11.3"]}, {"server": "R5-V11.3", "clients": ["R5-V11.0"]}]


@pytest.mark.parametrize(
    ("clients", "servers", "problems"),
    [
        (["R5-V11.3"], ["R5-V11.0", "R5-V11.3"], []),
        # A build that no row names works with itself only.
        (["R6-V1.0"], ["R6-V1.0"], []),
        (["R6-V1.0"], ["R6-V1.0", "R5-V11.0"], ["clients of R6-V1.0 with a server of R5-V11.0"]),
        (
            ["R5-V11.0", "R6-V1.0"],
            ["R5-V11.3", "R6-V1.0"],
            ["clients of R5-V11.0 with a server of R6-V1.0", "clients of R6-V1.0 with a server of R5-V11.3"],
        ),
        ([], ["R5-V11.0"], []),
    ],
)
def test_pairs(clients, servers, problems):
    assert daq_incompatible(MATRIX, clients, servers) == problems


def test_one_way_is_not_the_other():
    one_way = [{"server": "R5-V11.3", "clients": ["R5-V11.0"]}]
    assert daq_incompatible(one_way, ["R5-V11.0"], ["R5-V11.3"]) == []
    assert daq_incompatible(one_way, ["R5-V11.3"], ["R5-V11.0"]) != []
