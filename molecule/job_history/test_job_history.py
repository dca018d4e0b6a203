"""job_history, asked through the database: each job once, whatever happens on the way, and nobody writes who may not."""

from __future__ import annotations

import shlex
import uuid

import pytest

from conftest import Machine, changed, wait_for

in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)
exports = pytest.mark.where(lambda machine: machine.settings["job_history"]["job_history_export"])
keeps = pytest.mark.where(lambda machine: machine.settings["job_history"]["job_history_database"])
DATABASE, EXPORT = "postgresql@17-main", "job-history-export"
# Runs a query as who the unit is: argv[1] the query, the others libpq's settings that are otherwise.
ASK = "import psycopg, sys; psycopg.connect(' '.join(sys.argv[2:])).execute(sys.argv[1])"


def ask(host, query: str, role: str = "job_history_reader", user: str = "nobody", database: str = "job_history"):
    """What psql makes of a query on the host of the database."""
    psql = f"psql -XAt -v ON_ERROR_STOP=1 -v VERBOSITY=terse -U {role} {database} -c {shlex.quote(query)}"
    return host.run(f"cd / && runuser -u {user} -- {psql}")


def sql(host, query: str, **who: str) -> list[str]:
    """The rows that it finds, with | between columns."""
    done = ask(host, query, **who)
    assert done.rc == 0, done.stderr
    return done.stdout.splitlines()


def remote(host, query: str, runs_as: str = "job-history", **settings: str):
    """The query from a host that exports, over the network, as the exporter does unless settings say otherwise."""
    environment = host.check_output(f"systemctl show -P Environment {EXPORT}")
    options = " ".join(f"{key}={value}" for key, value in settings.items())
    groups = "-G ssl-cert" if runs_as == "job-history" else ""
    command = f"python3 -c {shlex.quote(ASK)} {shlex.quote(query)} {options}"
    return host.run(f"cd / && env {environment} runuser -u {runs_as} -g {runs_as} {groups} -- {command}")


def export(host):
    """An export now."""
    return host.run(f"systemctl start {EXPORT}")


class Jobs:
    """Jobs of alice, known in history and database by a run of their own."""

    def __init__(self, host, count: int, command: str = "true", **more: str):
        self.host, self.run, self.count = host, uuid.uuid4().hex, count
        settings = {
            "executable": "/bin/sh",
            "transfer_executable": "false",
            "should_transfer_files": "true",
            "arguments": f"\"-c '{command}'\"",
            "request_cpus": "1",
            "request_memory": "50",
            "request_disk": "1024",
            "accounting_group": "group_prod",
            "+bps_run": f'"{self.run}"',
            "+bps_campaign": f'"campaign-{self.run}"',
        } | more
        text = "".join(f"{name} = {value}\n" for name, value in settings.items()) + f"queue {count}\n"
        told = host.check_output(f"printf %s {shlex.quote(text)} | runuser -u alice -- condor_submit -terse -")
        self.cluster = told.split(".")[0]

    def wait_ended(self, seconds: float = 60) -> Jobs:
        def ended() -> int:
            return len(self.host.check_output(f"condor_history {self.cluster} -af ClusterId").split())

        wait_for(lambda: ended() == self.count, seconds, f"{self.count} jobs have ended")
        return self

    def exported(self, database) -> int:
        """How often they are in the database."""
        return int(sql(database, f"SELECT count(*) FROM job WHERE bps_run = '{self.run}'")[0])


@pytest.fixture
def database(machine):
    """testinfra's handle of the scenario's host with the database."""
    return Machine("job-history-database", machine.connection, {}).host


@keeps
@pytest.mark.reads
def test_people_may_read_and_nothing_else(host):
    assert (
        len(
            sql(host, "SELECT count(*) FROM failed_jobs UNION ALL SELECT count(*) FROM waits UNION ALL SELECT count(*) FROM campaign_usage")
        )
        == 3
    )
    for query in (
        "DELETE FROM job",
        "INSERT INTO export (schedd, pool, jobs) VALUES ('a', 'a', 0)",
        "SELECT forget()",
        "CREATE TABLE a (b int)",
    ):
        assert "permission denied" in ask(host, f"BEGIN READ WRITE; {query}; ROLLBACK").stderr
    for role, where in (("postgres", "job_history"), ("job_history_exporter", "job_history"), ("job_history_reader", "postgres")):
        refused = ask(host, "SELECT 1", role=role, database=where)
        assert refused.rc and ("Peer authentication failed" in refused.stderr or "no pg_hba.conf entry" in refused.stderr), refused.stderr


@exports
@pytest.mark.reads
def test_the_next_export_is_near(host, settings):
    timer = host.service(f"{EXPORT}.timer")
    assert timer.is_running and timer.is_enabled
    said = host.check_output(f"systemctl show --property=TimersMonotonic {EXPORT}.timer")
    every = settings["job_history_every_s"]
    assert f"OnUnitActiveUSec={f'{every // 60}min' if every % 60 == 0 else f'{every}s'}" in said


