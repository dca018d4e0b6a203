"""The 41 resources that every way of the comparison applies, written down once: (module, its arguments) as Ansible names them.

``python resources.py`` prints them as a tasks file; deploy.py hands the same to pyinfra.
"""

from __future__ import annotations

import json
from typing import Any

TOP = "/opt/bench"
ROOT = {"owner": "root", "group": "root"}
BENCH = {"owner": "root", "group": "bench0"}
RESOURCES: list[tuple[str, dict[str, Any]]] = [
    *(("group", {"name": f"bench{n}", "gid": 7100 + n}) for n in range(3)),
    *(
        ("user", {"name": f"bench{n}", "uid": 7100 + n, "group": "bench0", "shell": "/usr/sbin/nologin", "home": TOP, "create_home": False})
        for n in range(4)
    ),
    ("file", {"path": TOP, "state": "directory", **ROOT, "mode": "0755"}),
    *(("file", {"path": f"{TOP}/{n}", "state": "directory", **BENCH, "mode": "0750"}) for n in range(7)),
    *(("apt", {"name": name, "state": "present"}) for name in ("hello", "tree", "pv", "dos2unix", "pwgen")),
    *(("template", {"src": "bench.conf.j2", "dest": f"{TOP}/{n % 7}/{n}.conf", **BENCH, "mode": "0640"}) for n in range(12)),
    *(("copy", {"src": "bench.service", "dest": f"/etc/systemd/system/bench{n}.service", **ROOT, "mode": "0644"}) for n in range(3)),
    *(("systemd_service", {"name": f"bench{n}.service", "state": "started", "enabled": True}) for n in range(3)),
    *(("lineinfile", {"path": f"{TOP}/lines", "line": f"line {n}", "create": True}) for n in range(2)),
    ("sysctl", {"name": "net.ipv4.tcp_keepalive_intvl", "value": "70", "sysctl_file": "/etc/sysctl.d/99-bench.conf", "sysctl_set": True}),
]
assert len(RESOURCES) == 41


def tasks() -> list[dict[str, Any]]:
    """The resources as Ansible's tasks."""
    names = {"sysctl": "ansible.posix.sysctl"}
    return [
        {"name": f"Resource {number}", names.get(kind, f"ansible.builtin.{kind}"): args} for number, (kind, args) in enumerate(RESOURCES)
    ]


if __name__ == "__main__":
    # JSON is YAML as well.
    print(json.dumps(tasks(), indent=1))
