"""NCSA's batch systems, asked by one of its people: two HTCondor pools, a Slurm cluster beside them, and the database of what jobs did.

What a host alone can tell, and a pipeline, the roles' tests say (playbooks/verify.yml). These are about jobs that cross hosts and systems,
at production's own intervals, which are slow. They need the hosts below, converged (README.md, "Running jobs"), and are skipped without
them.
"""

from __future__ import annotations

import json
import os
import shlex
import time
import uuid
from collections.abc import Iterator

import pytest
from driving import Result, call

from plan import fqdn
from runs import PLAN, on, podman, run, until

MANAGER, ACCESS = "ncsa-htcondor-manager01", "ncsa-htcondor-submit01"
NODES = [f"ncsa-htcondor-execute{number:02}" for number in range(1, 5)]
# The test stand's pool.
STAND_MANAGER, STAND_ACCESS, STAND_NODE = "ncsa-htcondor-manager02", "ncsa-htcondor-submit02", "ncsa-htcondor-execute05"
CONTROLLER, LENT = "ncsa-slurm-controller01", "ncsa-slurm-node01"
GRID_ENGINE = "ncsa-gridengine01"
DATABASE = "ncsa-job-history01"
COMPUTE = {MANAGER, ACCESS, *NODES, STAND_MANAGER, STAND_ACCESS, STAND_NODE, CONTROLLER, LENT, "ncsa-slurm-node02", GRID_ENGINE, DATABASE}
PERSON = "operator01"
LEVELS = ["WRITE", "DAEMON", "ADMINISTRATOR", "ADVERTISE_STARTD", "ADVERTISE_SCHEDD", "ADVERTISE_MASTER"]
# Of jobs' logs.
BEGUN, EVICTED, DONE, HELD, RECONNECTED, LOST = "001", "004", "005", "012", "023", "024"
JOB = """
executable = /bin/sh
transfer_executable = false
should_transfer_files = true
arguments = "-c '{command}'"
log = {place}/log
request_cpus = 1
request_memory = 50
request_disk = 1024
{more}
queue {count}
"""
MANY = 2000
# What is refused, and what of it is told.
WRONG = [
    ({"htcondor_settings": [{"name": "NUM_CPU", "value": "4"}]}, "sets NUM_CPU (NUM_CPUS?), which nothing reads"),
    ({"htcondor_start": "(Memory >"}, "has START = (Memory >, which is no expression"),
    ({"htcondor_settings": [{"name": "A", "value": "1\nuse ROLE:Exekute"}]}, "use ROLE:Exekute: does not recognise Exekute"),
    ({"htcondor_settings": [{"name": "UPDATE_INTERVAL", "value": "-5x"}]}, "has UPDATE_INTERVAL = -5x, which is no expression"),
]
SETTINGS = "/etc/condor/config.d/50-lsst.conf"


@pytest.fixture(scope="module", autouse=True)
def compute() -> list[str]:
    """The running hosts of NCSA."""
    names = podman("ps", "--format", "{{.Names}}", "--filter", "label=lsst.lab").split()
    if missing := sorted(COMPUTE - set(names)):
        pytest.skip(f"NCSA's compute is not in the lab: {', '.join(missing)}. Start it, see README.md, Running jobs")
    return sorted(name for name in names if name.startswith("ncsa-"))


