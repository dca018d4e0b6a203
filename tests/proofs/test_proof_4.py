"""Changed zones fail no lookup, and a change that breaks BIND stops at the first server: the role's own disturbing tests, over the lab."""

import subprocess
import sys

import pytest

from runs import TOP, run

pytestmark = pytest.mark.disturbs


def test_the_name_servers_disturbed(base):
    assert run("--limit=" + ",".join(base), "-e verify_marks=reads", playbook="playbooks/verify.yml").rc == 0
    command = [sys.executable, "-m", "pytest", "nameserver", "-m", "disturbs", f"--machines={','.join(base)}"]
    done = subprocess.run(command, cwd=TOP / "molecule", text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
