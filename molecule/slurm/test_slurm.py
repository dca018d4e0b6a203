"""slurm, asked by who has jobs and by who has not the cluster's key: where jobs run, as whom, and that no change ends one."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import uuid

import pytest

from conftest import Machine, ansible, call, changed, operate, under_test, wait_for

in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)
controls = pytest.mark.where(lambda machine: machine.settings["slurm"]["slurm_controller"])
runs = pytest.mark.where(lambda machine: machine.settings["slurm"]["slurm_node"] and not machine.settings["slurm"]["slurm_lent"])
# Of a node that its controller does not hear.
SILENT = {"DOWN", "NOT_RESPONDING", "UNKNOWN"}
ALICE = "runuser --user alice --"
LENT = "lent to another batch system"
# A job for the pool.
JOB = """
executable = /bin/sh
transfer_executable = false
should_transfer_files = true
arguments = "-c '{command}'"
output = {name}.out
log = {name}.log
request_memory = 50
request_disk = 1024
{more}
queue
"""
# It is as strict about its directory as the real one.
STRANGER = """
install -d -o munge -g munge -m 0755 /run/stranger
head -c 1024 {key} | install -o munge -g munge -m 0400 /dev/stdin /run/stranger/key
runuser --user munge -- munged --key-file=/run/stranger/key --socket=/run/stranger/socket --pid-file=/run/stranger/pid \
    --log-file=/run/stranger/log --seed-file=/run/stranger/seed
(cat /etc/slurm/slurm.conf && echo AuthInfo=socket=/run/stranger/socket) >/run/stranger/slurm.conf
"""


def name(host) -> str:
    return host.check_output("hostname --short")


def node(host, node: str) -> dict:
    """The node as the controller knows it."""
    return json.loads(host.check_output(f"scontrol show node {node} --json"))["nodes"][0]


def config(host, setting: str) -> str:
    """What the controller says it has for a setting."""
    lines = host.check_output("scontrol show config").splitlines()
    return next(value.strip() for key, _, value in (line.partition("=") for line in lines) if key.strip() == setting)


class Job:
    """A job of alice that ends after so many seconds or in another way, or when nobody needs it any more."""

    def __init__(self, host, seconds: int, command: str = ""):
        self.host = host
        wrap = shlex.quote(command or f"sleep {seconds}")
        self.number = host.check_output(f"{ALICE} sbatch --parsable --chdir=/tmp --output=/dev/null --wrap {wrap}")

    def told(self) -> dict:
        return json.loads(self.host.check_output(f"scontrol show job {self.number} --json"))["jobs"][0]

    def state(self) -> str:
        return self.told()["job_state"][0]

    def wait(self, state: str, seconds: float = 20) -> None:
        wait_for(lambda: self.state() == state, seconds, f"job {self.number} is {state}")


@pytest.fixture
def submit(host):
    """Submits a job that runs for so many seconds, or a command; what is left of jobs is cancelled in the end."""
    yield lambda seconds=600, command="": Job(host, seconds, command)
    host.run("scancel --user=alice")


@pytest.fixture
def ask_pool(host):
    """Submits a job of alice to the pool, and names the files of its output and log (.out, .log); jobs and files are gone in the end."""
    asked: list[str] = []

    def ask(command: str, more: str) -> str:
        asked.append(f"/home/alice/{uuid.uuid4().hex}")
        description = JOB.format(name=asked[-1], command=command, more=more)
        host.check_output(f"printf %s {shlex.quote(description)} | {ALICE} condor_submit -terse -")
        return asked[-1]

    yield ask
    host.run(f"condor_rm -all; rm -f {' '.join(f'{each}.*' for each in asked)}")


@pytest.fixture
def stranger(host):
    """What starts a munged with a key of its own, and writes the settings that lead to it; both are gone in the end."""
    yield STRANGER
    host.run(f"munged --stop --socket=/run/stranger/socket; rm -rf /run/stranger; scontrol update NodeName={name(host)} Comment=")


def slurm_node(machine: Machine, *arguments: str, **options) -> tuple[bool, dict]:
    """Whether the module ended well on the machine, and its result."""
    done = ansible("ansible", machine.name, "-m", "lsst.ldf.slurm_node", "-a", json.dumps(options), *arguments)
    return done.returncode == 0, json.loads(done.stdout.partition("=>")[2])


@pytest.mark.reads
@runs
def test_the_node_is_in_its_cluster(host, settings):
    """The controller answers it, and its own daemon answers."""
    assert f"Slurmctld(primary) at {settings['slurm_central']} is UP" in host.check_output("scontrol ping")
    assert "Slurmd PID" in host.check_output("scontrol show slurmd")


@pytest.mark.reads
@controls
def test_the_controller_has_its_nodes(host, settings):
    """All of them answer, but those that it has lent."""
    for row in settings["slurm_nodes"]:
        if not node(host, row["name"])["reason"].startswith(LENT):
            wait_for(lambda row=row: not SILENT & {*node(host, row["name"])["state"]}, 30, f"{row['name']} answers")
        told = node(host, row["name"])
        assert (told["cpus"], told["real_memory"]) == (row["cpus"], row["memory_mb"])
    partitions = host.check_output("sinfo --noheader --format=%R").split()
    assert sorted(partitions) == sorted(row["name"] for row in settings["slurm_partitions"])


@pytest.mark.reads
def test_nobody_reads_the_key(host):
    assert "Permission denied" in host.run("runuser --user nobody -- cat /etc/munge/munge.key").stderr


@pytest.mark.writes
@in_molecule
@controls
def test_a_job_runs_as_its_owner_on_a_node(host, settings):
    """And what it prints comes back."""
    told = host.check_output(f"{ALICE} srun --chdir=/tmp --immediate=20 --ntasks=2 sh -c 'id -un; hostname'").split()
    assert sorted(told) == ["alice", "alice", *[settings["slurm_nodes"][0]["name"]] * 2]


@pytest.mark.writes
@in_molecule
@runs
@pytest.mark.parametrize(("key", "refused"), [("/etc/munge/munge.key", False), ("/dev/urandom", True)])
def test_without_the_key_nobody_gets_in(host, stranger, key, refused):
    """Root of a host of the cluster, by a munged of its own: with the cluster's key it works, with another one it does not."""
    host.check_output(stranger.format(key=key))
    told = host.run(f"SLURM_CONF=/run/stranger/slurm.conf scontrol update NodeName={name(host)} Comment=stranger")
    assert ("authentication" in told.stderr) == refused, told
    assert (node(host, name(host))["comment"] == "stranger") != refused


