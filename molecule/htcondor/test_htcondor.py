"""htcondor, asked by who has jobs, and by hosts that may do little: who gets in, where jobs run, and that none is ended by a change."""

from __future__ import annotations

import json
import re
import shlex
import uuid

import pytest

from conftest import Machine, ansible, changed, operate, wait_for, words

# The second pool of the scenario is there for what one does with the other.
in_molecule = pytest.mark.where(lambda machine: machine.in_molecule and machine.name != "htcondor-second")
second = pytest.mark.where(lambda machine: machine.in_molecule and machine.name == "htcondor-second")
manages = pytest.mark.where(lambda machine: machine.settings["htcondor"]["htcondor_manager"])
submits = pytest.mark.where(lambda machine: machine.settings["htcondor"]["htcondor_submit"])
runs = pytest.mark.where(lambda machine: not machine.settings["htcondor"]["htcondor_lent"])
executes = pytest.mark.where(
    lambda machine: {"htcondor_execute": True, "htcondor_lent": False}.items() <= machine.settings["htcondor"].items()
)
# Of jobs' logs: begun, ended by somebody, reconnected, done.
BEGUN, EVICTED, RECONNECTED, DONE = "001", "004", "023", "005"
LIVE = "/etc/condor/config.d/50-lsst.conf"
# Who runs, but those that come and go with jobs.
DAEMONS = "pgrep -a 'condor_(master|procd|schedd|shared_p|startd)'"
# The main pool's name for another one.
MAIN = "htcondor-manager.pool.test"
# What a job of the tests asks for.
SMALL = {
    "executable": "/bin/sh",
    "transfer_executable": "false",
    "should_transfer_files": "true",
    "request_cpus": "1",
    "request_memory": "50",
    "request_disk": "1024",
}


def ads(host, command: str) -> list[dict]:
    """What a query finds."""
    text = host.check_output(f"{command} -json").strip()
    return json.loads(text) if text else []


def own(host) -> str:
    return host.check_output("condor_config_val FULL_HOSTNAME")


def identity(settings) -> str:
    """Who the host is for its pool."""
    duties = [duty for duty in ("submit", "execute") if settings[f"htcondor_{duty}"]]
    return "condor@family" if settings["htcondor_manager"] else f"{'-'.join(duties)}@{settings['htcondor_pool']}"


def allowed(host, daemon: str = "collector", user: str = "root", pool: str = "") -> set[str]:
    """What a user of the host may ask of a daemon, but reading; ``pool``: another pool's manager."""
    levels = ["WRITE", "DAEMON", "ADMINISTRATOR", "ADVERTISE_STARTD", "ADVERTISE_SCHEDD", "ADVERTISE_MASTER"]
    told = host.run(f"runuser -u {user} -- condor_ping -table {pool and f'-pool {pool}'} -type {daemon} {' '.join(levels)}").stdout
    rows = [line.split() for line in told.splitlines() if line.split()[:1] and line.split()[0] in levels]
    assert [row[0] for row in rows] == levels, told
    return {row[0] for row in rows if row[4] == "ALLOW"}


def module(machine: str, name: str, **options) -> dict:
    """The result of a module that is run on a machine."""
    done = ansible("ansible", machine, "-m", f"lsst.ldf.{name}", "-a", json.dumps(options))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.partition("=>")[2])


class Jobs:
    """Jobs of alice, and what their log says."""

    def __init__(self, host, command: str, count: int, **more: str):
        self.host, self.log = host, f"/home/alice/{uuid.uuid4().hex}.log"
        settings = SMALL | {"arguments": f"\"-c '{command}'\"", "log": self.log} | more
        text = "".join(f"{name} = {value}\n" for name, value in settings.items()) + f"queue {count}\n"
        told = host.check_output(f"printf %s {shlex.quote(text)} | runuser -u alice -- condor_submit -terse -")
        self.cluster, self.count = told.split(".")[0], count

    def events(self, number: str) -> int:
        """How often something happened to them."""
        return len(re.findall(rf"^{number} \(", self.host.run(f"cat {self.log}").stdout, re.MULTILINE))

    def running(self) -> list[str]:
        """The machines on which they run."""
        found = ads(self.host, f"condor_q {self.cluster} -allusers -constraint 'JobStatus == 2' -attributes RemoteHost")
        return [ad["RemoteHost"].rpartition("@")[2] for ad in found if "RemoteHost" in ad]

    def wait_running(self, seconds: float = 40) -> list[str]:
        """The queue says so a moment before a job has begun, and nobody finds a job again that had not."""

        def found() -> list[str]:
            hosts = self.running() if self.events(BEGUN) >= self.count else []
            return hosts if len(hosts) == self.count else []

        return wait_for(found, seconds, f"{self.count} jobs run")

    def wait_done(self, seconds: float = 60) -> None:
        wait_for(lambda: self.events(DONE) == self.count, seconds, f"{self.count} jobs are done")
        assert not self.events(EVICTED)

    def remove(self) -> None:
        self.host.run(f"condor_rm {self.cluster}; rm -f {self.log}*")


