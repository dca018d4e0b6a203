"""How fast files go through the NFS server, against a plain copy on the same disks in the same run; nothing asserted, one table.

The host of the Molecule scenario ``storage``, whose client is libnfs in a network namespace of it; nothing is cached there.
MB/s are megabytes of the file, the median of three runs, a write until it is on the disk. ``python tests/benchmarks/storage.py [MB]``:
the file's size, 256 unless told.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
HOST = "storage-host"
RUNS = 3
CLIENT = "ip netns exec writer"
# Of the mirror and of the single disk: its directory, and what clients call it.
EXPORTS = {"btrfs, mirror": ("/data/project", "project"), "XFS": ("/bulk/scratch", "scratch")}
WAYS = {
    "local write": "cp /tmp/bench {directory}/bench",
    "NFS write": CLIENT + " nfs-cp /tmp/bench 'nfs://192.0.2.1/{export}/bench?version=4'",
    "local read": "cat {directory}/bench >/dev/null",
    "NFS read": CLIENT + " nfs-cat 'nfs://192.0.2.1/{export}/bench?version=4' >/dev/null",
}


def run(*command: str) -> str:
    """What a command printed."""
    # The scenario's own proofs are its own business.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ANSIBLE_SKIP_TAGS": "proof"}
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def on(command: str) -> str:
    """What a shell command printed on the host."""
    return run(str(TOP / "lab/podman"), "exec", HOST, "bash", "-c", command)


def seconds(way: str, directory: str, export: str) -> float:
    """How long it takes once; a written file is removed before, what is read was written through the server's page cache."""
    writes = "write" in way
    on(f"rm -f {directory}/bench; sync" if writes else "sync")
    began = time.monotonic()
    on(WAYS[way].format(directory=directory, export=export) + (f" && sync --file-system {directory}" if writes else ""))
    return time.monotonic() - began


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    try:
        for step in ("destroy", "converge"):
            run("molecule", step, "-s", "storage")
        on(f"btrfs qgroup limit none /data/project; head -c {megabytes}000000 /dev/urandom >/tmp/bench")
        print(f"MB/s, {megabytes} MB\n\n| | {' | '.join(WAYS)} | server's memory |\n|{'---|' * (len(WAYS) + 2)}")
        for name, (directory, export) in EXPORTS.items():
            rates = [statistics.median(megabytes / seconds(way, directory, export) for _ in range(RUNS)) for way in WAYS]
            memory = on("awk '/^Pss:/ {print int($2 / 1024)}' /proc/$(systemctl show nfs-ganesha --property MainPID --value)/smaps_rollup")
            print(f"| {name} | {' | '.join(f'{rate:.0f}' for rate in rates)} | {memory.strip()} MB |", flush=True)
    finally:
        run("molecule", "destroy", "-s", "storage")


if __name__ == "__main__":
    main()
