"""What a batch's file may hold, and the message for what it may not."""

from types import SimpleNamespace

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_tasks


def load(tmp_path, text):
    """The tasks of a file with ``text``, judged as the action does."""
    path = tmp_path / "configure.yml"
    path.write_text(text)
    tasks = batch_tasks.load(str(path), DataLoader(), SimpleNamespace(_parent=None, _role=None, collections=None))
    return tasks, batch_tasks.modules(tasks)


def test_modules_of_a_file(tmp_path):
    text = """
- {name: a, ansible.builtin.apt: {name: curl}, when: true, tags: [x], notify: h, loop: [1], loop_control: {label: l, loop_var: v}}
- {name: b, ansible.builtin.shell: "true", args: {creates: /x}, environment: {A: b}, vars: {c: d}, ignore_errors: true, check_mode: false}
- {name: c, lsst.ldf.ssh_host_certificate: {}, no_log: true}
- {name: d, ansible.builtin.assert: {that: true}}
"""
    tasks, modules = load(tmp_path, text)
    assert [task.name for task in tasks] == ["a", "b", "c", "d"]
    assert modules >= {"ansible.builtin.apt", "ansible.legacy.command", "lsst.ldf.ssh_host_certificate", "lsst.ldf.commit_confirm"}


@pytest.mark.parametrize(
    ("extra", "keyword"),
    [
        ("register: x", "register"),
        ("become: true", "become"),
        ("become_user: x", "become_user"),
        ("until: true", "until"),
        ("retries: 3", "retries"),
        ("async: 3", "async"),
        ("delegate_to: x", "delegate_to"),
        ("run_once: true", "run_once"),
        ("changed_when: true", "changed_when"),
        ("failed_when: true", "failed_when"),
        ("timeout: 3", "timeout"),
        ("throttle: 1", "throttle"),
        ("connection: local", "connection"),
        ("with_items: [1]", "with_items"),
        ("loop_control: {extended: true}", "loop_control.extended"),
        ("loop_control: {pause: 1}", "loop_control.pause"),
    ],
)
def test_refuses_a_keyword(tmp_path, extra, keyword):
    """Which task, which keyword, what is allowed, what to do."""
    with pytest.raises(batch_tasks.Unfit) as caught:
        load(tmp_path, f"- name: Bad one\n  ansible.builtin.command: 'true'\n  {extra}\n")
    text = str(caught.value)
    assert "'Bad one'" in text and f"keyword {keyword}," in text and "Allowed:" in text
    assert "ordinary tasks file" in text or "out of the batch" in text


def test_refuses_a_block(tmp_path):
    with pytest.raises(batch_tasks.Unfit, match="uses the keyword block"):
        load(tmp_path, "- name: Bad one\n  block:\n    - ansible.builtin.command: 'true'\n")


@pytest.mark.parametrize(
    ("action", "remedy"),
    [
        ("ansible.builtin.include_tasks: x.yml", "ordinary tasks file"),
        ("ansible.builtin.meta: flush_handlers", "ordinary tasks file"),
        ("ansible.builtin.set_fact: {a: b}", "ordinary tasks file"),
        ("ansible.builtin.fetch: {src: a, dest: b}", "ordinary tasks file"),
        ("ansible.builtin.unarchive: {src: a, dest: b}", "ordinary tasks file"),
        ("ansible.builtin.service: {name: x}", "systemd_service"),
        ("ansible.builtin.package: {name: x}", "ansible.builtin.apt"),
    ],
)
def test_refuses_an_action(tmp_path, action, remedy):
    with pytest.raises(batch_tasks.Unfit) as caught:
        load(tmp_path, f"- name: Bad one\n  {action}\n")
    assert "'Bad one'" in str(caught.value) and remedy in str(caught.value)


@pytest.mark.parametrize("text", ["a: b\n", "- just words\n"])
def test_refuses_what_is_no_list_of_tasks(tmp_path, text):
    with pytest.raises(batch_tasks.Unfit, match="is no"):
        load(tmp_path, text)


def test_an_empty_file_is_no_task(tmp_path):
    assert load(tmp_path, "---\n")[0] == []
