"""Programs that the tests of the lab start, as an operator would."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from plan import address
from runs import PLAN, TOP

LAB = str(TOP / "lab" / "lab.py")


@dataclass(frozen=True)
class Result:
    """A finished program; ``text`` is everything it printed."""

    rc: int
    text: str


def call(*command: str, timeout: float = 120.0) -> Result:
    """Run a program of this checkout."""
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    return Result(done.returncode, done.stdout + done.stderr)


def lab(*arguments: str) -> str:
    """What ``lab.py ARGUMENTS`` printed; it has to end well."""
    done = call(LAB, *arguments, timeout=300)
    assert done.rc == 0, done.text
    return done.text


def ssh(host: str, command: str) -> Result:
    """Run ``command`` on a host as the operator does."""
    return call("ssh", "-F", str(TOP / ".cache/lab/ssh_config"), host, command)


def on_network(host: str, name: str) -> str:
    """The address of ``host`` on its network ``name``."""
    return address(host, PLAN, name)
