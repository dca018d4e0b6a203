"""What locks Ansible out is taken back by the host itself, over ssh, and the run says so."""

import json

import pytest

from runs import on, run

pytestmark = pytest.mark.disturbs
NOBODY = "192.0.2.1"


@pytest.mark.parametrize(
    ("role", "variables", "file"),
    [
        ("firewall", {"firewall_control": [NOBODY]}, "/etc/nftables.conf"),
        ("sshd", {"sshd_allow_groups": ["nogroup"], "sshd_confirm_seconds": 20}, "/etc/ssh/sshd_config"),
    ],
)
def test_a_lock_out_is_taken_back(victim, role, variables, file):
    before = on(victim, f"cat {file}")
    locked = run(f"--limit={victim}", f"--tags={role}", f"-e '{json.dumps(variables)}'")
    words = " ".join(locked.text.split())
    assert locked.failed() == [victim], locked.text[-3000:]
    assert f"locked Ansible out of {victim}" in words and "has restored the old state by itself and answers again" in words
    assert on(victim, f"cat {file}") == before
    assert run(f"--limit={victim}", f"--tags={role}", "--check").changed() == {}
