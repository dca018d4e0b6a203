"""The conversation with a host whose answers are given here: what is sent, sent again, and whose result is whose."""

import json
import shlex
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.lsst.ldf.plugins.module_utils.batch_runner import MARK
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_request as br
from ansible_collections.lsst.ldf.plugins.plugin_utils.batch_bundle import INSTALL, Bundle

NAMES = {name: name for name in ("m", "ansible.legacy.copy", "ansible.legacy.file")}
NEED = {"stdout": "LSST_LDF_BATCH_NEED\n", "stderr": "", "rc": 0}
NOTHING = {"stdout": "", "stderr": "", "rc": 0}


def answer(*results, pending=0, **more):
    """What a host says."""
    found = {"results": list(enumerate(results)), "predicted": [], "earlier": [], "pending": pending} | more
    return {"stdout": f"motd{MARK}{json.dumps(found)}\n", "stderr": "", "rc": 0}


@pytest.fixture
def host():
    """``host.answers`` come one after the other; ``host.sent`` is what was asked, INSTALL for the bundle."""
    told = SimpleNamespace(answers=[], sent=[])

    def execute(command, in_data):
        code = shlex.split(command)[2]
        told.sent.append("INSTALL" if code == INSTALL else json.loads(in_data))
        return told.answers.pop(0)

    action = SimpleNamespace(
        _low_level_execute_command=execute,
        _templar=SimpleNamespace(template=lambda value: value),
        get_shell_option=lambda name, default: default,
    )
    told.requests = br.Requests(action, Bundle("s", NAMES, b"zip"), "role file", True, {"inventory_hostname": "h"})
    return told


def test_nothing_to_send_is_no_trip(host):
    host.requests.flush()
    assert host.sent == []


def test_results_find_their_rows(host):
    rows = [br.Row(0, "a"), br.Row(1, "b", label="a secret, perhaps", item=2)]
    for row in rows:
        host.requests.add(row, "m", {"key": row.name})
    host.answers = [answer({"changed": True}, {"changed": False})]
    host.requests.flush()
    assert [row.changed for row in rows] == [True, False] and not host.requests.stopped
    assert [step["item"] for step in host.sent[0]["steps"]] == [0, 2]
    assert "secret" not in str(host.sent)


def test_bundle_goes_first_where_it_is_missing(host):
    host.requests.add(br.Row(0, "a"), "m", {})
    host.answers = [NEED, NOTHING, answer({"changed": False})]
    host.requests.flush()
    assert host.sent[1] == "INSTALL" and host.sent[0] == host.sent[2]


def test_bundle_that_cannot_be_installed(host):
    host.requests.add(br.Row(0, "a"), "m", {})
    host.answers = [NEED, {"stdout": "", "stderr": "No space left on device", "rc": 1}]
    with pytest.raises(AnsibleActionFail, match=r"h: could not install what the batch needs in ~/.ansible/lsst_ldf_batch: No space left"):
        host.requests.flush()


def test_lost_answer_is_asked_for_again(host):
    host.requests.add(br.Row(0, "a"), "m", {})
    host.answers = [NOTHING, answer({"changed": False})]
    host.requests.flush()
    assert host.sent[0] == host.sent[1]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"stdout": "x", "stderr": "Killed", "rc": 137}, r"h: the batch gave no answer \(exit code 137\): Killed"),
        (
            {"stdout": "", "stderr": "LSST_LDF_BATCH_PYTHON 3.7\n", "rc": 1},
            "h: its Python is 3.7. Allowed: 3.9 or newer. Edit ansible_python",
        ),
        ({"stdout": MARK + '{"error": "OSError: full"}\n', "stderr": "", "rc": 0}, "h: the batch could not run: OSError: full"),
    ],
)
def test_no_answer(host, told, words):
    host.requests.add(br.Row(0, "a"), "m", {})
    host.answers = [told]
    with pytest.raises(AnsibleActionFail, match=words):
        host.requests.flush()


def test_stops_at_a_failure(host):
    rows = [br.Row(0, "a"), br.Row(1, "b")]
    for row in rows:
        host.requests.add(row, "m", {})
    host.answers = [answer({"failed": True})]
    host.requests.flush()
    assert host.requests.stopped and rows[1].results == []


def test_now_takes_along_what_waits(host):
    host.requests.add(br.Row(0, "a"), "m", {})
    host.answers = [answer({"changed": False}, {"changed": False, "found": 1})]
    assert host.requests.now(br.Row(1, "b"), "m", {})["found"] == 1
    assert [step["whole"] for step in host.sent[0]["steps"]] == [False, True]


def test_now_is_stopped_by_what_failed_before(host):
    host.requests.add(br.Row(0, "a"), "m", {})
    host.answers = [answer({"failed": True})]
    with pytest.raises(br.Stopped):
        host.requests.now(br.Row(1, "b"), "m", {})


@pytest.mark.parametrize(("pending", "trips"), [(1, [False, True]), (0, [False])])
def test_host_is_told_that_its_answer_arrived(host, pending, trips):
    """A trip of its own, only where handlers would be lost with an answer that did not arrive."""
    host.requests.add(br.Row(0, "a"), "m", {})
    host.answers = [answer({"changed": True}, pending=pending), answer()]
    host.requests.flush()
    host.requests.heard()
    assert [request["heard"] for request in host.sent] == trips
    assert [len(request["steps"]) for request in host.sent] == [1, 0][: len(trips)]


def copy_of(host, row, content):
    asked = {"module": "ansible.builtin.copy", "dest": "/x", "file": {}}
    host.requests.add(row, "ansible.legacy.copy", {}, asked, content)


def test_content_travels(host):
    copy_of(host, br.Row(0, "a"), b"text")
    copy_of(host, br.Row(1, "b"), b"\xff\x00")
    host.answers = [answer({"changed": False}, {"changed": False})]
    host.requests.flush()
    first, second = (step["copy"] for step in host.sent[0]["steps"])
    assert first["text"] == "text" and second["base64"] == "/wA="


def test_big_content_travels_when_it_is_wanted(host):
    """What comes before it is not run twice."""
    rows = [br.Row(0, "a"), br.Row(1, "b"), br.Row(2, "c")]
    host.requests.add(rows[0], "m", {})
    copy_of(host, rows[1], b"x" * (br.BIG + 1))
    host.requests.add(rows[2], "m", {})
    host.answers = [answer({"changed": True}, need=1), answer({"changed": True}, {"changed": False})]
    host.requests.flush()
    assert "text" not in host.sent[0]["steps"][1]["copy"]
    assert len(host.sent[1]["steps"]) == 2 and len(host.sent[1]["steps"][0]["copy"]["text"]) == br.BIG + 1
    assert [row.changed for row in rows] == [True, True, False]
