"""Probe truth tables: a probe says «already so» only where the real module, in check mode, says that nothing would change."""

from __future__ import annotations

import json
import os
import shlex

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.batch_probes import NAMES
from ansible_collections.lsst.ldf.plugins.module_utils.zone import render, zones_of
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_bundle
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import inside, podman, run

# PROBE_CASES=2000 is the long run; otherwise those that need systemd to reload itself, or apt its lists, get a quarter.
CASES = int(os.environ.get("PROBE_CASES", "40"))
SLOW = {"apt", "apt_hold", "commit_confirm", "systemd_service", "unit"}
MODULES = {
    "account": "lsst.ldf.account",
    "apt": "ansible.builtin.apt",
    "apt_hold": "lsst.ldf.apt_hold",
    "apt_lists": "lsst.ldf.apt_lists",
    "commit_confirm": "lsst.ldf.commit_confirm",
    "file": "ansible.builtin.file",
    "group": "ansible.builtin.group",
    "host_certificate": "lsst.ldf.host_certificate",
    "kernel_settings": "lsst.ldf.kernel_settings",
    "lineinfile": "ansible.builtin.lineinfile",
    "python_environment": "lsst.ldf.python_environment",
    "release": "lsst.ldf.release",
    "ssh_host_certificate": "lsst.ldf.ssh_host_certificate",
    "sysctl": "ansible.posix.sysctl",
    "systemd_service": "ansible.builtin.systemd_service",
    "unit": "lsst.ldf.unit",
    "user": "ansible.builtin.user",
    "zone": "lsst.ldf.zone",
}
# Modules whose unchanged answer somebody reads: the probe's is the same.
READ = {"commit_confirm", "host_certificate", "ssh_host_certificate"}
HOME = "/root/probe"
# In the container: bring about the state, ask the probe, ask the module.
JUDGE = """
import json, subprocess, sys
bundle, cases = sys.argv[1], json.loads(sys.stdin.read())
sys.path.insert(0, bundle)
from ansible_collections.lsst.ldf.plugins.module_utils.batch_runner import Runner, failed
for case in cases:
    subprocess.run(["bash", "-c", case["state"]], check=True, capture_output=True)
    mine = {"_ansible_check_mode": True, "_ansible_remote_tmp": "/tmp", "_ansible_tmpdir": None}
    params = json.dumps({"ANSIBLE_MODULE_ARGS": case["args"] | mine})
    step = {"module": case["module"], "params": params}
    runner = Runner({"predicted": [], "probes": True, "steps": [step], "batch": "", "id": ""}, bundle)
    probed = runner.probes.answer(case["module"], case["args"], [])
    real, _ = runner.module(case["fqn"], params, {})
    same = all(real.get(key) == value for key, value in (probed or {}).items())
    unchanged = not failed(real) and not real.get("changed")
    print(json.dumps({"probed": probed is not None, "unchanged": unchanged, "same": same, "real": str(real)[:500]}))
"""


@pytest.fixture(scope="module")
def judge(pair):
    """Has a container judge cases of one module: (state, arguments) -> what the probe and the module said."""
    bundle = batch_bundle.bundle(frozenset(MODULES.values()), ())
    podman("exec", "-i", pair["batch"], "python3", "-c", batch_bundle.INSTALL, HOME, "bundle", stdin=bundle.archive)

    def ask(name: str, cases: list[tuple[str, dict]]) -> list[dict]:
        module = MODULES[name]
        asked = [{"module": module, "fqn": bundle.python_names[module], "state": state, "args": args} for state, args in cases]
        printed = podman("exec", "-i", pair["batch"], "python3", "-c", JUDGE, f"{HOME}/bundle", stdin=json.dumps(asked))
        return [json.loads(line) for line in printed.splitlines()]

    return ask