@pytest.mark.disturbs
@in_molecule
@controls
def test_a_job_goes_on_while_the_cluster_changes(host, request, submit, apply):
    """A controller that restarts, a setting that needs no restart, and another key."""
    both = under_test(request.config)
    job = submit()
    job.wait("RUNNING")
    began = job.told()["start_time"]
    host.check_output("systemctl restart slurmctld")

    def units() -> list[str]:
        return [each.host.check_output("systemctl show --property=InvocationID munge slurmctld slurmd") for each in both]

    before = units()
    assert changed(apply(to=both, slurm_settings=[{"name": "MaxJobCount", "value": "4321"}]))
    wait_for(lambda: config(host, "MaxJobCount") == "4321", 60, "the controller has its new setting")
    assert units() == before
    assert changed(apply(to=both, slurm_munge_key="another key of more than 32 characters"))
    assert units() != before
    assert job.state() == "RUNNING" and job.told()["start_time"] == began
    assert changed(apply(to=both))
    assert host.check_output(f"{ALICE} srun --chdir=/tmp --immediate=20 hostname")
    assert job.state() == "RUNNING" and job.told()["restart_cnt"] == 0


@pytest.mark.disturbs
@in_molecule
@controls
@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("MaxJobCuont", "1", "unrecognized key: MaxJobCuont. Allowed: the settings of slurm.conf(5)"),
        ("SelectType", "select/nonsense", "There is no plugin select/nonsense. Allowed: select/cons_tres select/linear"),
    ],
    ids=["a setting", "a plugin"],
)
def test_a_wrong_setting_never_goes_live(host, apply, setting, value, words):
    before = host.check_output("sha256sum /etc/slurm/slurm.conf && systemctl show --property=InvocationID slurmctld")
    done = apply(slurm_settings=[{"name": setting, "value": value}])
    told = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and words in told and "Edit slurm_settings" in told, told
    assert host.check_output("sha256sum /etc/slurm/slurm.conf && systemctl show --property=InvocationID slurmctld") == before


