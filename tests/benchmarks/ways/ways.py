"""The same 41 resources on the same hosts by include_tasks, by pyinfra and by lsst.ldf.batch; nothing asserted, one table.

Wall seconds; CPU seconds of the control side (the command and all its children) and of the rest of the machine, which are the hosts;
memory is how much less the machine had available at the worst moment. Each way's first apply is on freshly booted containers.
``python tests/benchmarks/ways/ways.py [HOSTS ...]``: how many hosts, 10 and 40 unless told.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parent.parent.parent
sys.path.append(str(HERE.parent))
from bench import cpu  # noqa: E402

WORK = TOP / ".cache" / "ways"
PYINFRA = TOP / ".cache" / "venv-pyinfra"
PODMAN = str(TOP / "lab" / "podman")
# A container with systemd needs about eight.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
NOBODY = 200  # hosts of the row that measures the control side alone
FLOOR = "raw: /bin/true"
COMMANDS = {
    "include_tasks": f"ansible-playbook -i {WORK}/hosts.yml {HERE}/site.yml -e way=include_tasks",
    "pyinfra": f"{PYINFRA}/bin/pyinfra --yes --parallel 20 {WORK}/hosts.py {HERE}/deploy.py",
    "batch": f"ansible-playbook -i {WORK}/hosts.yml {HERE}/site.yml -e way=batch",
    FLOOR: f"ansible-playbook -i {WORK}/hosts.yml {HERE}/site.yml -e way=raw",
}


def main(sizes: list[int]) -> int:
    """Measure everything, a row each."""
    WORK.mkdir(parents=True, exist_ok=True)
    if not (PYINFRA / "bin" / "pyinfra").exists():
        run(f"uv venv --quiet --clear --python {sys.executable} {PYINFRA}")
    run(f"uv pip sync --quiet --require-hashes --python {PYINFRA}/bin/python {TOP}/requirements-bench.lock")
    (WORK / "id").unlink(missing_ok=True)
    run(f"ssh-keygen -q -t ed25519 -N '' -f {WORK}/id")
    fill_cache()
    print(f"{'hosts':>5} {'way':<16}{'run':<12}{'wall s':>8}{'CPU s':>8}{'control':>8}{'hosts':>8}{'MB':>7}", flush=True)
    bad, allowed = 0, INOTIFY.read_text()
    for size in sizes:
        names = [f"bench-{number:02}" for number in range(size)]
        INOTIFY.write_text("4096")
        try:
            for way in COMMANDS:
                bad += measure_way(way, names)
        finally:
            for name in names:
                run(f"{PODMAN} rm --force --ignore --time 0 --volumes {name}")
            INOTIFY.write_text(allowed)
    inventories([f"bench-{number:03}" for number in range(NOBODY)], connection="nothing")
    bad += measure(NOBODY, "batch", "no host", changes=False)
    return int(bad > 0)


def measure_way(way: str, names: list[str]) -> int:
    """The rows of one way on fresh hosts; how many of them are wrong."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(boot, names))
    inventories(names)
    if way == FLOOR:
        # For the connections to be as warm as they are for the other ways.
        run(COMMANDS[way])
        return measure(len(names), way, "no-op", changes=False)
    return measure(len(names), way, "first apply", changes=True) + measure(len(names), way, "no-op", changes=False)


def run(command: str, check: bool = True) -> str:
    """What a shell command printed."""
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection_plugins")}
    done = subprocess.run(["bash", "-c", command], cwd=TOP, env=environment, text=True, capture_output=True, check=False)
    if check and done.returncode:
        sys.exit(f"{command} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"\nexit code {done.returncode}\n")


def fill_cache() -> None:
    """Download the packages once, so that the first way does not pay for the others."""
    run(f"bash {TOP}/molecule/shared/boot.sh bench-00")
    run(f"{PODMAN} exec bench-00 apt-get --quiet --yes --download-only install hello tree pv dos2unix pwgen")
    run(f"bash {TOP}/molecule/shared/reap.sh bench-00")


def boot(name: str) -> None:
    """A fresh container with a login user who may become root."""
    run(f"bash {TOP}/molecule/shared/boot.sh {name}")
    key = (WORK / "id.pub").read_text().strip()
    run(
        f"{PODMAN} exec -i {name} sh -e <<'E'\n"
        "useradd --create-home --shell /bin/bash bench && echo 'bench ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/bench\n"
        f"mkdir -m 0700 ~bench/.ssh && echo '{key}' >~bench/.ssh/authorized_keys && chown -R bench: ~bench/.ssh\n"
        "E"
    )


def inventories(names: list[str], connection: str = "ssh") -> None:
    """The same hosts for Ansible and for pyinfra."""
    hosts: dict[str, dict[str, str]] = {name: {"ansible_connection": connection} for name in names}
    known = []
    for name in names if connection == "ssh" else []:
        (network,) = json.loads(run(f"{PODMAN} inspect {name}"))[0]["NetworkSettings"]["Networks"].values()
        hosts[name]["ansible_host"] = network["IPAddress"]
        known.append(f"{network['IPAddress']} {run(f'{PODMAN} exec {name} cat /etc/ssh/ssh_host_ed25519_key.pub').strip()}")
    (WORK / "known_hosts").write_text("".join(f"{line}\n" for line in known))
    options = f"-o UserKnownHostsFile={WORK}/known_hosts -o IdentitiesOnly=yes -o HostKeyAlgorithms=ssh-ed25519"
    variables = {
        "ansible_user": "bench",
        "ansible_ssh_private_key_file": f"{WORK}/id",
        "ansible_ssh_common_args": options,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    (WORK / "hosts.yml").write_text(json.dumps({"bench": {"hosts": hosts, "vars": variables}}))
    data = {"ssh_user": "bench", "ssh_key": f"{WORK}/id", "ssh_known_hosts_file": f"{WORK}/known_hosts", "_sudo": True}
    rows = [(name, data | {"ssh_hostname": host.get("ansible_host", "")}) for name, host in hosts.items()]
    (WORK / "hosts.py").write_text(f"bench = {rows!r}\n")


def measure(size: int, way: str, what: str, changes: bool) -> bool:
    """One row; whether the run failed, or changed something when it should not, or did not when it should."""
    least, done = [available()], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            least.append(available())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, wall, machine = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), cpu()
    text = run(COMMANDS[way], check=False)
    wall, machine, after = time.monotonic() - wall, cpu() - machine, resource.getrusage(resource.RUSAGE_CHILDREN)
    done.set()
    watcher.join()
    control = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = (least[0] - min(least)) / 1000
    (WORK / f"{size}-{way.partition(':')[0]}-{what.replace(' ', '-')}.log").write_text(text)
    changed = bool(re.search(r"changed=[1-9]", text) if "PLAY RECAP" in text else re.search(r"Grand total +\d+ +[1-9]", text))
    wrong = "exit code" in text or changed != changes
    mark = f"  WRONG, see {WORK.relative_to(TOP)}" if wrong else ""
    numbers = f"{wall:>8.1f}{machine:>8.1f}{control:>8.1f}{machine - control:>8.1f}{memory:>7.0f}"
    print(f"{size:>5} {way:<16}{what:<12}{numbers}{mark}", flush=True)
    return wrong


def available() -> int:
    """kB of memory that the machine could still give."""
    return int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1))


if __name__ == "__main__":
    sys.exit(main([int(size) for size in sys.argv[1:]] or [10, 40]))
