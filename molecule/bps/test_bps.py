"""bps, asked by who has pipelines: they run in the pool and end in the Butler, and glideins come when jobs wait."""

from __future__ import annotations

import json
import re
import shlex
import uuid

import pytest

from conftest import TOP, changed, wait_for

in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)
submits = pytest.mark.where(lambda machine: machine.settings["bps"]["bps_submit"])
# Unlike bps ping, which asks the manager too for what people may not do there.
MAY_SUBMIT = """
import htcondor2 as htcondor, socket
[schedd] = htcondor.Collector().query(htcondor.AdType.Schedd, f'Name == "{socket.getfqdn()}"')
print(htcondor.ping(schedd, "WRITE")["AuthMethods"])
"""
# Five quanta in a row and their inputs, by the middleware's own tests: no instrument, no pipeline file.
GRAPH = """
from lsst.pipe.base.tests.simpleQGraph import makeSimpleButler, makeSimpleQGraph
butler = makeSimpleButler("{place}/repo", run="test", inMemory=False)
makeSimpleQGraph(5, butler=butler, run="{run}", inMemory=False, makeDatastoreRecords=True)[1].saveUri("{place}/toy.qg")
"""
SUBMISSION = """
includeConfigs: [/etc/lsst/bps/site.yaml]
qgraphFile: {place}/toy.qg
payload:
  payloadName: toy
  butlerConfig: {place}/repo
  inCollection: test
  output: u/{person}/toy
  outputRun: {run}
"""


def person(host, command: str, name: str = "alice"):
    """What a command does in the shell of somebody who has just logged in."""
    return host.run(f"runuser -u {name} -- env -i HOME=/home/{name} bash --login -c {shlex.quote(command)}")


def told(host, command: str, name: str = "alice") -> str:
    """What such a command printed, which must end well."""
    done = person(host, command, name)
    assert done.rc == 0, done.stdout + done.stderr
    return done.stdout


def member(machine) -> str:
    """Somebody who may write where runs lie: alice in Molecule, elsewhere one of the people whom the role account keeps."""
    users = machine.settings.get("account", {}).get("account_users", [])
    return next((user["name"] for user in users if user["group"] == machine.settings["bps"]["bps_group"]), "alice")


@submits
@pytest.mark.reads
def test_bps_reaches_the_pool(host):
    """Whoever logs in has it, and may submit by its newer bindings."""
    told(host, "bps report", "nobody")
    assert told(host, f"/opt/lsst/bps/current/bin/python -c {shlex.quote(MAY_SUBMIT)}", "nobody").strip() == "FS"


@pytest.mark.where(lambda machine: machine.settings["bps"]["bps_activator_command"])
@pytest.mark.reads
def test_somebody_looks_at_what_waits(host):
    timer = host.service("bps-activator.timer")
    assert timer.is_running and timer.is_enabled
    assert host.check_output("systemctl show --property=Result bps-activator.service") == "Result=success"


@submits
@pytest.mark.writes
def test_a_workflow_ends_in_the_butler(machine, host, settings):
    """Its jobs run as who submitted it, for the site's group, below the shared directory. A pool at its own intervals takes minutes."""
    name, place = member(machine), f"{settings['bps_shared']}/{uuid.uuid4().hex}"
    run = f"u/{name}/toy/{uuid.uuid4().hex}"
    runs, mark = f"{settings['bps_shared']}/{name}/{run}", run.replace("/", "_")
    words = {"place": place, "run": run, "person": name}
    try:
        told(host, f"mkdir {place}; cd {place}; echo {shlex.quote(SUBMISSION.format(**words))} >toy.yaml", name)
        told(host, f"echo {shlex.quote(GRAPH.format(**words))} | /opt/lsst/bps/current/bin/python -", name)
        done = person(host, f"cd {place} && bps submit toy.yaml", name)
        assert done.rc == 0, done.stdout + done.stderr
        number = re.search(r"Run Id: (\d+)", done.stdout)[1]
        where = re.search(r"Submit dir: (\S+)", done.stdout)[1]
        assert where == runs
        ended = f"condor_history {number} -limit 1 -autoformat ExitCode"
        code = wait_for(lambda: host.check_output(ended), 150 if machine.in_molecule else 900, "the workflow ends")
        report = told(host, f"bps report --id {where}", name)
        assert code == "0" and re.search(r"TOTAL.*\b7\b", report), report + host.check_output(f"tail -n 40 {where}/*.dagman.out")
        assert re.search(r"SUCCEEDED\s+100\s", report), report
        found = told(host, f"butler query-datasets {place}/repo --collections {run} '*_metadata'", name)
        assert len(re.findall(r"^\s*task\d_metadata", found, re.MULTILINE)) == 5, found
        shown = "Owner,AcctGroup,WantGlidein,bps_run,bps_job_label,ExitCode"
        query = f"condor_history -constraint 'DAGManJobId == {number}' -attributes {shown} -json"
        jobs = json.loads(host.check_output(query))
        group, profile = settings["bps_accounting_group"], {row["name"] for row in settings["bps_profile"]}
        assert {job["bps_job_label"] for job in jobs} == {"pipetaskInit", *(f"task{n}" for n in range(5)), "finalJob"}
        assert {(job["Owner"], job.get("AcctGroup", ""), job["ExitCode"]) for job in jobs} == {(name, group, 0)}
        assert {(job["bps_run"], "WantGlidein" in job) for job in jobs} == {(mark, "+WantGlidein" in profile)}
    finally:
        host.run(f"condor_rm -constraint 'bps_run == \"{mark}\"'; rm -rf {place} {runs}")


