"""Containers of a Molecule scenario to measure on; without its proofs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
PODMAN = str(TOP / "lab/podman")


def run(*command: str, check: bool = True) -> str:
    """What a command printed."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ANSIBLE_SKIP_TAGS": "proof"}
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def on(name: str, command: str, check: bool = True) -> str:
    """What a shell command printed in a container."""
    return run(PODMAN, "exec", name, "bash", "-c", command, check=check)


@contextmanager
def scenario(role: str) -> Iterator[None]:
    """The scenario's containers, converged."""
    try:
        for step in ("destroy", "converge"):
            run("molecule", step, "-s", role)
        yield
    finally:
        run("molecule", "destroy", "-s", role, check=False)