class Jobs:
    """Jobs of a person, submitted on a host, and what their log says. ``more``: further commands of the submission."""

    def __init__(self, host: str, command: str, count: int = 1, **more: str):
        self.host, self.count, self.place = host, count, f"/var/tmp/lsst-test-{uuid.uuid4().hex}"
        lines = "\n".join(f"{name} = {value}" for name, value in more.items())
        text = JOB.format(command=command, place=self.place, more=lines, count=count)
        on(host, f"install -d -o {PERSON} {self.place}")
        self.cluster = on(host, f"cd {self.place}; printf %s {shlex.quote(text)} | {as_person('condor_submit -terse -')}").split(".")[0]

    def events(self, number: str) -> int:
        """How often something happened to them."""
        return int(on(self.host, f"grep -c '^{number} (' {self.place}/log || true").strip() or 0)

    def wait(self, number: str, seconds: float) -> None:
        until(lambda: self.events(number) >= self.count, seconds, f"{self.count} jobs of {self.host} have the event {number}")

    def printed(self) -> list[str]:
        """The words of all their files out.N."""
        return on(self.host, f"cat {self.place}/out.*").split()

    def past(self, *attributes: str) -> list[dict]:
        return ads(self.host, f"condor_history {self.cluster} -attributes {','.join(attributes)}")

    def remove(self) -> None:
        on(self.host, f"condor_rm {self.cluster}; rm -rf {self.place}", check=False)


@pytest.fixture
def jobs() -> Iterator[type[Jobs]]:
    """Starts jobs, which are removed in the end."""
    started: list[Jobs] = []

    def start(*arguments, **more) -> Jobs:
        started.append(Jobs(*arguments, **more))
        return started[-1]

    yield start
    for each in started:
        each.remove()


def as_person(command: str) -> str:
    return f"runuser -u {PERSON} -- {command}"


def ads(host: str, command: str) -> list[dict]:
    return json.loads(on(host, f"{command} -json").strip() or "[]")


def machine(host: str) -> str:
    """A job's requirement to run there."""
    return f'(Machine == "{fqdn(host, PLAN)}")'


def state(manager: str, host: str) -> set[str]:
    """Of its slots."""
    return set(on(manager, f"condor_status -constraint '{machine(host)}' -autoformat State").split())


def operate(playbook: str, host: str, *arguments: str, **variables) -> str:
    """What a playbook of operations said, which has to end well."""
    done = call("ansible-playbook", *arguments, f"--limit={host}", "-e", json.dumps(variables), f"playbooks/{playbook}.yml", timeout=600)
    assert done.rc == 0, done.text
    return done.text


def wait_rounds(count: int) -> None:
    """Until the main pool's negotiator has looked at all jobs so many times again."""
    rounds = "grep -c 'Finished Negotiation Cycle' $(condor_config_val NEGOTIATOR_LOG)"
    before = int(on(MANAGER, rounds))
    until(lambda: int(on(MANAGER, rounds)) >= before + count, count * 180, f"{count} more rounds")


def database(query: str) -> str:
    """What the job history has for it, after an export."""
    on(ACCESS, "systemctl start job-history-export")
    command = f"cd /; runuser -u nobody -- psql -XAt -U job_history_reader job_history -c {shlex.quote(query)}"
    return on(DATABASE, command).strip()


def settle(host: str, **settings) -> Result:
    """The role on a host, with settings in the place of the inventory's, all of which it has again by ``settle(host)``."""
    return call("ansible-playbook", f"--limit={host}", "--tags=htcondor", "-e", json.dumps(settings), "site.yml", timeout=600)


def settled(host: str, **settings) -> None:
    done = settle(host, **settings)
    assert done.rc == 0, done.text


def allowed(host: str, *where: str, user: str = "root") -> list[str]:
    """What a user of the host may ask of a daemon, but reading."""
    ask = f"runuser -u {user} -- condor_ping -quiet {' '.join(where)}"
    return on(host, f"for level in {' '.join(LEVELS)}; do {ask} $level >/dev/null 2>&1 && echo $level; done; true").split()


def test_another_run_changes_nothing_and_restarts_nothing(compute):
    """Nor would it, says a check; no master started or read its settings once more."""
    times = "condor_status -master -autoformat Machine DaemonStartTime DaemonLastReconfigTime | sort"
    before = [on(manager, times) for manager in (MANAGER, STAND_MANAGER)]
    for arguments in ([], ["--check"]):
        done = run(f"--limit={','.join(compute)}", *arguments)
        assert done.rc == 0 and not done.changed(), (arguments, done.changed(), done.text[-3000:])
    assert [on(manager, times) for manager in (MANAGER, STAND_MANAGER)] == before
    assert len(before[0].splitlines()) == 6 and len(before[1].splitlines()) == 3