@pytest.mark.disturbs
@in_molecule
@controls
def test_what_only_the_controller_knows_to_be_wrong_fails_the_run(host, apply):
    """It goes on with what it had, and the next run tells again."""
    host.check_output("sinfo")
    for _ in range(2):
        done = apply(slurm_settings=[{"name": "PartitionName", "value": "other Nodes=nobody"}])
        assert done.returncode != 0 and "slurm_reconfigure error" in done.stdout, done.stdout
    assert host.check_output("sinfo --noheader --format=%R") == "main"
    assert changed(apply())


@pytest.mark.disturbs
@in_molecule
@controls
def test_a_drain_waits_for_the_job(host, machine, settings, submit):
    """And nothing starts until the node is taken back, which is for who drained it."""
    there = {"name": settings["slurm_nodes"][0]["name"], "reason": "new disks"}
    job = submit(600)
    job.wait("RUNNING")
    ended_well, told = slurm_node(machine, **there, state="drained", timeout=1, on_timeout="cancel")
    assert not ended_well and f"{job.number} of alice" in told["msg"]
    assert job.state() == "RUNNING" and "DRAIN" not in node(host, there["name"])["state"]
    ended_well, told = slurm_node(machine, "--check", **there, state="drained")
    assert told["changed"] and told["jobs"] == [{"id": int(job.number), "user": "alice"}]
    host.check_output(f"scancel {job.number}")

    job = submit(3)
    job.wait("RUNNING")
    ended_well, told = slurm_node(machine, **there, state="drained", timeout=60)
    assert (told["was"], told["state"], told["reason"], told["jobs"]) == ("active", "drained", "new disks", [])
    assert job.state() == "COMPLETED"
    late = submit(0)
    assert not slurm_node(machine, **there, state="drained")[1]["changed"]
    ended_well, told = slurm_node(machine, **there | {"reason": "another"}, state="active")
    assert not ended_well and "is drained for 'new disks'" in told["msg"]
    assert late.state() == "PENDING"
    assert slurm_node(machine, **there, state="active", timeout=30)[1]["changed"]
    late.wait("COMPLETED")


