"""Drift is reported exactly and repaired; what a killed run left undone, the next run does."""

import shlex

from runs import killed, on, run

CHRONY_STARTED = "systemctl show chrony --property=ExecMainStartTimestampMonotonic"


def test_drift_is_reported_exactly_and_repaired(base, victim):
    # chrony is restarted with the edited file, so that the file and the stopped service are all that is wrong.
    on(victim, "systemctl stop prometheus-node-exporter; echo '# by hand' >>/etc/chrony/chrony.conf; systemctl restart chrony")
    drift = run("--limit=" + ",".join(base), "--check", "--diff").changed()
    assert list(drift) == [victim], drift
    written, restarted, started = drift[victim]
    assert "sources" in written and "chrony" in restarted and "exporter" in started, drift
    assert run(f"--limit={victim}").rc == 0
    on(victim, "systemctl is-active prometheus-node-exporter && ! grep 'by hand' /etc/chrony/chrony.conf")
    assert run(f"--limit={victim}", "--check").changed() == {}


def test_a_killed_run_is_finished_by_the_next(victim):
    """Killed after chrony's file changed and before chrony was restarted."""
    assert run(f"--limit={victim}", "--tags=timesync").rc == 0
    before = on(victim, CHRONY_STARTED)
    change = [f"--limit={victim}", "--tags=timesync", "-e", '{"timesync_allow": ["192.0.2.0/24"]}']
    killed(*change, host=victim, when="grep -q 192.0.2.0/24 /etc/chrony/chrony.conf")
    assert on(victim, CHRONY_STARTED) == before, "the run was killed too late to prove anything"
    finished = run(*change[:2], "-e", shlex.quote(change[3]))
    assert len(finished.changed()[victim]) == 1 and on(victim, CHRONY_STARTED) != before
    assert run(f"--limit={victim}", "--tags=timesync").rc == 0