@pytest.fixture
def jobs(machine):
    """Starts jobs on the main pool's submit machine or another one, ``jobs(command, count)``; they are removed in the end."""
    started: list[Jobs] = []

    def start(command: str = "sleep 300", count: int = 1, at: str = "htcondor-access", **more: str) -> Jobs:
        started.append(Jobs(other(machine, at), command, count, **more))
        return started[-1]

    yield start
    for each in started:
        each.remove()


def other(machine, name: str):
    """testinfra's handle of another host of the scenario."""
    return Machine(name, machine.connection, {}).host


@runs
@pytest.mark.reads
def test_it_is_in_its_pool_as_who_it_is(host, settings):
    """With all of its daemons, as the pool's manager knows them."""
    name, me = own(host), identity(settings)
    masters = f"condor_status -master -constraint 'Machine == \"{name}\"' -attributes AuthenticatedIdentity"
    wait_for(lambda: [ad["AuthenticatedIdentity"] for ad in ads(host, masters)] == [me], 30, f"{name} is in the pool as {me}")
    for duty, query in (("submit", "-schedd"), ("execute", "-startd")):
        command = f"condor_status {query} -constraint 'Machine == \"{name}\"' -attributes AuthenticatedIdentity"
        assert bool(ads(host, command)) == settings[f"htcondor_{duty}"]


@pytest.mark.reads
def test_it_may_do_its_own_and_nothing_else(host, settings):
    """The manager's root, who needs no token, may do all."""
    if settings["htcondor_manager"]:
        assert len(allowed(host)) == 6
    else:
        duties = {"submit": "ADVERTISE_SCHEDD", "execute": "ADVERTISE_STARTD"}
        assert allowed(host) == {"ADVERTISE_MASTER"} | {level for duty, level in duties.items() if settings[f"htcondor_{duty}"]}
        told = host.check_output("condor_ping -table -type collector ADVERTISE_MASTER").splitlines()[-1]
        assert told.split()[1:] == ["IDTOKENS", "AES", "AES", "ALLOW", identity(settings)]


@runs
@pytest.mark.reads
def test_only_the_manager_has_a_key(host, settings):
    """And the daemons read no other directory than this."""
    host.check_output("systemctl is-active condor")
    directory = host.check_output("condor_config_val SEC_PASSWORD_DIRECTORY")
    assert bool(host.check_output(f"ls {directory}")) == settings["htcondor_manager"]
    secret = host.check_output(f"find {directory} $(condor_config_val SEC_TOKEN_SYSTEM_DIRECTORY) -printf '%m %u\\n'").split("\n")
    assert set(secret) == {"700 root", "600 root"}


@executes
@pytest.mark.reads
def test_it_offers_what_it_was_told(host, settings):
    """One slot to cut jobs' pieces off."""
    [slot] = ads(host, f'condor_status -constraint \'Machine == "{own(host)}" && SlotType == "Partitionable"\'')
    if settings["htcondor_cpus"]:
        assert slot["TotalCpus"] == settings["htcondor_cpus"]
    for attribute in settings["htcondor_attributes"]:
        assert attribute["name"] in slot
    assert slot["MaxJobRetirementTime"] == settings["htcondor_retirement_s"]


@submits
@in_molecule
@pytest.mark.writes
def test_jobs_run_as_their_owner_on_all_nodes(machine, host):
    """And are remembered with what they took."""
    out = f"/home/alice/{uuid.uuid4().hex}"
    description = SMALL | {"arguments": "\"-c 'id -un; sleep 3'\"", "output": f"{out}.$(Process)"}
    try:
        done = module(machine.name, "htcondor_job", user="alice", count=8, timeout=60, description=description)
        assert [job["exit_code"] for job in done["jobs"]] == [0] * 8
        assert {job["host"] for job in done["jobs"]} == {"htcondor-access.pool.test", "htcondor-execute.pool.test"}
        assert host.check_output(f"cat {out}.*").split() == ["alice"] * 8
        past = ads(host, f"condor_history {done['cluster']} -attributes ResidentSetSize")
        assert any(ad["ResidentSetSize"] > 0 for ad in past)
    finally:
        host.run(f"rm -f {out}*")


