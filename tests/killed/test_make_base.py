"""``make base`` killed while it sets up, while hosts start and while they converge: started again it goes on and ends well.

It runs in a clone of its own, whose lab takes the place of the one that runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
# The smallest site that has everything: where packages come from, both name servers and a host.
HOSTS = "base-depot01,base-nameserver01,base-nameserver02,base-spare01"
MAKE_BASE = ["make", "base", f"LAB_ARGS=--limit={HOSTS}"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Iterator[Path]:
    """A fresh clone, and what it started is gone afterwards."""
    directory = tmp_path_factory.mktemp("clone") / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(TOP), str(directory)], check=True)
    yield directory
    subprocess.run(["make", "clean"], cwd=directory, check=True)


def outside() -> dict[str, str]:
    """The environment without the virtual environment of this checkout."""
    path = [part for part in os.environ["PATH"].split(":") if not part.startswith(str(TOP))]
    return {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"} | {"PATH": ":".join(path)}


# Words of its output: pip at work, hosts being started, the first host that a role has changed.
@pytest.mark.parametrize("moment", ["installing requirements", "host: ", "changed: ["])
def test_killed(clone, moment):
    """With all its children, without warning."""
    options = {
        "cwd": clone,
        "env": outside(),
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "start_new_session": True,
    }
    with subprocess.Popen(MAKE_BASE, **options) as process:
        for line in process.stdout:
            if moment in line:
                os.killpg(process.pid, signal.SIGKILL)
                return
    pytest.fail(f"make base ended before it said {moment!r}")


def test_started_again(clone):
    """After the three kills; it ends with its proofs and says what to do next."""
    done = subprocess.run(MAKE_BASE, cwd=clone, env=outside(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "5 passed" in done.stdout and "look around: make shell HOST=base-dtn01" in done.stdout
