"""How long things take on this machine, nothing asserted: a fresh clone from nothing to tested. Stops a running lab first.

Wall and CPU seconds; CPU is that of the whole machine (user and system time in /proc/stat), so containers count.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
CLONE = TOP / ".cache" / "bench"
STEPS = [
    # The hosts' image belongs to the machine, not to the clone. pip's own cache stays in both.
    ("set-up from nothing", "lab/podman rmi --force --ignore localhost/lsst-lab-host:latest; lab/setup.sh"),
    ("set-up from the cache", "rm -rf .cache/venv; lab/podman rmi --force localhost/lsst-lab-host:latest; lab/setup.sh"),
    ("set-up, nothing to do", "lab/setup.sh"),
    ("lab start, base", "lab/lab.py up base"),
    ("check run on bare hosts", "ansible-playbook site.yml -l base --check"),
    ("first converge", "ansible-playbook site.yml -l base"),
    ("no-op converge", "ansible-playbook site.yml -l base"),
    ("no-op converge, task by task", "ansible-playbook site.yml -l base -e lsst_ldf_batch=false"),
    ("check run", "ansible-playbook site.yml -l base --check"),
    ("verify", "ansible-playbook playbooks/verify.yml -l base"),
    ("proofs 6, 1 and 2", "pytest tests/proofs/test_proof_6.py tests/proofs/test_proof_1.py tests/proofs/test_proof_2.py"),
    ("lab stop", "lab/lab.py down"),
    ("test: lint", "make lint"),
    ("test: unit and inventory", "make unit"),
    ("test: molecule", "make molecule"),
    ("test: batch", "make batch"),
    ("test: second lock", "make compat"),
]


def cpu() -> float:
    """CPU seconds that this machine has used since it started, idle and waiting left out."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run the steps one after the other and print a row each; a step that fails is marked and the rest goes on."""
    subprocess.run([TOP / "lab" / "lab.py", "down"], check=True)
    shutil.rmtree(CLONE, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", TOP, CLONE], check=True)
    environment = os.environ | {"PATH": f"{CLONE}/.cache/venv/bin:{os.environ['PATH']}"}
    bad = 0
    print(f"{'step':<30}{'wall s':>8}{'CPU s':>8}", flush=True)
    for name, command in STEPS:
        wall, used = time.monotonic(), cpu()
        with (TOP / ".cache" / "bench.log").open("a") as log:
            done = subprocess.run(command, shell=True, cwd=CLONE, env=environment, stdout=log, stderr=log, check=False)
        bad += done.returncode != 0
        mark = "" if done.returncode == 0 else f"  FAILED ({done.returncode}), see .cache/bench.log"
        print(f"{name:<30}{time.monotonic() - wall:>8.0f}{cpu() - used:>8.0f}{mark}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