def test_who_is_of_another_pool_may_nothing():
    """A node's token is good in its own pool alone, a submit host's in the other one for its schedd alone; people administer nothing."""
    elsewhere = ["-pool", fqdn(MANAGER, PLAN), "-type", "collector"]
    assert allowed(STAND_NODE, "-type", "collector") == ["ADVERTISE_STARTD", "ADVERTISE_MASTER"]
    assert allowed(STAND_NODE, *elsewhere) == []
    assert allowed(STAND_ACCESS, *elsewhere) == ["ADVERTISE_SCHEDD"]
    assert allowed(ACCESS, "-pool", fqdn(STAND_MANAGER, PLAN), "-type", "collector") == []
    assert "WRITE" in (may := allowed(ACCESS, "-type", "schedd", user=PERSON)) and "ADMINISTRATOR" not in may


def test_jobs_run_as_their_owner_on_all_nodes_and_are_remembered(jobs):
    started = jobs(ACCESS, "id -un; hostname; sleep 15", 8, output="out.$(Process)")
    started.wait(DONE, 180)
    assert {*started.printed()} == {PERSON, *NODES}
    past = started.past("Owner", "ExitCode", "ResidentSetSize")
    assert [(job["Owner"], job["ExitCode"]) for job in past] == [(PERSON, 0)] * 8
    assert any(job["ResidentSetSize"] > 0 for job in past)
    submit = "printf 'executable = /bin/true\\nqueue\\n' | {} 2>&1 && echo submitted; true"
    assert "submitted" not in on(ACCESS, submit.format("condor_submit -"))
    assert "submitted" not in on(NODES[0], submit.format(as_person("condor_submit -")))


def test_a_node_that_stopped_is_in_its_pool_again_as_who_it_is():
    """15 s after the run has ended; three times as long is waited for."""
    node = NODES[3]
    on(node, "systemctl stop condor")
    until(lambda: not state(MANAGER, node), 60, "the pool has it no longer")
    settled(node)
    me = f"execute@{on(node, 'condor_config_val TRUST_DOMAIN').strip()}"
    query = f"condor_status -any -constraint '{machine(node)}' -autoformat MyType AuthenticatedIdentity"
    until(lambda: {f"Machine {me}", f"DaemonMaster {me}"} <= {*on(MANAGER, query).splitlines()}, 45, "the pool has it again")


def test_what_is_wrong_never_goes_live(jobs):
    node = NODES[1]
    started = jobs(ACCESS, "sleep 600", requirements=machine(node))
    started.wait(BEGUN, 120)
    live = f"cat {SETTINGS}; pgrep -a 'condor_(master|start)'"
    before = on(node, live)
    for wrong, told in WRONG:
        done = settle(node, **wrong)
        assert done.rc and told in " ".join(done.text.split()), done.text
    assert on(node, live) == before and not started.events(EVICTED) and not started.events(DONE)


def test_a_harmless_change_restarts_nothing_and_other_slots_wait_for_the_job(jobs):
    node = NODES[2]
    slot = f"condor_status -constraint '{machine(node)} && SlotType == \"Partitionable\"' -autoformat Room TotalCpus"
    started = jobs(ACCESS, "sleep 90", requirements=machine(node))
    started.wait(BEGUN, 120)
    daemons = "pgrep -a 'condor_(master|start)'"
    before, room = on(node, daemons), [{"name": "Room", "value": '"other"'}]
    try:
        settled(node, htcondor_attributes=room)
        until(lambda: on(MANAGER, slot).split() == ["other", "2.0"], 60, "it says where it is")
        assert on(node, daemons) == before and not started.events(DONE)
        settled(node, htcondor_attributes=room, htcondor_cpus=3)
        assert started.events(DONE) == 1
        until(lambda: on(MANAGER, slot).split() == ["other", "3.0"], 60, "it has its new slots")
    finally:
        settled(node)
    assert not started.events(EVICTED)
    until(lambda: on(MANAGER, slot).split() == ["undefined", "2.0"], 60, "it has its own slots again")


