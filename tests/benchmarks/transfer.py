"""How fast files travel over a link of 320 Mbit/s and 0, 50 or 200 ms; nothing asserted, one table.

By dtn-send, rclone (sftp) and GNU parallel over rsync, one file or the same in parts at once; by xrootd's own command without any checks,
and by rsync over ssh.

The two nodes of the Molecule scenario ``dtn``, joined by a third container that is the line of the lab: its rate (HTB) and its delay
(lab/network/delay.py). MB/s are megabytes of the file: over all, from the command's start to its end, and steady, while the middle of
the file arrives, without start, checksum and renaming. ``python tests/benchmarks/transfer.py [MB]``: the files' size, 256 unless told.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from containers import PODMAN, TOP, on, run, scenario

sys.path += [str(TOP / "lab"), str(TOP / "plugins/filter")]
import topology

# Files go from the node with the small receiving disk to the other one.
SENDER, RECEIVER, LINE = "dtn-far", "dtn-near", "dtn-line"
ADDRESS = {RECEIVER: "198.51.100.41", SENDER: "198.51.100.42", LINE: "198.51.100.43"}
RATE_MBIT = 320
CLASSES = yaml.safe_load((TOP / "inventories/production/group_vars/all/plan.yml").read_text())["plan"]["classes"]
ROUND_TRIPS = (0, 50, 200)
# Each travels over a connection of its own.
FILES = (1, 2, 4, 8)
ARRIVED = "/srv/dtn/incoming/far"
FILE = "/var/tmp/lsst-bench"
# What dtn-send tells xrootd's client; for the client alone, with one stream.
CLIENT = (
    "env XrdSecPROTOCOL=gsi XrdSecGSICADIR=/run/dtn/ca X509_CERT_DIR=/run/dtn/ca XrdSecGSICREATEPROXY=0"
    " XrdSecGSIUSERCERT=/etc/lsst/tls/host.crt XrdSecGSIUSERKEY=/etc/lsst/tls/host.key"
)
# A plain sshd beside the role's own, which lets nobody in by a bare key.
SSHD = "/usr/sbin/sshd -D -f /dev/null -p 2222 -h /etc/ssh/ssh_host_ed25519_key -o PermitRootLogin=yes -o 'Subsystem sftp internal-sftp'"
SSH = "ssh -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i /root/.ssh/bench"
WAYS = {
    "xrdcp": f"{CLIENT} xrdcp --nopbar --force {FILE} roots://dtn-near.test//incoming/far/.lsst-bench.part",
    "rsync over ssh": f"rsync --inplace --whole-file -e '{SSH}' {FILE} root@dtn-near.test:{ARRIVED}/.lsst-bench.part",
}
# And the parts at once; rclone compares checksums, as dtn-send does.
PARALLEL = {
    "dtn-send": "dtn-send --tries 1 {file}.* near",
    "parallel rsync": f"ls {{file}}.* | parallel --jobs {{files}}"
    f" \"rsync --inplace --whole-file -e '{SSH}' {{{{}}}} root@dtn-near.test:{ARRIVED}/\"",
    "rclone sftp": "rclone copy --transfers {files} --checkers {files} --include 'lsst-bench.*' --sftp-host dtn-near.test --sftp-user root"
    f" --sftp-port 2222 --sftp-key-file /root/.ssh/bench --sftp-chunk-size 255k /var/tmp :sftp:{ARRIVED}",
}


@dataclass(frozen=True)
class Rate:
    """Megabytes of the file a second."""

    overall: float
    steady: float


@contextmanager
def nodes(megabytes: int) -> Iterator[None]:
    """The two nodes, converged, with a line between them and a file to send."""
    with scenario("dtn"):
        try:
            run("bash", str(TOP / "molecule/shared/boot.sh"), LINE)
            join()
            for name in (SENDER, RECEIVER):
                on(name, "apt-get install --yes -qq rsync openssh-server parallel rclone")
            on(
                SENDER,
                f"head -c {megabytes}000000 /dev/urandom >{FILE}; mkdir -p /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/bench",
            )
            key = on(SENDER, "cat /root/.ssh/bench.pub").strip()
            on(RECEIVER, f"mkdir -p /root/.ssh; echo {key} >/root/.ssh/authorized_keys")
            on(RECEIVER, f"systemd-run --quiet --collect --property RuntimeDirectory=sshd {SSHD}")
            yield
        finally:
            run("bash", str(TOP / "molecule/shared/reap.sh"), LINE, check=False)


def join() -> None:
    """Lead what goes from one node to the other into the line's tun devices, one a direction."""
    commands = ["sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0"]
    commands += ["sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0"]
    commands += [f"ip address replace {ADDRESS[LINE]}/24 dev eth0", "ip rule add priority 10 iif eth0 lookup 10"]
    for name in (SENDER, RECEIVER):
        end = topology.LinkEnd("bench", name, "", "", RATE_MBIT, 0, 10)
        commands += [
            f"ip tuntap add mode tun name {end.line}",
            f"sysctl -qw net.ipv4.conf.{end.line}.rp_filter=0",
            *topology.shaping(end, CLASSES),
        ]
        commands += [f"ip route add {ADDRESS[name]}/32 dev {end.line} table 10"]
    on(LINE, " && ".join(f"{{ {command}; }}" for command in commands))
    run(PODMAN, "cp", str(TOP / "lab/network/delay.py"), f"{LINE}:/root/delay.py")
    for here, there in ((SENDER, RECEIVER), (RECEIVER, SENDER)):
        on(here, "sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.eth0.accept_redirects=0")
        on(here, f"ip route replace {ADDRESS[there]}/32 via {ADDRESS[LINE]} dev eth0 src {ADDRESS[here]}")


