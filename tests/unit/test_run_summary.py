"""The last lines of a run: who ended well, who failed, who was never reached."""

import pytest

from plugins.callback.run_summary import outcomes

WELL = {"ok": 3, "failures": 0, "unreachable": 0, "changed": 0, "skipped": 0, "rescued": 0, "ignored": 0}


@pytest.mark.parametrize(
    ("summaries", "line"),
    [
        ({"a": WELL, "b": WELL | {"changed": 2}}, "base: 2 of 2 hosts ended well, 1 changed"),
        ({"a": WELL, "b": WELL | {"failures": 1}}, "base: 1 of 2 hosts ended well, 0 changed; failed: b"),
        ({"a": WELL, "b": WELL | {"unreachable": 1}}, "base: 1 of 2 hosts ended well, 0 changed; NOT REACHED: b"),
        ({"a": WELL}, "base: 1 of 2 hosts ended well, 0 changed; NOT REACHED: b"),
        ({}, "base: 0 of 2 hosts ended well, 0 changed; NOT REACHED: a, b"),
    ],
)
def test_line(summaries, line):
    assert outcomes({"a": "base", "b": "base"}, summaries)["base"].line("base") == line


def test_sites_are_kept_apart():
    found = outcomes({"a": "base", "n": "ncsa"}, {"a": WELL})
    assert found["base"].untouched == [] and found["ncsa"].untouched == ["n"]
