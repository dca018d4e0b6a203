"""Jobs through a pool that the role htcondor made, and through one by templates and shell; runs of both with nothing to do. One table.

Two pools alike at the same time, measured in turns, the median of three; nothing asserted. Jobs do nothing. CPU is what the pool's
containers used (their cgroups), or a run of Ansible, with its modules on the hosts. The other way is re-created from what roles for
HTCondor commonly do (``ways/htcondor.yml``). ``python tests/benchmarks/pool.py [JOBS]``: 500 unless told.
"""

from __future__ import annotations

import re
import resource
import statistics
import sys
import time
from pathlib import Path

from containers import SHARED, booted, on, play

HERE = Path(__file__).parent
INVENTORY = HERE / "pool.yml"
RUNS = 3
WAYS = {
    "role": ("role `htcondor`", (SHARED / "converge.yml", "--limit=role")),
    "plain": ("templates and shell", (HERE / "ways/htcondor.yml",)),
}
HOSTS = ("manager", "access", "node")
JOB = """
executable = /bin/true
transfer_executable = false
should_transfer_files = true
request_cpus = 1
request_memory = 50
request_disk = 1024
max_idle = 200
log = {log}
queue {count}
"""


def used(way: str) -> float:
    """CPU seconds of the pool's containers so far."""
    return sum(int(on(f"{way}-{host}", "sed -n 's/usage_usec //p' /sys/fs/cgroup/cpu.stat")) for host in HOSTS) / 1e6


def jobs(way: str, count: int) -> tuple[float, float]:
    """Jobs a minute, and milliseconds of CPU a job."""
    access, log = f"{way}-access", "/home/alice/bench.log"
    on(access, f"rm -f {log}")
    began, before = time.monotonic(), used(way)
    on(access, f"runuser -u alice -- condor_submit -terse - <<'E'\n{JOB.format(log=log, count=count)}\nE")
    while int(on(access, f"grep -c '^005 ' {log}", check=False) or 0) < count:
        if time.monotonic() - began > 5 * count:
            raise RuntimeError(f"{way}: {on(access, 'condor_q -allusers; condor_status')}")
        time.sleep(0.5)
    return count / (time.monotonic() - began) * 60, (used(way) - before) / count * 1000


def nothing_to_do(way: str) -> tuple[float, float]:
    """Wall and CPU seconds of a run that changes nothing."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    text = play(INVENTORY, *WAYS[way][1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if re.search(r"changed=[1-9]", text):
        raise RuntimeError(f"{way} changes something in each run: {text}")
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(count: int) -> int:
    with booted(INVENTORY, "htcondor"):
        for way in WAYS:
            play(INVENTORY, *WAYS[way][1])
            # Jobs run on both, and those who measure have been there once.
            jobs(way, 50)
            nothing_to_do(way)
        found: dict[str, list[tuple[float, ...]]] = {}
        for _ in range(RUNS):
            for way in WAYS:
                found.setdefault(way, []).append((*jobs(way, count), *nothing_to_do(way)))
    medians = {way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in found.items()}
    print(f"{count} jobs, three hosts\n\n| | jobs/min | ms of CPU a job | no-op run, s | its CPU s |\n|---|---|---|---|---|")
    for way, numbers in medians.items():
        print("| {} | {:.0f} | {:.0f} | {:.1f} | {:.1f} |".format(WAYS[way][0], *numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