@in_molecule
@pytest.mark.writes
def test_who_is_not_in_the_group_writes_nothing(host, settings):
    name = f"{settings['bps_shared']}/{uuid.uuid4().hex}"
    try:
        assert person(host, f"touch {name}").rc == 0
        assert host.file(name).group == settings["bps_group"]
        refused = person(host, f"touch {name}", "bob")
        assert refused.rc and "Permission denied" in refused.stderr
        assert person(host, f"ls {settings['bps_shared']}", "bob").rc
    finally:
        host.run(f"rm -f {name}")


@submits
@in_molecule
@pytest.mark.disturbs
def test_glideins_come_when_jobs_wait_too_long(host, apply):
    """As many as the jobs need; none when as many run as may. The stand-in writes down what it is asked for."""
    asked = "/home/alice/glideins"
    job = "executable = /bin/true\nrequest_cpus = 2\nrequirements = false\n+WantGlidein = {}\nqueue {}\n"

    def submit(wanted: str, count: int) -> str:
        return told(host, f"echo {shlex.quote(job.format(wanted, count))} | condor_submit -terse -").split(".")[0]

    host.run(f"rm -f {asked}")
    clusters = [submit("false", 4)]
    try:
        host.check_output("sleep 6")
        assert not host.file(asked).exists
        clusters.append(submit("true", 3))
        wait_for(lambda: host.file(asked).exists, 60, "glideins are started")
        assert set(host.check_output(f"cat {asked}").splitlines()) == {"3 slurm"}
        # The pool's own slot counts as a pilot.
        assert changed(apply(bps_activator_slots="true", bps_activator_pilots=1))
        host.check_output(f"rm {asked}; systemctl start bps-activator")
        assert not host.file(asked).exists
    finally:
        host.run(f"condor_rm {' '.join(clusters)}; rm -f {asked}")
        apply()


@in_molecule
@pytest.mark.disturbs
def test_a_wheel_with_another_checksum_is_refused(host, apply, tmp_path):
    lock = tmp_path / "lock"
    small = re.search(r"^six==.*?(?=^[a-z])", (TOP / "requirements-bps.lock").read_text(), re.M | re.S)[0]
    lock.write_text(re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", small))
    state = "readlink -f /opt/lsst/bps/current; ls /opt/lsst/bps; cat /etc/lsst/bps/site.yaml"
    before = host.check_output(state)
    done = apply(bps_lock=str(lock))
    said = " ".join(done.stdout.split())
    assert done.returncode and "DO NOT MATCH THE HASHES" in said and "Allowed: exactly the wheels" in said, said
    assert host.check_output(state) == before


@in_molecule
@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"bps_shared": "runs", "bps_memory_mb": 0},
            "bps_shared runs, bps_accounting_group group_prod, bps_memory_mb, _memory_limit_mb, _final_cpus, _final_memory_mb are 0,",
        ),
        ({"bps_activator_user": "root"}, "bps_activator_user root, bps_activator_seconds"),
    ],
)
def test_wrong_values_are_refused(host, apply, wrong, message):
    host.check_output("cat /etc/lsst/bps/site.yaml")
    done = apply(**wrong)
    assert done.returncode and message in " ".join(done.stdout.split()), done.stdout