def cases(states, arguments, number: int) -> list[tuple]:
    """Pairs of state and arguments, no two alike; fewer than ``number`` where there are no more."""
    found = []

    @settings(
        max_examples=number, derandomize=CASES < 1000, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.tuples(states, arguments))
    def collect(case):
        if case not in found:
            found.append(case)

    collect()
    return found


def maybe(**options):
    """Arguments, each of which may be left out."""
    return st.fixed_dictionaries({}, optional=options)


PATH = "/srv/probe/x"
KINDS = [
    "true",
    f"echo one >{PATH}",
    f"mkdir {PATH}",
    f"echo one >{PATH}.other; ln -s {PATH}.other {PATH}",
    f"mkdir {PATH}.other; ln -s {PATH}.other {PATH}",
    f"ln -s /nowhere {PATH}",
    f"mkfifo {PATH}",
]
MODES = ["0644", "644", "0755", "0600", "02755", "u+x", "a+r", 420]
OWNERS = ["root", "daemon", 0, "0", "1", "nobody-there"]
FILE_STATES = st.builds(
    lambda kind, mode, owner, group: (
        f"rm -rf /srv/probe; mkdir -p /srv/probe; {kind}; chmod {mode} {PATH} || true;"
        f" chown -h {owner}:{group} {PATH} || true; chown {owner}:{group} {PATH} || true"
    ),
    st.sampled_from(KINDS),
    st.sampled_from(["0644", "0755", "0600", "2755"]),
    st.sampled_from(["root", "daemon"]),
    st.sampled_from(["root", "daemon"]),
)
ACCESS = {"mode": st.sampled_from(MODES), "owner": st.sampled_from(OWNERS), "group": st.sampled_from(OWNERS)}
FILE_ARGS = st.builds(
    lambda path, more: path | more,
    st.sampled_from([{"path": PATH}, {"dest": PATH}, {"name": f"{PATH}/"}, {"path": f"{PATH}/../x"}]),
    maybe(
        state=st.sampled_from(["file", "directory", "absent", "touch", "link", "hard"]),
        recurse=st.booleans(),
        follow=st.booleans(),
        force=st.booleans(),
        src=st.sampled_from(["/nowhere", f"{PATH}.other"]),
        attributes=st.just("+i"),
        **ACCESS,
    ),
)
LINES = ["one", "two", "key = 1", "key = 2", "", "one "]
LINE_STATES = st.builds(
    lambda lines, end: f"mkdir -p /srv/probe; rm -rf {PATH}; printf '%s' $'{end.join(lines)}' >{PATH}; chmod 0644 {PATH}",
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from(["\\n", "\\r\\n"]),
).flatmap(lambda text: st.sampled_from([text, f"{text}; echo >>{PATH}"]))
LINE_ARGS = st.builds(
    lambda line, more: {"path": PATH} | line | more,
    st.sampled_from([{"line": each} for each in LINES] + [{"value": "one"}, {"line": "one\n"}, {"line": "key = \\1"}]),
    maybe(
        regexp=st.sampled_from(["^key", "one$", "^$", "o", "nothing"]),
        state=st.sampled_from(["present", "absent"]),
        create=st.booleans(),
        backrefs=st.booleans(),
        insertbefore=st.sampled_from(["BOF", "two"]),
        firstmatch=st.booleans(),
        mode=st.sampled_from(["0644", "0600"]),
        search_string=st.just("key"),
    ),
)
NAMES_OF_USERS = ["root", "daemon", "games", "nobody", "probe", "nobody-there"]
USER_STATES = st.builds(
    lambda shell, groups, home: f"userdel probe || true; useradd --uid 4321 --shell {shell} --groups {groups} {home} probe",
    st.sampled_from(["/bin/sh", "/usr/sbin/nologin"]),
    st.sampled_from(["games", "games,audio"]),
    st.sampled_from(["--create-home", "--no-create-home"]),
).map(lambda text: f"rm -rf /home/probe; {text}")
USER_ARGS = st.builds(
    lambda name, more: {"name": name} | more,
    st.sampled_from(NAMES_OF_USERS),
    maybe(
        uid=st.sampled_from([0, 1, 4321, "4321", 77]),
        shell=st.sampled_from(["/bin/sh", "/usr/sbin/nologin", "/bin/bash"]),
        home=st.sampled_from(["/home/probe", "/root", "/nowhere"]),
        group=st.sampled_from(["probe", "root", "games", 0, "4321"]),
        groups=st.sampled_from([["games"], "games,audio", ["audio", "games"], [], ["probe", "games"], ["5"]]),
        append=st.booleans(),
        state=st.sampled_from(["present", "absent"]),
        create_home=st.booleans(),
        comment=st.sampled_from(["", "probe"]),
        system=st.booleans(),
        move_home=st.booleans(),
        password_lock=st.booleans(),
        expires=st.just(-1),
    ),
)
GROUP_ARGS = st.builds(
    lambda name, more: {"name": name} | more,
    st.sampled_from(["root", "games", "nothing-there", "daemon"]),
    maybe(
        gid=st.sampled_from([0, 1, 60, "60", 77]), state=st.sampled_from(["present", "absent"]), system=st.booleans(), local=st.booleans()
    ),
)
PACKAGES = ["procps", "iproute2", "libc6", "no-such-package", "awk", "mawk", "procps=1", "libc6:amd64", "./x.deb", "python3"]
APT_ARGS = st.builds(
    lambda name, more: {"name": name} | more,
    st.lists(st.sampled_from(PACKAGES), min_size=1, max_size=2).flatmap(lambda names: st.sampled_from([names, ",".join(names)])),
    maybe(
        state=st.sampled_from(["present", "absent"]),
        install_recommends=st.booleans(),
        purge=st.booleans(),
        default_release=st.just("trixie"),
        policy_rc_d=st.just(101),
    ),
)
SYSCTL_STATES = st.lists(
    st.sampled_from(
        ["kernel.domainname=(none)", "kernel.pid_max = 4194304", "kernel.pid_max=1", "# kernel.pid_max = 4194304", "kernel.panic=0"]
    ),
    max_size=3,
).map(lambda lines: "printf '%s\\n' " + " ".join(f"'{line}'" for line in lines or [""]) + " >/etc/sysctl.d/probe.conf")
SYSCTL_ARGS = st.builds(
    lambda given, more: {"sysctl_file": "/etc/sysctl.d/probe.conf"} | given | more,
    st.sampled_from(
        [
            {"name": "kernel.pid_max", "value": "4194304"},
            {"name": "kernel.pid_max", "value": 4194304},
            {"key": "kernel.panic", "value": "0"},
        ]
        + [{"name": "kernel.panic", "value": "no"}, {"name": "kernel.panic", "value": False}, {"name": "no.such.key", "value": "1"}]
    ),
    maybe(state=st.sampled_from(["present", "absent"]), sysctl_set=st.booleans(), reload=st.booleans(), ignoreerrors=st.booleans()),
)
UNITS = [
    "ssh",
    "ssh.service",
    "sshd",
    "dbus",
    "dbus.socket",
    "systemd-journald",
    "getty@tty1",
    "probe",
    "no-such-unit",
    "multi-user.target",
]
UNIT_FILE = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"
UNIT_STATES = st.builds(
    lambda enabled, started, masked, touched: (
        "systemctl unmask --runtime --quiet probe || true; touch -d '1 hour ago' /srv/before /srv/after;"
        f" printf '{UNIT_FILE}' >/etc/systemd/system/probe.service;"
        f" systemctl {enabled} --quiet probe; systemctl {started} probe; {masked}; {touched}"
    ),
    st.sampled_from(["enable", "disable"]),
    st.sampled_from(["start", "stop"]),
    st.sampled_from(["true", "true", "systemctl mask --runtime --quiet probe"]),
    st.sampled_from(["true", "touch /srv/after", "echo >>/etc/systemd/system/probe.service"]),
)
SERVICE_ARGS = st.builds(
    lambda name, more: {"name": name} | more,
    st.sampled_from(UNITS),
    maybe(
        state=st.sampled_from(["started", "stopped", "restarted", "reloaded"]),
        enabled=st.booleans(),
        masked=st.booleans(),
        daemon_reload=st.booleans(),
        no_block=st.booleans(),
        scope=st.just("system"),
        force=st.booleans(),
    ),
)
UNIT_ARGS = st.builds(
    lambda names, more: {"name": names} | more,
    st.lists(st.sampled_from(["ssh", "probe", "no-such-unit"]), min_size=1, max_size=2, unique=True).flatmap(
        lambda names: st.sampled_from([names, names[0]])
    ),
    maybe(
        state=st.sampled_from(["started", "stopped"]),
        enabled=st.booleans(),
        restart=st.booleans(),
        restart_after=st.sampled_from([["/srv/before"], ["/srv/after"], ["/etc/hostname", "/nowhere"], ["/etc/systemd/system"]]),
        reload_after=st.sampled_from([["/srv/before"], "/srv/after"]),
        peers=st.just(["127.0.0.1:1"]),
        peers_wait=st.just(0),
    ),
)
ACCOUNT_ARGS = st.builds(
    lambda name, group, more: {"groups": [group], "users": [{"name": name} | more]},
    st.sampled_from(NAMES_OF_USERS),
    st.sampled_from(
        [{"name": "probe", "gid": 4321}, {"name": "games", "gid": 60}, {"name": "new", "gid": 4500}, {"name": "new", "state": "absent"}]
    ),
    maybe(
        uid=st.sampled_from([0, 1, 4321, "4321", 77]),
        group=st.sampled_from(["probe", "root", "games"]),
        groups=st.sampled_from([["games"], ["audio", "games"], [], ["new"]]),
        shell=st.sampled_from(["/bin/sh", "/usr/sbin/nologin", "/bin/bash"]),
        home=st.sampled_from(["/home/probe", "/nowhere"]),
        comment=st.sampled_from(["", "probe"]),
        sudo=st.booleans(),
        state=st.sampled_from(["present", "absent"]),
    ),
)
HOLD_STATES = st.sampled_from(["true", "apt-mark hold mawk", "apt-mark hold mawk procps", "apt-mark unhold mawk procps"])
HOLD_ARGS = st.fixed_dictionaries(
    {"name": st.sampled_from([[], ["mawk"], ["procps", "mawk"], ["mawk:amd64"], ["no-such-package"], "mawk"])}
)
LISTS_STATES = st.sampled_from(
    [
        "mkdir -p /var/lib/apt/periodic; touch /var/lib/apt/periodic/update-success-stamp",
        "touch -d '2 days ago' /var/lib/apt/periodic/update-success-stamp",
        "touch /etc/apt/sources.list.d/probe.list",
    ]
)
LISTS_ARGS = maybe(
    proxy=st.sampled_from(["", "http://127.0.0.1:1", "nonsense"]),
    max_age=st.sampled_from([60, 10**7]),
    needed=st.sampled_from([[], ["mawk"], ["no-such-package"]]),
)
CONFIRM_STATES = st.builds(
    lambda text, mode, enabled, started, waits: (
        f"systemctl unmask --runtime --quiet probe || true; printf '{UNIT_FILE}' >/etc/systemd/system/probe.service;"
        f" systemctl daemon-reload; systemctl {enabled} --quiet probe; systemctl {started} probe;"
        f" printf {text} >/etc/probe.conf; chmod {mode} /etc/probe.conf; rm -rf /var/lib/lsst/commit-confirm/probe; {waits}"
    ),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["0644", "0600"]),
    st.sampled_from(["enable", "disable"]),
    st.sampled_from(["restart", "stop"]),
    st.sampled_from(["true", "true", "true", "mkdir -p /var/lib/lsst/commit-confirm/probe/pending", "rm /etc/probe.conf"]),
)
CONFIRM_ARGS = st.builds(
    lambda file, more: {"name": "probe", "files": [{"dest": "/etc/probe.conf"} | file]} | more,
    st.one_of(
        maybe(mode=st.sampled_from(["0644", "0600", 420]), owner=st.sampled_from(["root", "0", "daemon", "nobody-there"])).map(
            lambda more: {"content": "one"} | more
        ),
        st.just({"state": "absent"}),
    ),
    maybe(
        unit=st.sampled_from(["probe", "no-such-unit"]),
        verb=st.sampled_from(["restart", "reload"]),
        enabled=st.booleans(),
        probe=st.sampled_from(["true", "false"]),
        apply=st.just("true"),
        timeout=st.sampled_from([5, "5"]),
        edit=st.just("here"),
    ),
)
KERNEL_STATES = st.builds(
    lambda value, memory, known: (
        f"sysctl -qw net.ipv4.ip_default_ttl={value}; mkdir -p /var/lib/lsst/kernel-settings/refused-$(uname -r);"
        f" cd /var/lib/lsst/kernel-settings; echo '{memory}' >probe.json; echo '{known}' >refused-$(uname -r)/probe.json"
    ),
    st.sampled_from(["64", "65"]),
    st.sampled_from([json.dumps({"net.ipv4.ip_default_ttl": value}) for value in ("63", "64")] + ["{}"]),
    st.sampled_from(["{}", json.dumps({"no.such.key": {"wanted": "1", "value": None, "reason": "is not there"}})]),
)
KERNEL_ARGS = st.fixed_dictionaries(
    {
        "name": st.just("probe"),
        "settings": st.sampled_from(
            [
                {"net.ipv4.ip_default_ttl": 64},
                {"net.ipv4.ip_default_ttl": "65", "no.such.key": 1},
                {"kernel.pid_max": 1},
                {},
                {"nonsense": 1},
            ]
        ),
    }
)
KEY_STATES = st.sampled_from(
    [
        "rm -rf /srv/key*; ssh-keygen -q -t ed25519 -N '' -f /srv/key",
        "rm -rf /srv/key*; echo nonsense >/srv/key; chmod 0600 /srv/key",
        "rm -rf /srv/key*",
        "rm -rf /srv/key*; ssh-keygen -q -t ed25519 -N '' -f /srv/key; echo certificate >/srv/key-cert.pub",
    ]
)
KEY_ARGS = maybe(key=st.sampled_from(["/srv/key", "/nowhere/key", "~/key"]))
TLS_STATES = st.builds(
    lambda key, mode, more: f"rm -rf /srv/tls; mkdir /srv/tls; cd /srv/tls; {key}; chmod {mode} host.key || true; {more}",
    st.sampled_from(["openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out host.key", "echo nonsense >host.key", "true"]),
    st.sampled_from(["0640", "0600"]),
    st.sampled_from(["true", "echo x >host.crt", "rm -rf /srv/tls"]),
)
TLS_ARGS = st.builds(
    lambda more: {"directory": "/srv/tls", "names": ["a.lsst.internal"], "root": "root\n"} | more,
    maybe(
        step=st.sampled_from(["report", "report", "request"]),
        group=st.sampled_from(["root", "ssl-cert", "nobody-there"]),
        trust=st.booleans(),
        key_algorithm=st.just("ec-p256"),
        new_key=st.just(False),
    ),
)
ENVIRONMENT = {"path": "/srv/environments/1", "requirements": "none", "wheels": "/nowhere"}
ENVIRONMENT_STATES = st.builds(
    lambda stamp, link: f"rm -rf /srv/environments; mkdir -p /srv/environments/1; cd /srv/environments; {stamp}; {link}",
    st.sampled_from(["touch 1/complete"] * 3 + ["true", "rmdir 1"]),
    st.sampled_from(["ln -s 1 current"] * 3 + ["ln -s 0 current", "ln -s /srv/environments/1 current", "mkdir current", "true"]),
)
ENVIRONMENT_ARGS = st.builds(
    lambda more: ENVIRONMENT | more,
    maybe(
        path=st.sampled_from(["/srv/environments/1", "/srv/environments/1/", "/nowhere/1", "~/1"]),
        commands=st.sampled_from([[], ["x"], "x"]),
        edit=st.just("here"),
    ),
)
RELEASE = {"name": "probe", "version": "1.0", "url": "http://127.0.0.1:1/probe-1.0", "sha256": "a" * 64, "root": "/srv/releases"}
RELEASE_STATES = st.builds(
    lambda stamp, link: f"rm -rf /srv/releases; mkdir -p /srv/releases/probe/1.0; cd /srv/releases/probe; {stamp}; {link}",
    st.sampled_from([f"echo {'a' * 64} >1.0/.sha256"] * 3 + [f"echo {'b' * 64} >1.0/.sha256", "true", "rmdir 1.0"]),
    st.sampled_from(["ln -s 1.0 current"] * 3 + ["ln -s 0.9 current", "ln -s /srv/releases/probe/1.0 current", "mkdir current", "true"]),
)
RELEASE_ARGS = st.builds(
    lambda more: RELEASE | more,
    maybe(
        version=st.sampled_from(["1.0", "0.9", "../1.0", 1.0]),
        name=st.sampled_from(["probe", "Probe", "other"]),
        sha256=st.sampled_from(["a" * 64, "A" * 64, "b" * 64]),
        root=st.sampled_from(["/srv/releases/", "/nowhere"]),
        edit=st.just("here"),
    ),
)
NS = {"name": "@", "type": "NS", "value": "ns"}
ZONE = {"directory": "/srv/zones", "zones": [{"name": "a.test", "records": [NS, {"name": "ns", "type": "A", "value": "10.0.0.1"}]}]}
ZONE_TEXT = shlex.quote(render(zones_of(ZONE | {"ttl": 60, "expire": 7776000})[0], 7))
ZONE_STATES = st.builds(
    lambda mode, more: f"rm -rf /srv/zones; mkdir /srv/zones; cd /srv/zones; printf %s {ZONE_TEXT} >a.test.zone; chmod {mode} *; {more}",
    st.sampled_from(["0644", "0644", "0600"]),
    st.sampled_from(["true", "true", "cp a.test.zone .b.zone", "echo x >x", "rm -r /srv/zones"]),
)
ZONE_ARGS = st.builds(
    lambda records, twice, more: ZONE | {"zones": [{"name": "a.test", "records": records}] * twice} | more,
    st.sampled_from(
        [
            ZONE["zones"][0]["records"],
            [NS],
            [],
            [NS, {"name": "ns", "type": "A", "value": "10.0.0.1", "ttl": None}],
            [NS, {"name": "ns", "type": "A", "value": "10.0.0.1", "ttl": 5}],
            [NS, {"name": "ns", "type": "A", "value": "10.0.0.1", "color": "red"}],
        ]
    ),
    st.sampled_from([1, 1, 1, 2]),
    maybe(ttl=st.sampled_from([60, "60", 61]), directory=st.sampled_from(["/srv/zones/", "/nowhere", "~/zones"]), edit=st.just("here")),
)
TABLES = {
    "account": (USER_STATES, ACCOUNT_ARGS),
    "apt": (st.just("true"), APT_ARGS),
    "apt_hold": (HOLD_STATES, HOLD_ARGS),
    "apt_lists": (LISTS_STATES, LISTS_ARGS),
    "commit_confirm": (CONFIRM_STATES, CONFIRM_ARGS),
    "file": (FILE_STATES, FILE_ARGS),
    "group": (st.just("true"), GROUP_ARGS),
    "host_certificate": (TLS_STATES, TLS_ARGS),
    "kernel_settings": (KERNEL_STATES, KERNEL_ARGS),
    "lineinfile": (LINE_STATES, LINE_ARGS),
    "python_environment": (ENVIRONMENT_STATES, ENVIRONMENT_ARGS),
    "release": (RELEASE_STATES, RELEASE_ARGS),
    "ssh_host_certificate": (KEY_STATES, KEY_ARGS),
    "sysctl": (SYSCTL_STATES, SYSCTL_ARGS),
    "systemd_service": (UNIT_STATES, SERVICE_ARGS),
    "unit": (UNIT_STATES, UNIT_ARGS),
    "user": (USER_STATES, USER_ARGS),
    "zone": (ZONE_STATES, ZONE_ARGS),
}


