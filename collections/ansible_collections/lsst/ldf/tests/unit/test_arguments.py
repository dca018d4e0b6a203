"""Arguments are completed as AnsibleModule would, or not at all."""

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lsst.ldf.plugins.module_utils.arguments import complete

ENTRY = {
    "name": {"type": "str", "required": True},
    "number": {"type": "int"},
    "state": {"type": "str", "choices": ["on", "off"], "default": "on"},
}
SPEC = {
    "path": {"type": "path", "required": True},
    "names": {"type": "list", "elements": "str", "default": []},
    "entries": {"type": "list", "elements": "dict", "options": ENTRY},
    "flag": {"type": "bool", "default": True},
    "seconds": {"type": "float", "default": 60.0},
    "texts": {"type": "dict"},
}


@pytest.mark.parametrize(
    "given",
    [
        {"path": "/a"},
        {"path": "/a", "entries": None, "texts": None},
        {"path": "/a", "names": ["x"], "flag": False, "seconds": 2, "texts": {"any": 1}},
        {"path": "/a", "entries": []},
        {"path": "/a", "entries": [{"name": "x"}, {"name": "y", "number": 3, "state": "off"}]},
    ],
)
def test_what_the_module_takes_as_it_is(given):
    taken = ArgumentSpecValidator(SPEC).validate(given)
    assert taken.error_messages == []
    assert complete(SPEC, given) == taken.validated_parameters


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"path": None},
        {"path": "/a", "names": None},
        {"path": "/a", "flag": None},
        {"path": "a"},
        {"path": "~/a"},
        {"path": "/$HOME"},
        {"path": "/a", "other": 1},
        {"path": "/a", "names": "x"},
        {"path": "/a", "names": [1]},
        {"path": "/a", "flag": "yes"},
        {"path": "/a", "flag": 1},
        {"path": "/a", "seconds": "60"},
        {"path": "/a", "seconds": True},
        {"path": "/a", "texts": "a=b"},
        {"path": "/a", "entries": {"name": "x"}},
        {"path": "/a", "entries": ["name=x"]},
        {"path": "/a", "entries": [{}]},
        {"path": "/a", "entries": [{"name": "x", "other": 1}]},
        {"path": "/a", "entries": [{"name": "x", "number": "3"}]},
        {"path": "/a", "entries": [{"name": "x", "state": "else"}]},
    ],
)
def test_what_the_module_would_refuse_or_convert(given):
    assert complete(SPEC, given) is None