@submits
@in_molecule
@pytest.mark.reads
def test_people_may_submit_and_not_administer(host):
    assert "WRITE" in (may := allowed(host, "schedd", "alice")) and "ADMINISTRATOR" not in may
    # Who has no token may look at the pool.
    assert len(host.check_output("runuser -u alice -- condor_status -autoformat Name").split()) >= 2


@submits
@in_molecule
@pytest.mark.writes
def test_root_has_no_jobs(host):
    host.check_output("systemctl is-active condor")
    refused = host.run("printf 'executable = /bin/true\\nqueue\\n' | condor_submit -terse -")
    assert refused.rc and "Cannot allocate a cluster id" in refused.stderr


@submits
@in_molecule
@pytest.mark.disturbs
def test_groups_get_their_shares(machine, host, apply, jobs):
    """Both ask for more than there is; of 8 processors one gets 6, the other 2, and it stays so.

    Groups that went with their jobs running are not taken for full when they come back.
    """
    manager = [Machine("htcondor-manager", machine.connection, {})]

    def share() -> list[Jobs]:
        both = [jobs(count=9, accounting_group=f"group_{name}", accounting_group_user="alice") for name in ("prod", "dev")]
        wait_for(lambda: [len(each.running()) for each in both] == [6, 2], 60, "each group has its share")
        return both

    both = share()
    # Three rounds and more of the negotiator.
    host.check_output("sleep 7")
    assert [len(each.running()) for each in both] == [6, 2]
    try:
        assert changed(apply(to=manager, htcondor_groups=[]))
        for each in both:
            each.remove()
        wait_for(lambda: "Claimed" not in host.check_output("condor_status -autoformat State"), 60, "no job runs")
    finally:
        assert changed(apply(to=manager))
    share()


@submits
@in_molecule
@pytest.mark.disturbs
def test_a_restart_where_jobs_wait_loses_none(host, jobs):
    started = jobs(count=2, requirements=f'(Machine != "{own(host)}")')
    started.wait_running()
    host.check_output("systemctl restart condor")
    wait_for(lambda: started.events(RECONNECTED) == 2, 60, "both jobs are found again")
    assert not started.events(EVICTED) and len(started.wait_running()) == 2


@executes
@pytest.mark.once
@in_molecule
@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"htcondor_settings": [{"name": "NUM_CPU", "value": "4"}]}, f"{LIVE} sets NUM_CPU (NUM_CPUS?), which nothing reads. Allowed: "),
        (
            {
                "htcondor_cpus": 0,
                "htcondor_settings": [{"name": "UPDATE_INTERVAL", "value": "-5x"}, {"name": "NUM_CPUS", "value": "eight"}],
            },
            f"{LIVE} has UPDATE_INTERVAL = -5x, which is no expression; NUM_CPUS = eight, which is not a whole number",
        ),
        (
            {"htcondor_settings": [{"name": "A", "value": "1\nuse ROLE:Exekute"}]},
            f"{LIVE}: condor_config_val -summary failed: Error: use ROLE:Exekute: does not recognise Exekute",
        ),
        ({"htcondor_pool": "main pool"}, "htcondor_pool main pool, htcondor_uid_domain"),
        (
            {"htcondor_groups": [{"name": "a", "share": 0.7}, {"name": "b", "share": 0.7}]},
            "htcondor_groups has a, b with the shares 0.7, 0.7.",
        ),
    ],
)
def test_what_is_wrong_never_goes_live(machine, host, apply, wrong, told):
    state = f"systemctl is-active condor; cat {LIVE}; {DAEMONS}"
    before = host.check_output(state)
    done = apply(**wrong)
    assert done.returncode != 0 and told in words(done), done.stdout
    assert host.check_output(state) == before


