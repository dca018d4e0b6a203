"""Containers to measure on, or to prove what takes long: of a Molecule scenario, without its proofs, or of an inventory like its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

TOP = Path(__file__).parent.parent.parent
PODMAN = str(TOP / "lab/podman")
SHARED = TOP / "molecule/shared"


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


def play(inventory: Path, playbook: Path, *arguments: str) -> str:
    """What a playbook printed that ran over the containers of an inventory."""
    return run("ansible-playbook", f"--inventory={SHARED}/inventory.yml", f"--inventory={inventory}", *arguments, str(playbook))


@contextmanager
def scenario(role: str) -> Iterator[None]:
    """The scenario's containers, converged."""
    try:
        for step in ("destroy", "converge"):
            run("molecule", step, "-s", role)
        yield
    finally:
        run("molecule", "destroy", "-s", role, check=False)


@contextmanager
def booted(inventory: Path, role: str, *arguments: str) -> Iterator[None]:
    """The containers of an inventory, prepared as the role's scenario prepares its own; ``arguments``: further ones of podman run."""
    names = list(yaml.safe_load(inventory.read_text())["molecule"]["hosts"])
    try:
        for name in names:
            run("bash", f"{SHARED}/boot.sh", name, *arguments)
        play(inventory, TOP / f"molecule/{role}/prepare.yml")
        yield
    finally:
        for name in names:
            run("bash", f"{SHARED}/reap.sh", name, check=False)
