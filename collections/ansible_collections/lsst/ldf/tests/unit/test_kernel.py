"""Settings of the kernel, on directories and files that behave like /proc/sys."""

import errno
from pathlib import Path

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.kernel import (
    Kernel,
    Memory,
    Refusal,
    explain,
    load_memory,
    normal,
    originals,
    relative,
    save,
    settle,
)


class Pretend(Kernel):
    """A kernel whose ``bends`` say what it makes of a value."""

    def __init__(self, root: Path, values: dict[str, str], bends: dict[str, str] | None = None, in_container: bool = False) -> None:
        super().__init__(root, in_container)
        self.bends, self.written = bends or {}, []
        for key, value in values.items():
            path = root / relative(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value + "\n")

    def write(self, key: str, value: str) -> str | None:
        self.written.append(key)
        reason = super().write(key, self.bends.get(key, value))
        return reason if key not in self.bends else "does not keep this value"


KEY = "net.core.rmem_max"
OLD, NEW = "212992", "18874368"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.core.rmem_max", "net/core/rmem_max"),
        ("net/core/rmem_max", "net/core/rmem_max"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_relative(key, path):
    assert relative(key) == path


@pytest.mark.parametrize("key", ["", "rmem_max", "net..core", "net/../../etc/passwd", "/etc/passwd", "net.core.rmem_max ", "net/core/"])
def test_no_setting(key):
    with pytest.raises(ValueError, match=r"is no setting of the kernel. Allowed: keys such as"):
        relative(key)


@pytest.mark.parametrize(("value", "text"), [(1, "1"), (True, "1"), ("4096\t87380\t  6291456\n", "4096 87380 6291456")])
def test_normal(value, text):
    assert normal(value) == text


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(
    ("has", "wanted", "memory", "changes"),
    [
        ({KEY: NEW}, {KEY: NEW}, Memory(), {}),
        ({KEY: OLD}, {KEY: NEW}, Memory(), {KEY: (OLD, NEW)}),
        # Another profile: what is no longer wanted goes back, and nothing happens where it is back already.
        ({KEY: NEW}, {}, Memory({KEY: OLD}), {KEY: (NEW, OLD)}),
        ({KEY: OLD}, {}, Memory({KEY: OLD}), {}),
        ({KEY: NEW}, {}, Memory(), {}),
        ({}, {KEY: NEW}, Memory(), {}),
    ],
)
def test_what_is_due_is_done_and_predicted(tmp_path, has, wanted, memory, changes, check_mode):
    kernel = Pretend(tmp_path, has)
    assert settle(kernel, wanted, memory, check_mode).changes == changes
    assert kernel.written == ([] if check_mode else list(changes))


def test_a_missing_key_is_refused_without_trying(tmp_path):
    kernel = Pretend(tmp_path, {})
    assert settle(kernel, {KEY: NEW}, Memory(), False).refused == {KEY: Refusal(NEW, None, "is not there")}
    assert kernel.written == []


@pytest.mark.parametrize("key", ["vm.swappiness", "fs.file-max", "kernel.pid_max", "vm/swappiness"])
def test_a_container_never_writes_what_is_the_machines(tmp_path, key):
    kernel = Pretend(tmp_path, {key: "60"}, in_container=True)
    refused = settle(kernel, {key: "10"}, Memory(), False).refused
    assert refused[key].reason == "belongs to the machine that runs this container"
    assert (kernel.written, kernel.read(key)) == ([], "60")
    assert settle(Pretend(tmp_path, {key: "60"}), {key: "10"}, Memory(), False).changes == {key: ("60", "10")}


def test_the_kernels_reasons(tmp_path, monkeypatch):
    """Read from the errno of the write; for a congestion control with those that there are."""
    key, available = "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_available_congestion_control"
    kernel = Kernel(tmp_path)
    Pretend(tmp_path, {key: "bbr", available: "reno bbr", KEY: OLD})
    reasons = {errno.ENOENT: "does not have this value", errno.EROFS: "is read-only here", errno.EPERM: "is read-only here"}
    for number, reason in reasons.items():

        def refuse(path, text, number=number):
            raise OSError(number, "no")

        monkeypatch.setattr(Path, "write_text", refuse)
        assert kernel.write(KEY, NEW) == reason
        assert kernel.write(key, "htcp") == f"{reason}, but reno bbr"


def test_a_value_that_the_kernel_bends_changes_once(tmp_path):
    """It is a change when it is set, and a refusal from then on, also in check mode; when it drifts, it is due again."""
    kernel = Pretend(tmp_path, {KEY: OLD}, {KEY: "1000000"})
    first = settle(kernel, {KEY: NEW}, Memory(), False)
    assert (first.changes, first.refused) == ({KEY: (OLD, "1000000")}, {KEY: Refusal(NEW, "1000000", "does not keep this value")})
    memory = Memory({}, first.refused)
    for check_mode in (False, True):
        again = settle(kernel, {KEY: NEW}, memory, check_mode)
        assert (again.changes, again.refused) == ({}, first.refused)
    (tmp_path / relative(KEY)).write_text("5\n")
    assert settle(kernel, {KEY: NEW}, memory, True).changes == {KEY: ("5", NEW)}


def test_another_value_is_tried_although_one_was_refused(tmp_path):
    kernel = Pretend(tmp_path, {KEY: OLD})
    assert settle(kernel, {KEY: NEW}, Memory({}, {KEY: Refusal("7", OLD, "no")}), True).changes == {KEY: (OLD, NEW)}


def test_originals_are_from_before_the_first_run(tmp_path):
    kernel = Pretend(tmp_path, {KEY: NEW, "net.core.wmem_max": OLD})
    wanted = {KEY: NEW, "net.core.wmem_max": NEW, "net.core.default_qdisc": "fq"}
    assert originals(kernel, wanted, Memory({KEY: OLD})) == {KEY: OLD, "net.core.wmem_max": OLD}


def test_memory_is_kept(tmp_path):
    refused = {KEY: Refusal(NEW, None, "is not there")}
    save(tmp_path / "a" / "x.json", {KEY: OLD})
    save(tmp_path / "b" / "x.json", {KEY: refused[KEY]._asdict()})
    assert load_memory(tmp_path / "a" / "x.json", tmp_path / "b" / "x.json") == Memory({KEY: OLD}, refused)
    assert load_memory(tmp_path / "none", tmp_path / "none") == Memory()


def test_one_message_names_everything():
    refused = {KEY: Refusal(NEW, OLD, "is read-only here"), "net.core.default_qdisc": Refusal("fq", None, "is not there")}
    message = explain("base-dtn01", 9, refused)
    assert message.startswith("base-dtn01: the running kernel refuses 2 of 9 settings")
    assert "net.core.rmem_max is read-only here (wanted 18874368, has 212992)" in message
    assert "net.core.default_qdisc is not there (wanted fq)" in message
