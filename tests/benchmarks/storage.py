"""How fast files go through the servers of files and of objects, against a plain copy on the same disks; nothing asserted, one table.

On the hosts of the Molecule scenarios ``storage``, whose client is libnfs in a network namespace, and ``object_store``, by rclone over TLS;
no client keeps anything. MB/s are megabytes of the file, the median of three runs, a write until it is on the disk; what is read is in the
server's page cache. ``python tests/benchmarks/storage.py [MB]``: the file's size, 256 unless told.
"""

from __future__ import annotations

import statistics
import sys
import time
import uuid
from dataclasses import dataclass

from containers import on, scenario

RUNS = 3
NFS = "ip netns exec writer"
S3 = (
    "rclone --config '' --s3-provider Other --s3-no-check-bucket --s3-endpoint https://s3.near.test"
    " --s3-access-key-id saluser --s3-secret-access-key saluser-0123456789abcdef"
)


@dataclass(frozen=True)
class Server:
    """``directory``: of the same disk; ``write``, ``read``: what a client does with the file ``{name}``."""

    scenario: str
    host: str
    unit: str
    directory: str
    write: str
    read: str


def nfs(directory: str, export: str) -> Server:
    where = f"'nfs://192.0.2.1/{export}/{{name}}?version=4'"
    return Server("storage", "storage-host", "nfs-ganesha", directory, f"{NFS} nfs-cp /tmp/bench {where}", f"{NFS} nfs-cat {where}")


SERVERS = {
    "NFS, btrfs mirror": nfs("/data/project", "project"),
    "NFS, XFS": nfs("/bulk/scratch", "scratch"),
    "S3": Server(
        "object_store",
        "object-store-near1",
        "object-store",
        "/srv/object-store/buckets/rubinobs-lfa-ls",
        f"{S3} copyto /tmp/bench :s3:rubinobs-lfa-ls/{{name}}",
        f"{S3} cat :s3:rubinobs-lfa-ls/{{name}}",
    ),
}
PREPARE = {"storage": "btrfs qgroup limit none /data/project", "object_store": "true"}


def seconds(server: Server, command: str, writes: bool) -> float:
    """How long it takes once, under a name of its own: a server remembers names that are removed behind its back."""
    name = f"bench-{uuid.uuid4().hex}"
    on(server.host, "sync" if writes else f"cp /tmp/bench {server.directory}/{name}; sync")
    began = time.monotonic()
    then = f"&& sync --file-system {server.directory}" if writes else ">/dev/null"
    on(server.host, f"{command.format(name=name)} {then}")
    took = time.monotonic() - began
    on(server.host, f"rm {server.directory}/{name}")
    return took


def row(server: Server, megabytes: int) -> list[str]:
    """MB/s of a plain write, the client's, a plain read, the client's; the server's memory."""
    ways = (f"cp /tmp/bench {server.directory}/{{name}}", server.write, f"cat {server.directory}/{{name}}", server.read)
    rates = [statistics.median(megabytes / seconds(server, way, number < 2) for _ in range(RUNS)) for number, way in enumerate(ways)]
    memory = on(
        server.host, f"awk '/^Pss:/ {{print int($2 / 1024)}}' /proc/$(systemctl show {server.unit} --property MainPID --value)/smaps_rollup"
    )
    return [*(f"{rate:.0f}" for rate in rates), f"{memory.strip()} MB"]


def main(megabytes: int) -> int:
    print(f"MB/s, {megabytes} MB\n\n| | local write | write | local read | read | server's memory |\n|---|---|---|---|---|---|")
    for role, prepare in PREPARE.items():
        with scenario(role):
            chosen = {name: server for name, server in SERVERS.items() if server.scenario == role}
            on(next(iter(chosen.values())).host, f"{prepare}; head -c {megabytes}000000 /dev/urandom >/tmp/bench")
            for name, server in chosen.items():
                print(f"| {' | '.join([name, *row(server, megabytes)])} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 256))
