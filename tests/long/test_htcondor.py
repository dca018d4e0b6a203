"""Thousands of jobs through a pool of four nodes, on containers of its own (``make prove-long``).

Every job appends its number to a file of its own in a directory that all hosts share: what HTCondor says of it is held against what it did.
``DAG_JOBS``: how many jobs the graph has, 2,000 unless told; 80,000 take hours.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from containers import PODMAN, SHARED, TOP, booted, on, play, run

INVENTORY = Path(__file__).parent / "inventory.yml"
ACCESS, MANAGER, NODES = "pool-access", "pool-manager", [f"pool-node{number}" for number in range(1, 5)]
# As this machine knows it, and as the hosts do.
SHARE, THERE = TOP / ".cache" / "long", "/srv/long"
JOBS = 2000
DAG_JOBS = int(os.environ.get("DAG_JOBS", "2000"))
# So many jobs run on a node at the same time (htcondor_cpus).
SLOTS = 16
# So many jobs of the graph may run or wait at the same time.
WIDTH = 400
# Of jobs' logs; CUT: before it had begun, LOST: not found again.
BEGUN, EVICTED, DONE, CUT, ABORTED, HELD, LOST = "001", "004", "005", "007", "009", "012", "024"
JOB = """
executable = /bin/sh
transfer_executable = false
should_transfer_files = true
request_cpus = 1
request_memory = 50
request_disk = 1024
# A job whose node fell silent is begun again after so many seconds; HTCondor's own 2,400 are for networks that come back.
job_lease_duration = 120
"""
LOG = logging.getLogger("long")


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[None]:
    """The pool, with all of its nodes."""
    shutil.rmtree(SHARE, ignore_errors=True)
    SHARE.mkdir(parents=True)
    # Its jobs are a container's user's.
    SHARE.chmod(0o1777)
    with booted(INVENTORY, "htcondor", f"--volume={SHARE}:{THERE}"):
        play(INVENTORY, SHARED / "converge.yml")
        wait_nodes()
        yield


def wait(condition: Callable[[], bool], what: str, progress: Callable[[], int] = lambda: 0, every: float = 1, stall: float = 180) -> None:
    """Until the condition holds; AssertionError when nothing has progressed for ``stall`` seconds."""
    last, since = progress(), time.monotonic()
    while not condition():
        time.sleep(every)
        if (now := progress()) != last:
            last, since = now, time.monotonic()
        assert time.monotonic() - since < stall, f"{what}: nothing happened for {stall:g} s"


def wait_nodes() -> None:
    """Until the manager knows all nodes and where jobs wait."""
    ads = "condor_status -startd -autoformat Machine; condor_status -schedd -autoformat Machine"
    wait(lambda: len({*on(MANAGER, ads, check=False).split()}) == len(NODES) + 1, "the pool is whole")


def as_alice(command: str) -> str:
    return on(ACCESS, f"cd {THERE} && runuser -u alice -- {command}")


def done(log: Path) -> int:
    """How many jobs the log says have ended."""
    return log.read_text().count(f"\n{DONE} (") if log.exists() else 0


def events(log: Path) -> dict[str, Counter[str]]:
    """Kind of event -> job -> how often."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, job in re.findall(r"^(\d{3}) \(([0-9.]+)\)", log.read_text(), re.MULTILINE):
        found[kind][job] += 1
    return found


def check(log: Path, did: Path, count: int, node: int) -> None:
    """All jobs have ended well, once; begun twice, and perhaps done twice, are only those that a killed node had, ``node`` at most."""
    seen = events(log)
    assert len(seen[DONE]) == count and set(seen[DONE].values()) == {1}
    assert log.read_text().count("Normal termination (return value 0)") == count
    assert not seen[HELD] and not seen[ABORTED]
    lost = {*seen[LOST], *seen[CUT]}
    assert {*seen[EVICTED]} <= lost and len(lost) <= node
    again = {job for job, times in seen[BEGUN].items() if times > 1}
    times = [len(path.read_text().split()) for path in did.iterdir()]
    LOG.info("%d jobs done, %d lost with a node, %d of them begun before, %d done before", count, len(lost), len(again), sum(times) - count)
    assert again <= lost and len(times) == count and count <= sum(times) <= count + len(again)