class Move:
    """move-slurm-node.yml, begun for the scenario's node, to ``htcondor`` or to ``slurm``; ``lent``: another inventory, if any."""

    def __init__(self, lent: str, to: str, wait: int = 60):
        variables = {"slurm_move": "slurm-node", "slurm_move_to": to, "slurm_move_wait": wait}
        arguments = ["--limit=slurm-node", *([lent] if lent else []), "playbooks/move-slurm-node.yml"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.run = subprocess.Popen(**call("ansible-playbook", *arguments, **variables), **pipes, process_group=0)

    def told(self, ends_well: bool) -> str:
        """What it said, when it has ended."""
        text = " ".join("".join(self.run.communicate()).split())
        assert (self.run.returncode == 0) == ends_well, text
        return text


def slots(host, constraint: str = "true") -> str:
    """The states of the pool's slots."""
    return host.check_output(f"condor_status -constraint '{constraint}' -autoformat State Activity")


@pytest.mark.disturbs
@in_molecule
@controls
def test_a_pilot_is_a_job_of_slurm_and_a_node_of_the_pool(host, machine, ask_pool):
    """It takes its user's job that asks for one and no other. Nothing is left of one that had nothing to do, or that Slurm ended."""
    there = Machine("slurm-node", machine.connection, {}).host
    named = {"from": machine.name, "pool": machine.name, "user": "alice", "kind": "slurm", "count": 1, "idle_s": 15, "memory_mb": 512}
    wanted = {f"htcondor_glidein_{key}": value for key, value in named.items()}

    def left() -> str:
        return host.check_output("squeue --noheader") + slots(host) + there.run("pgrep -u alice -a; find /tmp -name 'glidein.*'").stdout

    def events(job: str, number: str) -> int:
        return host.run(f"cat {job}.log").stdout.count(f"{number} (")

    # They are there before it, because it does not wait for them long.
    unasked, go = ask_pool("true", ""), f"/home/alice/{uuid.uuid4().hex}"
    prints = "id -un; hostname; grep -zo SLURM_JOB_ID=.* /proc/$PPID/environ"
    asked = ask_pool(f"{prints}; until [ -e {go} ]; do sleep 0.2; done", "+WantGlidein = True")
    files = "ls -lR --time-style=full-iso /usr/local /home/alice"
    before = host.check_output(files)
    assert changed(operate("glidein", f"--limit={machine.name}", "--check", **wanted)) and host.check_output(files) == before and not left()

    done = operate("glidein", f"--limit={machine.name}", **wanted)
    assert changed(done) and host.check_output("cut -d . -f 3 /home/alice/.htcondor-glidein/tokens/pilot") not in done.stdout
    wait_for(lambda: slots(host, "IsGlidein"), 90, "the pilot has joined")
    wait_for(lambda: events(asked, "001"), 60, "the job runs")
    assert host.check_output("squeue --noheader --format='%j %u %N'") == "glidein alice slurm-node"
    host.check_output("scancel --user=alice")
    wait_for(lambda: not left(), 60, "it has left")
    host.check_output(f"touch {go}")
    number = host.check_output(f"{ALICE} htcondor-glidein 1 slurm")
    wait_for(lambda: events(asked, "005"), 90, "the job is done")
    assert host.check_output(f"tr -d '\\0' <{asked}.out").split() == ["alice", "slurm-node", f"SLURM_JOB_ID={number}"]
    wait_for(lambda: not left(), 90, "the other one has left")
    assert "JobState=COMPLETED" in host.check_output(f"scontrol show job {number}")
    assert not events(unasked, "001")


@pytest.mark.disturbs
@in_molecule
@controls
def test_a_node_moves_to_the_pool_and_back(host, request, submit, ask_pool, apply, tmp_path):
    """With a job that runs there each time; neither a run of the roles nor a killed move ends it, or has both systems use the node."""
    both = under_test(request.config)
    there = next(machine.host for machine in both if machine.name == "slurm-node")
    (tmp_path / "lent.yml").write_text("slurm_lent: {hosts: {slurm-node: null}}")
    lent = f"--inventory={tmp_path}/lent.yml"
    go = f"/home/alice/{uuid.uuid4().hex}"
    first = submit(command=f"until [ -e {go} ]; do sleep 0.2; done")
    first.wait("RUNNING")

    # What is refused, and what takes too long, leaves it where it is.
    refused = "slurm_move_to slurm, but the host is slurm-node, and the inventory has it serve htcondor. Allowed: "
    assert refused in Move(lent, "slurm").told(ends_well=False)
    alone = apply(lent, to=both, molecule_roles=["htcondor"])
    assert alone.returncode and "another batch system has slurm-node" in alone.stdout and not slots(host)
    told = Move(lent, "htcondor", 1).told(ends_well=False)
    assert f"jobs run: {first.number} of alice" in told and "Allowed: a longer timeout." in told
    assert first.state() == "RUNNING" and "DRAIN" not in node(host, "slurm-node")["state"]

    # There: it waits for the job, and no other one starts.
    move = Move(lent, "htcondor")
    wait_for(lambda: "DRAIN" in node(host, "slurm-node")["state"], 30, "the node is drained")
    late = submit(0)
    there.check_output(f"touch {go}")
    move.told(ends_well=True)
    assert first.state() == "COMPLETED" and first.told()["restart_cnt"] == 0 and late.state() == "PENDING"
    assert host.check_output("sinfo --noheader --nodes=slurm-node --format=%T").startswith("drained")
    job = ask_pool(f"id -un; hostname; until [ -e {go}.2 ]; do sleep 0.2; done", "requirements = SlurmNode")
    wait_for(lambda: "001 (" in host.run(f"cat {job}.log").stdout, 30, "HTCondor's job runs")
    assert not changed(apply(lent, to=both))
    assert "Claimed" in slots(host, "SlurmNode")

    # As Slurm itself adds after five minutes without slurmd.
    host.check_output(f"scontrol update NodeName=slurm-node Reason='{LENT} : Not responding'")

    # And home: killed while it waits for the job, and run once more.
    move = Move("", "slurm")
    wait_for(lambda: "Drained" in slots(host), 30, "the node is drained")
    os.killpg(move.run.pid, signal.SIGKILL)
    move.run.wait()
    assert "Claimed" in slots(host) and late.state() == "PENDING"
    there.check_output(f"touch {go}.2")
    Move("", "slurm").told(ends_well=True)
    log = host.check_output(f"cat {job}.log")
    assert "005 (" in log and "004 (" not in log and host.check_output(f"cat {job}.out").split() == ["alice", "slurm-node"]
    late.wait("COMPLETED")
    assert host.check_output(f"{ALICE} srun --chdir=/tmp --immediate=20 --nodelist=slurm-node hostname") == "slurm-node"
    assert not slots(host)
