"""Which variables are whose, which values are wrong, and that no message holds a secret."""

import pytest
from ansible_collections.lsst.ldf.plugins.action.validate_roles import (
    Problem,
    describe,
    home,
    judge_names,
    judge_value,
    owner,
    parts,
    reason,
    secrets,
)

KIND = {"type": "str", "required": True, "choices": ["server", "pool"], "description": "One host or a pool."}
SOURCES = {"type": "list", "elements": "dict", "options": {"name": {"type": "str", "required": True}, "kind": KIND}}
KEYS = {"type": "list", "elements": "dict", "options": {"name": {"type": "str"}, "secret": {"type": "int", "no_log": True}}}
OPTIONS = {"sshd": {"sshd_ports": {}, "sshd_user_ca": {}}, "timesync": {"timesync_allow": {}, "timesync_sources": {}}}
ROLES = {"sshd", "sshd_ca", "timesync", "nameserver"}


@pytest.mark.parametrize(
    ("variable", "role"),
    [
        ("sshd_ports", "sshd"),
        ("sshd_ca_key", "sshd_ca"),
        ("sshd_carrot", "sshd"),
        ("sshd", None),
        ("sshdx_ports", None),
        ("__sshd_ports", None),
        ("plan", None),
    ],
)
def test_owner_is_the_longest_role(variable, role):
    assert owner(variable, ROLES) == role


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("sshd_prots", "sshd_ports"),  # a typo behind the prefix
        ("timsync_allow", "timesync_allow"),  # one in the prefix
        ("sshd_zzzzzzzzzzzz", None),  # nothing is near
    ],
)
def test_a_variable_of_no_role_is_found(variable, meant):
    assert judge_names([variable], OPTIONS, ROLES) == {variable: meant}


@pytest.mark.parametrize("variable", ["sshd_ports", "sshd_ca_key", "nameserver_zonse", "__sshd_ports", "_sshd_ports", "plan", "groups"])
def test_other_variables_are_left_alone(variable):
    """Its own, those of a role that the host does not have, internal ones and those of no role."""
    assert judge_names([variable], OPTIONS, ROLES) == {}


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ({"type": "int"}, "ten", "unable to convert to int"),
        ({"type": "bool"}, "maybe", "unable to convert to bool"),
        ({"type": "str", "choices": ["default", "dtn"]}, "dnt", "must be one of: default, dtn, got: dnt"),
        (SOURCES, [{"name": "a", "kind": "servr"}], "got: servr found in x"),
        (SOURCES, [{"kind": "pool"}], "missing required arguments: name found in x"),
        (SOURCES, [{"name": "a", "kind": "pool", "knd": 1}], "x.knd"),
    ],
)
def test_a_wrong_value_is_named(option, value, words):
    messages = judge_value("x", value, option)
    assert len(messages) == 1
    assert words in messages[0]


@pytest.mark.parametrize(
    ("option", "value"),
    [({"type": "int"}, 3), ({"type": "int"}, "3"), ({"type": "bool"}, False), (SOURCES, []), (SOURCES, [{"name": "a", "kind": "pool"}])],
)
def test_a_right_value_passes(option, value):
    assert judge_value("x", value, option) == []


def test_no_message_holds_a_secret():
    """Neither the value of a no_log option nor that of one inside another."""
    assert "hunter2" not in str(judge_value("x", "hunter2", {"type": "int", "no_log": True}))
    assert "hunter2" not in str(judge_value("x", [{"name": "a", "secret": "hunter2"}], KEYS))
    assert secrets(KEYS, [{"name": "a", "secret": "s"}, {"secret": ""}]) == {"s"}
    assert secrets({"type": "dict", "no_log": True}, {"a": ["s", {"b": "t"}]}) == {"s", "t"}


@pytest.mark.parametrize(
    ("complaint", "secret", "told"),
    [
        ("The filter plugin 'int' failed: no int: hunter2", True, "The filter plugin 'int' failed"),
        ("The filter plugin 'int' failed: no int: x", False, "The filter plugin 'int' failed: no int: x"),
        ("The lookup plugin 'file' failed: no file tsig", True, "The lookup plugin 'file' failed: no file tsig"),
        ("Error rendering template: Attempt to use undecryptable variable: no secrets", True, "no vault key of this run opens it"),
    ],
)
def test_reason_holds_no_secret(complaint, secret, told):
    assert reason(complaint, secret) == told


def test_parts_of_our_own_filters_complaint():
    assert parts("The filter plugin 'one_at' failed: nobody. Allowed: a host. Edit: x.yml") == ("nobody", "a host", "x.yml")
    assert parts("'a' is undefined") == ("'a' is undefined", None, None)


def test_describe_says_type_keys_and_meaning():
    assert describe(SOURCES) == "list of dict with name (str, required), kind (one of server, pool, required)"
    assert describe(KIND) == "one of server, pool. One host or a pool"
    assert describe({"type": "int", "description": ["A stratum.", "Never 0."]}) == "int. A stratum. Never 0"


@pytest.mark.parametrize(
    ("role", "secret", "file"),
    [
        ("timesync", False, "all/timesync.yml"),
        ("nameserver", False, "nameserver/nameserver.yml"),
        ("nameserver", True, "base/nameserver.yml (an inline !vault value)"),
    ],
)
def test_home_is_where_the_value_belongs(role, secret, file):
    assert home(role, secret, "base-nameserver01", ["base", "nameserver", "site"]) == f"inventories/production/group_vars/{file}"


def test_a_problem_has_three_parts():
    assert str(Problem("a is 1", "2", "b.yml:3")).splitlines() == ["- a is 1", "    allowed: 2", "    edit: b.yml:3"]