def distance(milliseconds: float) -> None:
    """Set the round trip between the nodes."""
    lines = "".join(f"w-{name} {milliseconds / 2000}\\n" for name in (SENDER, RECEIVER))
    on(LINE, f"systemctl stop delay 2>/dev/null; printf '{lines}' >/root/delay")
    on(LINE, "systemd-run --quiet --collect --unit delay --property Nice=-10 python3 /root/delay.py /root/delay")
    time.sleep(1)


def profile(name: str, nodes: Sequence[str] = (SENDER, RECEIVER)) -> None:
    """Give the nodes the settings of a profile of the role sysctl, as far as a container may have its own."""
    wanted = {"net.ipv4.tcp_rmem": "4096 131072 6291456", "net.ipv4.tcp_wmem": "4096 16384 4194304"}
    profiles = yaml.safe_load((TOP / "roles/sysctl/vars/main.yml").read_text())["__sysctl_profiles"]
    wanted |= profiles[name]["settings"]
    for node in nodes:
        for key, value in wanted.items():
            on(node, f"sysctl -qw {key}='{value}'", check=False)


def in_parts(way: str, files: int) -> str:
    """The command that sends the file in so many parts at once by one of PARALLEL."""
    window = yaml.safe_load((TOP / "roles/dtn/defaults/main.yml").read_text())["dtn_window"]
    options = f"s/^parallel = .*/parallel = {files}/; s/^window = .*/window = {window}/"
    parts = f"split --number {files} {FILE} {FILE}." if files > 1 else f"ln -f {FILE} {FILE}.1"
    command = PARALLEL[way].format(file=FILE, files=files)
    return f"sed -i '{options}' /etc/lsst/dtn/dtn.conf; rm -f {FILE}.*; {parts}; {command}"


def measure(command: str, nodes: Sequence[str] = (SENDER, RECEIVER), card: str = "eth0", file: str = FILE, arrived: str = ARRIVED) -> Rate:
    """Send ``file`` once, from the first node to the second one's card and its directory ``arrived``."""
    sender, receiver = nodes
    on(receiver, f"rm -f {arrived}/*{Path(file).name}* {arrived}/.*{Path(file).name}*")
    size = int(on(sender, f"stat -c %s {file}"))
    looks: list[tuple[float, int]] = []
    began = time.monotonic()
    start = [PODMAN, "exec", sender, "bash", "-c", f"{command} 2>&1"]
    with subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            # At the card: chunks of the file arrive in any order.
            looks.append((time.monotonic(), int(on(receiver, f"cat /sys/class/net/{card}/statistics/rx_bytes"))))
            time.sleep(0.2)
        took = time.monotonic() - began
        if process.returncode:
            raise RuntimeError(f"{command}: {process.stdout.read()}")
    first, last = looks[0][1], looks[-1][1]
    middle = [(when, count) for when, count in looks if first + 0.4 * (last - first) <= count <= first + 0.95 * (last - first)]
    steady = 0.0
    if len(middle) > 1:
        (start, low), (end, high) = middle[0], middle[-1]
        # The share of the wire that is the file.
        steady = (high - low) / (end - start) * size / (last - first) / 1e6
    return Rate(size / took / 1e6, steady)


def row(milliseconds: int, settings: str, way: str, command: str) -> None:
    rate = measure(command)
    print(f"{milliseconds:>6} {settings:<9}{way:<18}{rate.overall:>9.1f}{rate.steady:>9.1f}", flush=True)


def main(megabytes: int) -> int:
    print(f"{'RTT ms':>6} {'profile':<9}{'way':<18}{'overall':>9}{'steady':>9}   MB/s, {megabytes} MB over {RATE_MBIT} Mbit/s", flush=True)
    with nodes(megabytes):
        for milliseconds in ROUND_TRIPS:
            distance(milliseconds)
            for settings in ("dtn", "default") if milliseconds == max(ROUND_TRIPS) else ("dtn",):
                profile(settings)
                for way in PARALLEL:
                    for files in FILES:
                        row(milliseconds, settings, f"{way}, {files}", in_parts(way, files))
                for way, command in WAYS.items():
                    row(milliseconds, settings, way, command)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 256))