def test_every_probe_has_its_table():
    assert set(TABLES) == set(SURE) == set(NAMES) - {"copy", "template"}


@pytest.mark.parametrize("name", TABLES)
def test_truth(judge, name):
    """State x arguments: the probe never says «already so» where the module would change something, refuse or fail."""
    made = cases(*TABLES[name], CASES if CASES > 1000 or name not in SLOW else CASES // 4)
    for case, told in zip(made, judge(name, made), strict=True):
        assert (told["unchanged"] and (told["same"] or name not in READ)) or not told["probed"], (case, told["real"])


# Contents travel beside a module's arguments: copy and template are judged by whole runs of both ways.
TRAVELLING = st.builds(
    lambda what, dest, more: (what[0], what[1] | {"dest": dest} | more),
    st.sampled_from(
        [
            ("copy", {"content": "one\n"}),
            ("copy", {"content": "two\n"}),
            ("copy", {"content": {"a": 1}}),
            ("copy", {"src": "x"}),
            ("template", {"src": "x.j2"}),
            ("template", {"src": "x.j2", "newline_sequence": "\r\n"}),
        ]
    ),
    st.sampled_from([PATH, PATH, f"{PATH}/", "/srv/probe/", "/srv/probe/none/x"]),
    maybe(
        **ACCESS,
        force=st.booleans(),
        follow=st.booleans(),
        backup=st.booleans(),
        validate=st.sampled_from(["true %s", "false %s"]),
    ),
)
PLAY = """
- hosts: molecule
  gather_facts: false
  tasks:
    - {name: One by one, ansible.builtin.include_tasks: cases.yml, when: way == 'include'}
    - {name: In one trip, lsst.ldf.batch: cases.yml, when: way == 'batch'}
"""


def test_truth_of_what_travels(pair, tmp_path):
    """State x arguments of copy and template: a batch's check run says of each what the same tasks say one by one."""
    for directory, name, text in (("files", "x", "one\n"), ("templates", "x.j2", "{{ 'one' }}\n"), ("", "play.yml", PLAY)):
        (tmp_path / directory).mkdir(exist_ok=True)
        (tmp_path / directory / name).write_text(text)
    made, unchanged = cases(FILE_STATES, TRAVELLING, CASES), set()
    for first in range(0, len(made), 20):
        tasks = []
        for number, (state, (action, args)) in enumerate(made[first : first + 20]):
            inside("batch", state.replace("/srv/probe", f"/srv/probe{number}"))
            args = args | {"dest": args["dest"].replace("/srv/probe", f"/srv/probe{number}")}
            tasks.append({"name": f"case {number}", f"ansible.builtin.{action}": args, "ignore_errors": True})
        (tmp_path / "cases.yml").write_text(json.dumps(tasks))
        told = {way: run(way, "--check", on="batch", playbook=str(tmp_path / "play.yml")) for way in ("include", "batch")}
        assert told["batch"].outcome == told["include"].outcome, tasks
        unchanged |= {task["name"] for task in tasks} - {*told["batch"].changed, *told["batch"].failed}
    assert unchanged


SURE = {
    "account": (
        "userdel -r probe || true; groupadd -g 4322 probe; useradd -u 4322 -g probe -m -s /bin/sh probe",
        {"groups": [{"name": "probe", "gid": 4322}], "users": [{"name": "probe", "uid": 4322, "shell": "/bin/sh"}]},
    ),
    "apt_hold": ("apt-mark unhold procps; apt-mark hold mawk", {"name": ["mawk"]}),
    "apt_lists": (
        "mkdir -p /var/lib/apt/periodic; touch /var/lib/apt/lists/x_Packages /var/lib/apt/periodic/update-success-stamp",
        {"proxy": "http://127.0.0.1:1", "needed": ["mawk"]},
    ),
    "commit_confirm": (
        "rm -rf /var/lib/lsst/commit-confirm; printf one >/etc/probe.conf; chmod 0644 /etc/probe.conf; systemctl enable --quiet ssh;"
        " systemctl restart ssh",
        {"name": "probe", "files": [{"dest": "/etc/probe.conf", "content": "one"}], "unit": "ssh", "probe": "true"},
    ),
    "host_certificate": (
        "rm -rf /srv/tls; mkdir /srv/tls; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /srv/tls/host.key",
        {"step": "report", "directory": "/srv/tls", "names": ["a"], "root": "root", "trust": True, "key_algorithm": "ec-p256"},
    ),
    "kernel_settings": (
        "sysctl -qw net.ipv4.ip_default_ttl=64; mkdir -p /var/lib/lsst/kernel-settings;"
        ' echo \'{"net.ipv4.ip_default_ttl": "64"}\' >/var/lib/lsst/kernel-settings/sure.json',
        {"name": "sure", "settings": {"net.ipv4.ip_default_ttl": 64}},
    ),
    "ssh_host_certificate": ("rm -f /srv/key*; ssh-keygen -q -t ed25519 -N '' -f /srv/key", {"key": "/srv/key"}),
    "apt": ("true", {"name": ["procps", "iproute2"], "state": "present"}),
    "file": (
        "mkdir -p /srv/sure; chmod 0750 /srv/sure",
        {"path": "/srv/sure", "state": "directory", "mode": "0750", "owner": "root", "group": "root"},
    ),
    "group": ("true", {"name": "games", "gid": 60, "system": True}),
    "lineinfile": ("printf 'a\\nkey = 1\\n' >/srv/sure.conf", {"path": "/srv/sure.conf", "regexp": "^key", "line": "key = 1"}),
    "python_environment": (
        "rm -rf /srv/environments; mkdir -p /srv/environments/1; cd /srv/environments; touch 1/complete; ln -s 1 current",
        ENVIRONMENT,
    ),
    "release": (
        f"rm -rf /srv/releases; mkdir -p /srv/releases/probe/1.0; cd /srv/releases/probe; echo {'a' * 64} >1.0/.sha256; ln -s 1.0 current",
        RELEASE,
    ),
    "sysctl": (
        "echo kernel.panic=0 >/etc/sysctl.d/sure.conf",
        {"name": "kernel.panic", "value": "0", "sysctl_file": "/etc/sysctl.d/sure.conf", "reload": False},
    ),
    "systemd_service": ("systemctl enable --quiet --now ssh", {"name": "ssh", "state": "started", "enabled": True}),
    "unit": ("true", {"name": "ssh", "state": "started", "enabled": True, "restart_after": ["/etc/debian_version"]}),
    "user": ("true", {"name": "games", "uid": 5, "home": "/usr/games", "create_home": False}),
    "zone": (f"rm -rf /srv/zones; mkdir /srv/zones; printf %s {ZONE_TEXT} >/srv/zones/a.test.zone", ZONE),
}


@pytest.mark.parametrize("name", SURE)
def test_sure(judge, name):
    """Each probe does answer where everything is as asked."""
    told = judge(name, [SURE[name]])[0]
    assert told["probed"] and told["unchanged"] and (told["same"] or name not in READ), told