@executes
@pytest.mark.once
@in_molecule
@pytest.mark.disturbs
def test_a_harmless_change_ends_no_job_and_restarts_nothing(machine, host, apply, jobs):
    started = jobs(requirements=f'(Machine == "{own(host)}")')
    started.wait_running()
    before = host.check_output(DAEMONS)
    try:
        assert changed(apply(htcondor_attributes=[{"name": "Room", "value": '"other"'}]))
        room = f"condor_status -constraint 'Machine == \"{own(host)}\"' -autoformat Room"
        wait_for(lambda: set(host.check_output(room).split()) == {"other"}, 60, "it says so")
        assert started.running() and not started.events(EVICTED) and host.check_output(DAEMONS) == before
    finally:
        apply()


@executes
@pytest.mark.once
@in_molecule
@pytest.mark.disturbs
def test_other_slots_wait_for_the_jobs(machine, host, apply, jobs):
    """A run that waits too short leaves the node as it was, and the restart due. One node is drained after the other."""
    name = own(host)
    go = f"/srv/lsst-test-{uuid.uuid4().hex}"
    started = jobs(f"until [ -e {go} ]; do sleep 1; done; sleep 5", 2, requirements=f'(Machine == "{name}")')
    started.wait_running()
    nodes = [machine, Machine("htcondor-access", machine.connection, {})]
    slot = f'condor_status -constraint \'Machine == "{name}" && SlotType == "Partitionable"\' -autoformat TotalCpus State'

    def drained(node) -> int:
        """When its last drain began."""
        log = "$(condor_config_val STARTD_LOG)"
        return int(node.host.check_output(f"date +%s -d \"$(grep 'Processing drain request' {log} | tail -n 1 | cut -c 1-17)\""))

    def began(node) -> int:
        """When its startd started."""
        return int(node.host.check_output('date +%s -d "$(ps -C condor_startd -o lstart=)"'))

    try:
        done = apply(htcondor_cpus=3, htcondor_drain_s=2)
        assert done.returncode != 0 and f"2 jobs still run on {name} after 2 s; it keeps its old slots and takes jobs again." in words(done)
        wait_for(lambda: host.check_output(slot).split() == ["4.0", "Unclaimed"], 60, "it takes jobs again")
        assert changed(apply("--check", htcondor_cpus=3)) and len(started.running()) == 2
        host.check_output(f"touch {go}")
        assert changed(apply(htcondor_cpus=3, to=nodes))
        wait_for(lambda: host.check_output(slot).split() == ["3.0", "Unclaimed"], 60, "it has its new slots")
        started.wait_done(5)
        assert max(map(drained, nodes)) >= min(map(began, nodes))
        assert not changed(apply(htcondor_cpus=3, to=nodes))
    finally:
        host.run(f"rm -f {go}")
        apply(to=nodes)


@executes
@pytest.mark.once
@in_molecule
@pytest.mark.disturbs
def test_a_node_leaves_its_pool_when_its_jobs_have_ended(machine, host, jobs):
    """A drain that may not wait so long is taken back. Neither it nor the end of a startd ends a job."""
    name = own(host)
    go = f"/srv/lsst-test-{uuid.uuid4().hex}"

    def run(**variables):
        return operate("drain-node", f"--limit={machine.name}", htcondor_drain=machine.name, **variables)

    def state() -> str:
        return host.check_output(f"condor_status -constraint 'Machine == \"{name}\"' -autoformat State")

    refused = operate("drain-node", f"--limit={machine.name}", htcondor_drain="another-host")
    assert f"htcondor_drain is another-host, but the host is {machine.name}. Allowed: " in words(refused)
    started = jobs(f"until [ -e {go} ]; do sleep 1; done; sleep 5", 1, requirements=f'(Machine == "{name}")')
    started.wait_running()
    try:
        done = run(htcondor_drain_wait=2)
        assert done.returncode != 0 and "with 1 jobs after 2 s, not drained. Allowed: " in words(done), done.stdout
        wait_for(lambda: "Drained" not in state(), 60, "it takes jobs again")
        host.check_output(f"touch {go}")
        assert changed(run(htcondor_drain_for="new disks")) and state() == "Drained"
        started.wait_done(5)
        refused = run(htcondor_drain_state="active")
        assert "is drained for 'new disks'. Allowed: the reason 'Ansible', which is this one's." in words(refused)
        assert changed(run(htcondor_drain_state="active", htcondor_drain_for="new disks"))
        wait_for(lambda: state() == "Unclaimed", 60, "it takes jobs again")
        started = jobs("sleep 5", 1, requirements=f'(Machine == "{name}")')
        started.wait_running()
        assert changed(run(htcondor_drain_state="off")) and not state()
        started.wait_done(5)
    finally:
        host.run(f"rm -f {go}")
        run(htcondor_drain_state="active", htcondor_drain_for="new disks")
    wait_for(lambda: state() == "Unclaimed", 60, "the pool has it again")