@exports
@in_molecule
@pytest.mark.writes
def test_each_job_is_exported_once_with_what_became_of_it(host, database):
    """A second export adds nothing, and the views tell who failed, who waited, and what a campaign took."""
    good, bad = Jobs(host, 3, "sleep 2").wait_ended(), Jobs(host, 1, "exit 3")
    killed = Jobs(host, 1, "kill -9 $$").wait_ended()
    removed = Jobs(host, 1, hold="true")
    host.check_output(f"runuser -u alice -- condor_rm {removed.cluster}")
    every = [good, bad.wait_ended(), killed, removed.wait_ended()]
    assert export(host).rc == 0
    before = sql(database, "SELECT count(*), count(DISTINCT id) FROM job")
    assert [each.exported(database) for each in every] == [3, 1, 1, 1]
    assert export(host).rc == 0
    assert sql(database, "SELECT count(*), count(DISTINCT id) FROM job") == before
    [row] = sql(database, f"SELECT DISTINCT owner, acct_group, status, exit_code, pool FROM job WHERE bps_run = '{good.run}'")
    assert row == "alice|group_prod|completed|0|main.pool.test"
    why = sql(database, "SELECT bps_run, why FROM failed_jobs")
    assert {f"{bad.run}|exit code 3", f"{killed.run}|signal 9"} < {*why}
    assert [line for line in why if line.startswith(f"{removed.run}|removed: via condor_rm")]
    assert good.run not in " ".join(why)
    columns = "acct_group, runs, jobs, failed, wall_h * 3600 >= 6, core_h >= wall_h"
    assert sql(database, f"SELECT {columns} FROM campaign_usage WHERE bps_campaign = 'campaign-{good.run}'") == ["group_prod|1|3|0|t|t"]
    columns = "sum(jobs) >= 6, sum(never_started) >= 1, bool_and(median_s BETWEEN 0 AND p95_s), bool_and(p95_s <= longest_s)"
    assert sql(database, f"SELECT {columns} FROM waits WHERE acct_group = 'group_prod'") == ["t|t|t|t"]


@exports
@in_molecule
@pytest.mark.writes
def test_the_pool_and_the_queue_are_sampled(host, database):
    waiting = Jobs(host, 2, hold="true")
    try:
        assert export(host).rc == 0
        assert sql(database, "SELECT sum(cpus) FROM pool_sample GROUP BY taken ORDER BY taken DESC LIMIT 1") == ["8"]
        assert sql(database, "SELECT held >= 2 FROM queue_sample WHERE acct_group = 'group_prod' ORDER BY taken DESC LIMIT 1") == ["t"]
    finally:
        host.run(f"condor_rm {waiting.cluster}")


@exports
@in_molecule
@pytest.mark.disturbs
def test_jobs_go_on_without_the_database_and_appear_later(host, database):
    database.check_output(f"systemctl stop {DATABASE}")
    try:
        jobs = Jobs(host, 2).wait_ended()
        assert export(host).rc
    finally:
        database.check_output(f"systemctl start {DATABASE}")
    assert export(host).rc == 0 and jobs.exported(database) == 2


@exports
@in_molecule
@pytest.mark.disturbs
def test_an_export_that_is_killed_loses_and_doubles_nothing(host, database):
    """It is killed when it has inserted the jobs, and before it has noted how far it got."""
    jobs = Jobs(host, 20).wait_ended()
    lock = "BEGIN; LOCK TABLE export IN SHARE MODE; SELECT pg_sleep(60)"
    database.check_output(f"systemd-run --collect psql -U postgres job_history -c {shlex.quote(lock)}")
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'job-history-export' AND wait_event_type = 'Lock'"
    who = {"role": "postgres", "user": "postgres"}
    asleep = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    try:
        wait_for(lambda: sql(database, asleep.replace("pg_terminate_backend(pid)", "1"), **who), 60, "the table is locked")
        host.check_output(f"systemctl start --no-block {EXPORT}")
        wait_for(lambda: sql(database, waiting, **who), 60, "the export is in the middle")
        host.check_output(f"systemctl kill --signal=KILL {EXPORT}")
        assert jobs.exported(database) == 0
    finally:
        sql(database, asleep, **who)
    wait_for(lambda: not sql(database, waiting.partition(" AND ")[0], **who), 60, "its session is over")
    assert export(host).rc == 0 and jobs.exported(database) == 20


@exports
@in_molecule
@pytest.mark.disturbs
def test_what_the_schedd_forgot_is_told(host, database):
    """Once, and what it has not forgotten is exported all the same."""
    gaps = int(sql(database, "SELECT count(*) FROM gaps")[0])
    Jobs(host, 1).wait_ended()
    assert export(host).rc == 0
    history = host.check_output("condor_config_val HISTORY")
    host.check_output(f"truncate --size=0 {history}")
    later = Jobs(host, 1).wait_ended()
    assert export(host).rc == 0 and export(host).rc == 0
    assert later.exported(database) == 1
    assert int(sql(database, "SELECT count(*) FROM gaps")[0]) == gaps + 1
    assert "may be missing (view gaps)" in host.check_output(f"journalctl -u {EXPORT} --priority warning --output cat")