def test_jobs_outlive_a_drain_a_killed_node_and_a_restart_of_the_manager():
    """None is held, none is lost, none is done twice but what ran on the killed node."""
    log, did = SHARE / "jobs.log", SHARE / "jobs"
    as_alice(f"mkdir {THERE}/jobs")
    act = f"echo $(Process) >>{THERE}/jobs/$(Process); sleep 1"
    (SHARE / "jobs.sub").write_text(f"{JOB}arguments = \"-c '{act}'\"\nlog = {THERE}/jobs.log\nmax_idle = 200\nqueue {JOBS}\n")
    began = time.monotonic()
    as_alice("condor_submit jobs.sub")

    def reach(count: int, then: str) -> None:
        wait(lambda: done(log) >= count, f"{count} jobs are done", lambda: done(log))
        LOG.info("%4.0f s: %d jobs done: %s", time.monotonic() - began, done(log), then)

    def drain(state: str) -> None:
        variables = ("-e", f"htcondor_drain={NODES[0]}", "-e", f"htcondor_drain_state={state}")
        play(INVENTORY, TOP / "playbooks/drain-node.yml", f"--limit={NODES[0]}", *variables)

    reach(200, f"{NODES[0]} is drained")
    drain("drained")
    reach(500, f"{NODES[1]} is killed")
    run(PODMAN, "kill", NODES[1])
    reach(800, "the manager is restarted")
    on(MANAGER, "systemctl restart condor")
    reach(1100, f"{NODES[1]} is started")
    run(PODMAN, "start", NODES[1])
    on(NODES[1], "systemctl is-system-running --wait", check=False)
    # A container's address and names are gone when it starts; a machine's are not.
    play(INVENTORY, TOP / "molecule/htcondor/prepare.yml", f"--limit={NODES[1]}")
    on(NODES[1], "systemctl restart condor")
    reach(1400, f"{NODES[0]} is taken back")
    drain("active")
    reach(JOBS, "all")
    check(log, did, JOBS, SLOTS)


def test_a_graph_of_jobs():
    """Each job finds what the one before it has left; all nodes take part. What the memory of schedd and DAGMan comes to is told."""
    place, here = SHARE / "graph", f"{THERE}/graph"
    as_alice(f"mkdir -p {here}/did")
    act = f"test -e {here}/$(before) && echo $(number) >>{here}/did/$(number)"
    (place / "job.sub").write_text(f"{JOB}arguments = \"-c '{act}'\"\nqueue\n")
    rows = []
    for number in range(DAG_JOBS):
        before = f"did/{number - WIDTH}" if number >= WIDTH else "job.sub"
        rows += [f"JOB j{number} job.sub", f'VARS j{number} number="{number}" before="{before}"']
        rows += [f"PARENT j{number - WIDTH} CHILD j{number}"] if number >= WIDTH else []
    # DAGMan looks every five seconds, and submits forty jobs or so each time.
    (place / "graph.config").write_text("DAGMAN_USER_LOG_SCAN_INTERVAL = 1\n")
    (place / "graph.dag").write_text("\n".join(["CONFIG graph.config", *rows]) + "\n")
    log, end = place / "graph.dag.nodes.log", place / "graph.dag.metrics"
    began = told = time.monotonic()
    as_alice(f"sh -c 'cd {here} && condor_submit_dag -maxidle {WIDTH} graph.dag'")

    def report() -> bool:
        nonlocal told
        if (over := end.exists()) or time.monotonic() - told > 60:
            told = time.monotonic()
            memory = on(ACCESS, "ps -C condor_schedd,condor_dagman -o comm=,rss= | awk '{printf \"%s %.0f MB \", $1, $2 / 1024}'")
            LOG.info("%5.0f s: %d jobs done, %s", told - began, done(log), memory)
        return over

    wait(report, f"{DAG_JOBS} jobs of the graph are done", lambda: done(log), every=10, stall=600)
    LOG.info("%.0f jobs a minute", DAG_JOBS / (time.monotonic() - began) * 60)
    assert json.loads(end.read_text())["exitcode"] == 0
    check(log, place / "did", DAG_JOBS, 0)
    assert {*re.findall(r"alias=(pool-node\d)", log.read_text())} == {*NODES}