@executes
@pytest.mark.once
@in_molecule
@pytest.mark.disturbs
def test_a_token_is_made_anew_and_never_shown(machine, host, apply):
    """Only this host's, and only when another one is asked for."""
    before = host.check_output("cat /etc/condor/tokens.d/pool")
    done = apply("--diff", "-vv", htcondor_token_days=90)
    after = host.check_output("cat /etc/condor/tokens.d/pool")
    try:
        assert changed(done) and after != before and "ADVERTISE_STARTD" in allowed(host)
        assert not [part for token in (before, after) for part in token.split(".")[1:] if part in done.stdout + done.stderr]
        assert not changed(apply(htcondor_token_days=90))
    finally:
        assert changed(apply())


@manages
@in_molecule
@pytest.mark.disturbs
def test_who_is_revoked_is_out_and_nobody_else(machine, host, apply, settings):
    access, execute = other(machine, "htcondor-access"), other(machine, "htcondor-execute")
    assert "ADVERTISE_MASTER" in allowed(access)
    gone = {"name": "SEC_TOKEN_REVOCATION_EXPR", "value": f'sub =?= "submit-execute@{settings["htcondor_pool"]}"'}
    try:
        assert changed(apply(htcondor_settings=[*settings["htcondor_settings"], gone]))
        assert not allowed(access) and "ADVERTISE_MASTER" in allowed(execute)
    finally:
        apply()
    assert "ADVERTISE_MASTER" in allowed(access)


@second
@pytest.mark.disturbs
def test_jobs_go_to_another_pool_when_their_own_has_no_room(machine, host, jobs):
    """As their owner, and not the other way round. The token lets this host tell of its schedd, nothing else."""
    out, name = f"/home/alice/{uuid.uuid4().hex}", own(host)
    assert allowed(host, pool=MAIN) == {"ADVERTISE_SCHEDD"}
    stays = jobs("sleep 1", requirements=f'(Machine == "{name}")')
    host.check_output(f"condor_drain -graceful {name}")
    try:
        gone = jobs("id -un", 3, at=machine.name, output=f"{out}.$(Process)")
        gone.wait_done()
        assert host.check_output(f"cat {out}.*").split() == ["alice"] * 3
        assert [ad["LastRemotePool"] for ad in ads(host, f"condor_history {gone.cluster} -attributes LastRemotePool")] == [MAIN] * 3
    finally:
        host.run(f"condor_drain -cancel {name}; rm -f {out}*")
    jobs("true", at=machine.name, requirements=f'(Machine == "{name}")').wait_done(30)
    assert not stays.events(BEGUN)


@second
@pytest.mark.disturbs
def test_jobs_stay_in_their_pool_when_the_other_one_says_so(machine, host, jobs):
    """Neither token nor permission is left; a line in one pool alone is refused. A check run lets nothing in."""

    def run(*arguments: str, **variables):
        return operate("flock", f"--limit={machine.name},htcondor-manager", *arguments, htcondor_flock=machine.name, **variables)

    refused = run(htcondor_flock_from=[])
    assert f"htcondor-manager is , htcondor_flock_to of {machine.name} is main.pool.test. Allowed: " in words(refused)
    token = host.check_output("cat /etc/condor/tokens.d/flock-main.pool.test")
    stale = f"_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY=/root/lsst-test condor_ping -pool {MAIN} -type collector READ ADVERTISE_SCHEDD"
    try:
        host.check_output("mkdir -m 700 /root/lsst-test && (umask 077; printf %%s %s >/root/lsst-test/old)", token)
        assert host.run(stale).rc == 0
        assert changed(run(htcondor_flock_from=[], htcondor_flock_to=[]))
        # Not even with the token that it had.
        assert "ADVERTISE_SCHEDD" not in allowed(host, pool=MAIN) and host.run(stale).rc
        stays = jobs("true", 3, at=machine.name, requirements=f'(Machine != "{own(host)}")')
        host.check_output("sleep 5")
        assert changed(run("--check")) and not stays.events(BEGUN)
    finally:
        done = run()
        host.run("rm -rf /root/lsst-test")
    assert changed(done) and host.check_output("cut -d . -f 3 /etc/condor/tokens.d/flock-main.pool.test") not in done.stdout
    stays.wait_done()


