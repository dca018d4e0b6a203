"""A converged site does not move: not by a second run, not by a check run, seen by Ansible and from outside."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

from runs import TOP, on, podman, run

FINGERPRINT = """
set -e
echo files; find /etc /opt /usr/local -xdev -type f -print0 | sort -z | xargs -0r sha256sum | sha256sum
echo modes; find /etc /opt /usr/local -xdev -printf '%p %m %u %g %l\\n' | sort | sha256sum
echo rules; nft --stateless list ruleset
echo ports; ss -Hltun | awk '{print $1, $5}' | sort
echo starts; systemctl show --type=service --state=running --property=Id,ExecMainStartTimestampMonotonic '*' | grep -v '^$'
"""


def fingerprints(hosts):
    """Host -> files, rules, listening ports and process start times, read without Ansible."""
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(hosts, pool.map(lambda host: on(host, FINGERPRINT), hosts), strict=True))


def test_a_second_run_and_a_check_run_change_nothing(base):
    limit = "--limit=" + ",".join(base)
    before = fingerprints(base)
    again = run(limit)
    assert again.rc == 0 and again.changed() == {} and set(again.stats["ok"]) == set(base), again.text[-3000:]
    assert fingerprints(base) == before
    check = run(limit, "--check")
    assert check.rc == 0 and check.changed() == {}, check.text[-3000:]
    assert fingerprints(base) == before


def test_a_check_run_of_a_bare_host_ends_well(victim):
    """The host is made anew; check, converge, check again."""
    podman("rm", "--force", "--time", "0", victim)
    subprocess.run([str(TOP / "lab" / "lab.py"), "up", "base", "--limit", victim], check=True)
    check = run(f"--limit={victim}", "--check")
    assert check.rc == 0 and check.changed(), check.text[-3000:]
    assert run(f"--limit={victim}").rc == 0
    assert run(f"--limit={victim}", "--check").changed() == {}