@exports
@in_molecule
@pytest.mark.reads
def test_the_exporter_may_insert_and_nothing_else(host):
    assert remote(host, "SELECT newest FROM export LIMIT 1").rc == 0
    for query in ("SELECT * FROM job", "DELETE FROM job", "UPDATE export SET newest = NULL", "TRUNCATE pool_sample"):
        assert "permission denied" in remote(host, query).stderr


@exports
@in_molecule
@pytest.mark.reads
def test_strangers_are_refused(host, database, settings):
    """Without a certificate, from another address, as somebody else, without TLS."""
    assert remote(host, "SELECT newest FROM export LIMIT 1").rc == 0
    assert "requires a valid client certificate" in remote(host, "SELECT 1", runs_as="alice", sslcert="/nowhere", sslkey="/nowhere").stderr
    for setting in ({"user": "postgres"}, {"user": "job_history_reader"}, {"dbname": "postgres"}, {"sslmode": "disable"}):
        assert "no pg_hba.conf entry" in remote(host, "SELECT 1", **setting).stderr
    keys = " ".join(
        f"ssl{name}=/etc/lsst/tls/{file}" for name, file in (("rootcert", "root.crt"), ("cert", "host.crt"), ("key", "host.key"))
    )
    itself = f"host={settings['job_history_server']} sslmode=verify-full {keys} user=job_history_exporter dbname=job_history"
    assert "no pg_hba.conf entry" in database.run(f"psql {shlex.quote(itself)} -c 'SELECT 1'").stderr


@exports
@in_molecule
@pytest.mark.writes
def test_a_certificate_of_another_host_is_refused(host, database):
    """From the right address, and of the same authority."""
    directory = f"/root/lsst-test-{uuid.uuid4().hex}"
    host.check_output(f"install -d -m 0700 {directory}")
    try:
        for name in ("host.crt", "host.key"):
            text = database.check_output(f"cat /etc/lsst/tls/{name}")
            host.check_output(f"umask 077; printf '%s\\n' {shlex.quote(text)} >{directory}/{name}")
        refused = remote(host, "SELECT 1", runs_as="root", sslcert=f"{directory}/host.crt", sslkey=f"{directory}/host.key")
        assert "certificate authentication failed" in refused.stderr, refused.stderr
    finally:
        host.run(f"rm -rf {directory}")


@keeps
@in_molecule
@pytest.mark.disturbs
def test_an_exporter_comes_and_goes_without_a_restart(host, apply, settings):
    """And what is kept is deleted when its time is over, but for where an export goes on."""
    who = {"role": "postgres", "user": "postgres"}
    began = sql(host, "SELECT pg_postmaster_start_time()")
    old = "SELECT 'old', now() - days * interval '1 day', 'p', 0 FROM unnest(ARRAY[50, 60]) days"
    sql(host, f"INSERT INTO export (schedd, taken, pool, jobs) {old}", **who)
    old = "'old', 'p', 'old', '', 'completed', now() - interval '40 days'"
    sql(host, f"INSERT INTO job (id, pool, schedd, acct_group, status, ended) VALUES ({old})", **who)
    other = {"name": "another", "host": "another.pool.test", "addresses": ["198.51.100.9"]}
    try:
        assert changed(apply("--check", job_history_exporters=[other]))
        assert changed(apply(job_history_exporters=[other], job_history_keep_days=30))
        rules = sql(host, "SELECT address FROM pg_hba_file_rules WHERE type = 'hostssl'", **who)
        assert rules == ["198.51.100.9"]
        sql(host, "SELECT forget()", **who)
        assert sql(host, "SELECT count(*) FROM job WHERE id = 'old'") == ["0"]
        assert sql(host, "SELECT count(*) FROM export WHERE schedd = 'old'") == ["1"]
        assert not changed(apply(job_history_exporters=[other], job_history_keep_days=30))
    finally:
        sql(host, "DELETE FROM export WHERE schedd = 'old'; DELETE FROM job WHERE schedd = 'old'", **who)
        assert changed(apply())
    assert sql(host, "SELECT pg_postmaster_start_time()") == began


@keeps
@in_molecule
@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"job_history_keep_days": 1}, "job_history_keep_days is 1. Allowed: one of the first two at least, 10 seconds or more, 30 days"),
        ({"job_history_address": "localhost"}, "or of the addresses 198.51.100.211, localhost is wrong"),
        ({"job_history_exporters": [{"name": "a b", "host": "a.b", "addresses": []}]}, "One of the names a.b"),
        ({"job_history_export": True, "job_history_database": False}, "job_history_server is empty, and the host has no database"),
    ],
)
def test_what_is_wrong_never_goes_live(host, apply, wrong, told):
    state = f"systemctl is-active {DATABASE}; sha256sum /etc/postgresql/17/main/*.conf /etc/postgresql/17/main/conf.d/*"
    before = host.check_output(state)
    done = apply(**wrong)
    assert done.returncode != 0 and told in " ".join(done.stdout.split()), done.stdout
    assert host.check_output(state) == before