@second
@pytest.mark.disturbs
def test_pilots_come_by_another_batch_system_and_leave(machine, host, jobs):
    """They take their user's jobs that ask for one and no others. One whose token has ended does not get in. Nothing is left of them."""
    host.check_output("systemctl is-active condor")
    tokens = "/home/alice/.htcondor-glidein/tokens"
    manager = other(machine, "htcondor-manager")

    def run(**variables):
        wanted = {"pool": "htcondor-manager", "user": "alice", "kind": "sge", "count": 2, "from": machine.name, "idle_s": 15}
        named = {f"htcondor_glidein_{name}": value for name, value in (wanted | variables).items()}
        return operate("glidein", f"--limit={machine.name}", **named)

    def pilots() -> int:
        return len(ads(manager, "condor_status -constraint 'IsGlidein && SlotType == \"Partitionable\"' -attributes Name"))

    def left() -> str:
        return host.run("qstat -u '*'; pgrep -u alice -a condor; find /tmp -path '*glidein.*'").stdout

    refused = run(user="root")
    assert "_count 2, _user root. Allowed: the host itself; a manager" in words(refused), refused.stdout
    done = run()
    assert changed(done) and host.check_output(f"cut -d . -f 3 {tokens}/pilot") not in done.stdout
    assert host.check_output(f"stat -c '%a %U' {tokens} {tokens}/pilot").split() == ["700", "alice", "600", "alice"]
    wait_for(lambda: pilots() == 2, 90, "both pilots have joined")
    there = f'(Machine == "{own(host)}")'
    unasked = jobs("true", requirements=there)
    jobs("true", 2, requirements=there, **{"+WantGlidein": "True"}).wait_done()
    assert not unasked.events(BEGUN)
    wait_for(lambda: not pilots() and not left(), 90, "they have left")
    old = manager.check_output("condor_token_create -identity pilot@main.pool.test -lifetime 1")
    host.check_output(f"printf %s {old} >{tokens}/pilot; sleep 2; runuser -u alice -- htcondor-glidein 1 sge")
    wait_for(lambda: not left(), 60, "it has ended by itself")
    assert not pilots()
    host.check_output("grep 'ADVERTISE_STARTD .*FAIL' /home/alice/.htcondor-glidein/glidein.*")


@manages
@in_molecule
@pytest.mark.disturbs
def test_all_tokens_change_with_jobs_running(machine, host, jobs):
    """What the old key signed is worth nothing afterwards; a run that leaves a host out keeps the old key."""
    started, execute = jobs(), other(machine, "htcondor-execute")
    started.wait_running()
    old, had = execute.check_output("cat /etc/condor/tokens.d/pool"), host.check_output("ls /etc/condor/passwords.d")
    key = {"main_key": f"K{uuid.uuid4().hex}", "htcondor_rotate": "htcondor-manager"}
    refused = operate("rotate-tokens", "--limit=!htcondor-access", **key)
    assert "htcondor-access, known in the pool of htcondor-manager, would be left out. Allowed: " in words(refused), refused.stdout
    refused = operate("rotate-tokens", **key | {"htcondor_flock_to": [{"issuer": "htcondor-manager", "key": "POOL"}]})
    assert "has the key POOL for the pool of htcondor-manager. Allowed: " in words(refused), refused.stdout
    assert host.check_output("ls /etc/condor/passwords.d") == had
    try:
        done = operate("rotate-tokens", **key)
        assert changed(done)
        # A collector makes another POOL by itself; nobody has a token of that one.
        assert {*host.check_output("ls /etc/condor/passwords.d").split()} - {"POOL"} == {key["main_key"]}
        assert not started.events(EVICTED) and started.running()
        execute.check_output("mkdir -m 700 /root/lsst-test && (umask 077; printf %%s %s >/root/lsst-test/old)", old)
        stale = execute.run("_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY=/root/lsst-test condor_ping -type collector READ ADVERTISE_MASTER")
        assert stale.rc and "ADVERTISE_MASTER" in allowed(execute)
        # The other pool, whose jobs may come here, has one too.
        assert "ADVERTISE_SCHEDD" in allowed(other(machine, "htcondor-second"), pool=MAIN)
    finally:
        execute.run("rm -rf /root/lsst-test")
        assert changed(operate("rotate-tokens", htcondor_rotate="htcondor-manager"))
