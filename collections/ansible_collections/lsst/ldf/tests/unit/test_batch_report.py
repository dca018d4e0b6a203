"""What a batch tells of its tasks."""

import pytest
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_report
from ansible_collections.lsst.ldf.plugins.plugin_utils.batch_request import Row

OK, CHANGED, BAD, RC = {"changed": False}, {"changed": True}, {"failed": True, "msg": "no"}, {"rc": 1, "stderr": "why"}


def row(number=0, *results, **more):
    return Row(number, f"task {number}", results=list(results), **more)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (row(0, OK), "ok"),
        (row(0), "ok"),
        (row(0, OK, CHANGED), "changed"),
        (row(0, CHANGED, BAD), "failed"),
        (row(0, RC), "failed"),
        (row(0, {"failed": False, "rc": 1}), "ok"),
        (row(0, BAD, ignore=True), "ignored"),
        (row(0, skipped=True), "skipped"),
    ],
)
def test_state(one, expected):
    assert batch_report.state(one) == expected


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([row(0, CHANGED, notify=["a"])], ["a"]),
        ([row(0, OK, notify=["a"])], []),
        ([row(0, CHANGED, notify=["a"]), row(0, OK, notify=["b"])], ["a", "b"]),
        ([row(0, CHANGED, notify=["a"]), row(0, BAD, notify=["b"])], []),
        ([row(0, CHANGED, BAD, notify=["a"], ignore=True)], []),
        ([row(0, CHANGED, notify=["a"]), row(0, skipped=True, notify=["b"])], ["a"]),
    ],
)
def test_notified(rows, names):
    assert batch_report.notified(rows) == names


def test_counts_are_those_of_tasks_not_of_items():
    rows = [row(0, CHANGED), row(0, CHANGED), row(1, OK), row(2, skipped=True), row(3, BAD, ignore=True), row(4, BAD)]
    told, _ = batch_report.result(rows, tasks=7)
    assert told["batch"] == {"ok": 3, "changed": 1, "ignored": 1, "skipped": 1, "not_run": 2}
    assert told["failed"] and told["changed"] and told["msg"] == "task 4: no"


def test_a_secret_is_not_told():
    secret = {"failed": True, "changed": True, "msg": "s3cret", "diff": {"after": "s3cret"}, "stdout": "s3cret"}
    told, _ = batch_report.result([row(0, secret, label="s3cret", no_log=True)], tasks=1)
    assert "s3cret" not in str(told) and "s3cret" not in str(batch_report.lines([row(0, secret, label="s3cret", no_log=True)]))
    assert told["msg"] == "task 0: hidden, because of no_log"


def test_diffs_of_what_changed_in_order():
    rows = [
        row(0, {"changed": True, "diff": {"after": "1"}}),
        row(1, {"changed": False, "diff": {"after": "2"}}),
        row(2, {"changed": True, "diff": [{"after": "3"}]}),
    ]
    assert batch_report.diffs(rows) == [{"after": "1"}, {"after": "3"}]


def test_warnings_once():
    rows = [row(0, {"warnings": ["w"]}), row(1, {"warnings": ["w", "x"]})]
    assert batch_report.result(rows, tasks=2)[0]["warnings"] == ["w", "x"]
