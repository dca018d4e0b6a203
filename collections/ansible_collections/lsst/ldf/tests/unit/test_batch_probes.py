"""Which module a probe speaks for, and what it reads; whether it speaks true, tests on a host show."""

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import batch_probes as bp


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("user", "user"),
        ("ansible.builtin.user", "user"),
        ("ansible.legacy.user", "user"),
        ("ansible.builtin.systemd", "systemd_service"),
        ("ansible.posix.sysctl", "sysctl"),
        ("lsst.ldf.account", "account"),
    ],
)
def test_a_module_is_known(module, name):
    assert bp.short(module) == name and name in bp.NAMES


@pytest.mark.parametrize("module", ["community.general.user", "sysctl", "account", "my.own.commit_confirm", "ansible.builtin.unit"])
def test_a_namesake_is_not(module):
    assert bp.short(module) == ""
    assert bp.Probes(True, []).answer(module, {"name": "root"}, []) is None


def test_an_argument_that_nobody_knows_is_for_the_module():
    probes = bp.Probes(True, [])
    assert probes.answer("ansible.builtin.group", {"name": "root", "gid": 0}, []) == {"changed": False, "name": "root", "gid": 0}
    assert probes.answer("ansible.builtin.group", {"name": "root", "gid": 0, "local": True}, []) is None


def test_a_probe_can_be_switched_off_by_name():
    assert bp.Probes(["file"], []).answer("ansible.builtin.group", {"name": "root"}, []) is None


def test_packages(tmp_path):
    status, extended = tmp_path / "status", tmp_path / "extended"
    paragraphs = [
        ("bash", "install ok installed"),
        ("libx", "install ok installed"),
        ("held", "hold ok installed"),
        ("gone", "deinstall ok config-files"),
    ]
    status.write_text("".join(f"Package: {name}\nStatus: {state}\nProvides: p-{name} (= 1)\n\n" for name, state in paragraphs))
    extended.write_text("Package: libx\nArchitecture: amd64\nAuto-Installed: 1\n\n")
    found = bp.installed_packages(str(status), str(extended))
    assert found["installed"] == {"bash", "libx", "held"} and found["by hand"] == {"bash", "held"} and found["held"] == {"held"}
    assert {"gone", "p-bash"} <= found["known"]