def test_a_token_that_is_revoked_or_ends_soon():
    """The host alone is out by whose token it is, and gets another one when that ends tomorrow. No other host's is made anew."""
    lost, others = NODES[3], [ACCESS, *NODES[:3]]
    own, collector = ["ADVERTISE_STARTD", "ADVERTISE_MASTER"], ["-type", "collector"]

    def token(host: str) -> dict:
        """What its token says."""
        return json.loads(on(host, "condor_token_list").partition("Payload: ")[2].partition(" File:")[0])

    assert allowed(lost, *collector) == own
    told, before = token(lost), [token(host) for host in others]
    create = f"condor_token_create -identity {told['sub']} -lifetime 86400 -authz {' -authz '.join(['READ', *own])}"
    revoked = {"name": "SEC_TOKEN_REVOCATION_EXPR", "value": f'jti =?= "{told["jti"]}"'}
    try:
        settled(MANAGER, htcondor_settings=[revoked])
        assert allowed(lost, *collector) == [] and allowed(NODES[0], *collector) == own
        on(lost, f"cat >/etc/condor/tokens.d/pool <<'EOF'\n{on(MANAGER, create)}EOF")
        settled(",".join([lost, *others]))
        assert token(lost)["exp"] > time.time() + 300 * 86400 and allowed(lost, *collector) == own
        assert [token(host) for host in others] == before
    finally:
        settled(MANAGER)


def test_groups_get_their_shares(jobs):
    """Of eight processors one gets six, the other two, over three rounds of the negotiator; both ask for more."""
    busy = "condor_status -constraint 'State == \"Claimed\"' -autoformat AccountingGroup | cut -d. -f1 | sort | uniq -c"
    shares = [{"name": "group_prod", "share": 0.75}, {"name": "group_dev", "share": 0.25}]
    try:
        settled(MANAGER, htcondor_groups=shares)
        for each in shares:
            jobs(ACCESS, "sleep 900", 9, accounting_group=each["name"], accounting_group_user=PERSON)
        until(lambda: on(MANAGER, busy).split() == ["2", "group_dev", "6", "group_prod"], 300, "each has its share")
        wait_rounds(3)
        assert on(MANAGER, busy).split() == ["2", "group_dev", "6", "group_prod"]
    finally:
        settled(MANAGER)


def test_a_drain_waits_for_the_job(jobs):
    """By the operation's own playbook; one that may not wait so long is taken back, one more finds nothing to do."""
    node = NODES[0]
    started = jobs(ACCESS, "sleep 90", requirements=machine(node))
    started.wait(BEGUN, 120)
    short = json.dumps({"htcondor_drain": node, "htcondor_drain_wait": 5})
    done = call("ansible-playbook", f"--limit={node}", "-e", short, "playbooks/drain-node.yml", timeout=600)
    assert done.rc and "with 1 jobs after 5 s, not drained." in " ".join(done.text.split()), done.text
    until(lambda: "Drained" not in state(MANAGER, node), 60, "it takes jobs again")
    try:
        operate("drain-node", node, htcondor_drain=node)
        assert started.events(DONE) == 1 and not started.events(EVICTED)
        operate("drain-node", node, htcondor_drain=node)
        assert state(MANAGER, node) == {"Drained"}
    finally:
        operate("drain-node", node, htcondor_drain=node, htcondor_drain_state="active")
    until(lambda: state(MANAGER, node) == {"Unclaimed"}, 60, "the pool has it again")


def test_a_restart_where_jobs_wait_loses_none(jobs):
    started = jobs(ACCESS, "sleep 60", 2)
    started.wait(BEGUN, 120)
    on(ACCESS, "systemctl restart condor")
    started.wait(RECONNECTED, 120)
    started.wait(DONE, 180)
    assert not started.events(EVICTED) and not started.events(LOST)


def test_the_test_stands_jobs_go_to_the_main_pool_when_it_has_no_room(jobs):
    """And wait, when neither pool has it so any more."""
    both = f"{STAND_ACCESS},{MANAGER}"
    operate("drain-node", STAND_NODE, htcondor_drain=STAND_NODE)
    try:
        gone = jobs(STAND_ACCESS, "id -un; hostname", 3, output="out.$(Process)")
        gone.wait(DONE, 600)
        operate("flock", both, htcondor_flock=STAND_ACCESS, htcondor_flock_from=[], htcondor_flock_to=[])
        stays = jobs(STAND_ACCESS, "true", 3)
        wait_rounds(2)
        assert not stays.events(BEGUN)
    finally:
        operate("flock", both, htcondor_flock=STAND_ACCESS)
        operate("drain-node", STAND_NODE, htcondor_drain=STAND_NODE, htcondor_drain_state="active")
    words = gone.printed()
    assert words.count(PERSON) == 3 and {*words} - {PERSON} <= {*NODES}
    assert [job["LastRemotePool"] for job in gone.past("LastRemotePool")] == [fqdn(MANAGER, PLAN)] * 3
    stays.wait(DONE, 300)


def test_a_node_of_slurm_serves_the_pool_and_comes_back(jobs, tmp_path):
    """As the inventory has it lent, and not any more; no job is ended by it."""
    lent = tmp_path / "lent.yml"
    lent.write_text(json.dumps({"slurm_lent": {"hosts": {LENT: {}}}}))
    inventories = ["-i", "inventories/production", "-i", "inventories/lab"]
    submit = as_person(f"sbatch --parsable --chdir=/tmp --output=/dev/null --nodelist={LENT} --wrap 'sleep 30'")
    number = on(CONTROLLER, submit).strip()
    told = f"scontrol show job {number} --oneliner | grep -o 'JobState=[A-Z]*'"
    until(lambda: "RUNNING" in on(CONTROLLER, told), 30, "Slurm's job runs")
    operate("move-slurm-node", LENT, *inventories, "-i", str(lent), slurm_move=LENT, slurm_move_to="htcondor")
    try:
        assert "COMPLETED" in on(CONTROLLER, told)
        assert on(CONTROLLER, f"sinfo --noheader --nodes={LENT} --format=%T").startswith("drained")
        served = jobs(ACCESS, "id -un; hostname", requirements="SlurmNode", output="out.$(Process)")
        served.wait(DONE, 180)
        assert served.printed() == [PERSON, LENT]
    finally:
        operate("move-slurm-node", LENT, *inventories, slurm_move=LENT, slurm_move_to="slurm")
    assert not state(MANAGER, LENT)
    assert on(CONTROLLER, as_person(f"srun --chdir=/tmp --immediate=60 --nodelist={LENT} hostname")).strip() == LENT


class Pilots:
    """Pilots for the person's jobs, and a job that asks for none."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.unasked = jobs(ACCESS, "true", requirements="IsGlidein")

    def send(self, host: str, kind: str) -> None:
        """One, by the operation's own playbook; it has joined soon afterwards."""
        named = {"from": host, "pool": MANAGER, "user": PERSON, "kind": kind, "count": 1, "idle_s": 30, "memory_mb": 512}
        operate("glidein", host, **{f"htcondor_glidein_{key}": value for key, value in named.items()})
        until(self.there, 90, "the pilot has joined")

    def there(self) -> str:
        return on(MANAGER, "condor_status -constraint IsGlidein -autoformat Machine")

    def serve(self) -> str:
        """The host of a job that asks for one."""
        done = self.jobs(ACCESS, "id -un; hostname", requirements="IsGlidein", output="out.$(Process)", **{"+WantGlidein": "True"})
        done.wait(DONE, 300)
        user, host = done.printed()
        assert user == PERSON
        return host

    def leave(self) -> None:
        """When nobody needs them; they took nobody else's job."""
        until(lambda: not self.there(), 180, "they have left")
        assert not self.unasked.events(BEGUN)


@pytest.fixture
def pilots(jobs) -> Pilots:
    return Pilots(jobs)


def test_pilots_come_as_slurms_jobs_and_leave(pilots):
    """Sent by hand first, then by what looks at jobs that wait (role bps)."""
    nodes = {LENT, "ncsa-slurm-node02"}
    pilots.send(ACCESS, "slurm")
    assert pilots.serve() in nodes
    pilots.leave()
    command = "/usr/local/bin/htcondor-glidein {count} slurm"
    activator = {"command": command, "user": PERSON, "seconds": 10, "wait_s": 5, "pilots": 1, "pilot_cpus": 1}
    begin = {f"bps_activator_{key}": value for key, value in activator.items()}
    try:
        done = call("ansible-playbook", f"--limit={ACCESS}", "--tags=bps", "-e", json.dumps(begin), "site.yml", timeout=600)
        assert done.rc == 0, done.text
        assert pilots.serve() in nodes
    finally:
        done = call("ansible-playbook", f"--limit={ACCESS}", "--tags=bps", "site.yml", timeout=600)
    assert done.rc == 0, done.text
    pilots.leave()
    until(lambda: not on(CONTROLLER, "squeue --noheader"), 60, "Slurm has no job of theirs")


def test_pilots_come_as_grid_engines_jobs_and_leave(pilots):
    """Debian's Grid Engine stands in for NCSA's own."""
    done = call("ansible-playbook", f"--limit={GRID_ENGINE}", "lab/gridengine.yml", timeout=600)
    assert done.rc == 0, done.text
    pilots.send(GRID_ENGINE, "sge")
    assert pilots.serve() == GRID_ENGINE
    pilots.leave()
    until(lambda: not on(GRID_ENGINE, "qstat -u '*'"), 60, "Grid Engine has no job of theirs")


def test_a_pipelines_jobs_are_in_the_database():
    """A test of the role bps submits one, and waits for its end."""
    began = int(time.time())
    done = call("ansible-playbook", f"--limit={ACCESS}", "playbooks/verify.yml", timeout=1800)
    assert done.rc == 0, done.text
    where = f"bps_run LIKE 'u!_%!_toy!_%' ESCAPE '!' AND bps_job_label IS NOT NULL AND submitted >= to_timestamp({began})"
    assert database(f"SELECT count(*), count(DISTINCT id), min(exit_code), max(exit_code) FROM job WHERE {where}") == "7|7|0|0"


def test_each_of_many_jobs_is_in_the_database_once(jobs):
    """Also after another export; the pool keeps up with them."""
    mark, began = uuid.uuid4().hex, time.monotonic()
    many = jobs(ACCESS, "true", MANY, **{"max_idle": "200", "+bps_run": f'"{mark}"'})
    many.wait(DONE, 900)
    rate = MANY / (time.monotonic() - began) * 60
    print(f"{rate:.0f} jobs a minute, load {os.getloadavg()[0]:.0f}")
    assert not many.events(HELD) and not many.events(EVICTED)
    query = f"SELECT count(*), count(DISTINCT id), min(exit_code), max(exit_code) FROM job WHERE bps_run = '{mark}'"
    for _ in range(2):
        assert database(query) == f"{MANY}|{MANY}|0|0"
    assert rate >= 150 or os.getloadavg()[0] > 15
