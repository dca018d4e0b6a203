"""What is wrong with a host's file systems, directories and exports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network
from itertools import combinations
from typing import Any

DOCUMENTATION = r"""
name: storage_problems
short_description: What is wrong with a host's file systems, directories and exports
version_added: 0.1.0
description:
  - Looks at what no type shows, such as two exports of one directory, or an export to a network of nobody.
  - Each problem is a message that says what is wrong, what is allowed and what to edit.
positional: _input, directories, exports, networks
options:
  _input:
    description: The file systems, each with V(name), V(path), V(type) and V(devices).
    type: list
    elements: dict
    required: true
  directories:
    description: The directories, each with its V(path), and perhaps V(quota) and V(snapshots).
    type: list
    elements: dict
    required: true
  exports:
    description: The exports, each with V(name), V(path), V(pseudo) and V(clients), each of which has V(networks).
    type: list
    elements: dict
    required: true
  networks:
    description: The networks that there are; every client is in one of them.
    type: list
    elements: str
    required: true
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
problems: "{{ storage_filesystems | lsst.ldf.storage_problems(storage_directories, storage_exports, ['10.64.0.0/14']) }}"
"""

RETURN = r"""
_value:
  description: The messages; none when all is well.
  type: list
  elements: str
"""

EDIT = "Edit inventories/production/group_vars/storage/storage.yml, or the file that sets storage_{0}."
# A directory without anything that a unit's name, a project or a shell would need quoted.
PATH = r"(/[a-z0-9_]+)+"

Row = Mapping[str, Any]


def storage_problems(filesystems: Iterable[Row], directories: Iterable[Row], exports: Iterable[Row], networks: Iterable[str]) -> list[str]:
    """All problems. See DOCUMENTATION for the shapes."""
    filesystems, directories, exports = list(filesystems), list(directories), list(exports)
    tops = [row["path"] for row in filesystems]
    return [
        *wrong_filesystems(filesystems),
        *wrong_directories(directories, tops),
        *wrong_exports(exports, {row["path"] for row in directories}),
        *wrong_clients(exports, [IPv4Network(network) for network in networks]),
    ]


def wrong_filesystems(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        # XFS has room for 12 letters, and the label of an unfinished one is longer by one.
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,10}", row["name"]):
            yield problem("filesystems", f"{row['name']!r} is no name", "up to 11 of a-z, 0-9 and _")
        if row["type"] == "xfs" and len(row["devices"]) != 1:
            yield problem(
                "filesystems", f"{row['name']} is XFS on {len(row['devices'])} devices", "one, such as an array of md; or type btrfs"
            )
        if not row["devices"]:
            yield problem("filesystems", f"{row['name']} has no devices", "one at least")
    yield from wrong_paths("filesystems", rows)
    devices = [device for row in rows for device in row["devices"]]
    for device in sorted({device for device in devices if devices.count(device) > 1}):
        yield problem("filesystems", f"{device} is named twice", "a device once")


def wrong_directories(rows: list[Row], tops: list[str]) -> Iterator[str]:
    for row in rows:
        if not re.fullmatch(PATH, row["path"]) or not any(is_below(row["path"], top) for top in tops):
            yield problem("directories", f"{row['path']} is in no file system", f"a directory below {listed(tops)}")
        if row.get("quota") and not re.fullmatch(r"[1-9]\d*[KMGTP]", row["quota"]):
            yield problem(
                "directories", f"{row['path']} has the quota {row['quota']!r}", "a whole number and one of K, M, G, T, P, such as 3200G"
            )
    paths = [row["path"] for row in rows]
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        yield problem("directories", f"{path} is there twice", "each directory once")
    own = sorted(row["path"] for row in rows if row.get("quota") or row.get("snapshots"))
    for outer, inner in combinations(own, 2):
        if is_below(inner, outer):
            yield problem("directories", f"{inner} is inside of {outer}", "quota and snapshots for one of them")


def wrong_exports(rows: list[Row], directories: set[str]) -> Iterator[str]:
    names = [row["name"] for row in rows]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield problem("exports", f"two exports are called {name}", "a name for each")
    for row in rows:
        # Of a file system that is not mounted, nothing is exported: the directory is not there.
        if row["path"] not in directories:
            yield problem("exports", f"{row['name']} exports {row['path']}", f"one of storage_directories: {listed(directories)}")
    yield from wrong_paths("exports", rows)
    yield from wrong_paths("exports", rows, "pseudo")


def wrong_clients(rows: list[Row], networks: list[IPv4Network]) -> Iterator[str]:
    for row in rows:
        seen: list[IPv4Network] = []
        for client in row["clients"]:
            for text in client["networks"]:
                try:
                    network = IPv4Network(text)
                except ValueError as error:
                    yield problem("exports", f"{row['name']} is for {text!r}, which is no network ({error})", "one such as 10.64.19.0/24")
                    continue
                if not any(network.subnet_of(known) for known in networks):
                    yield problem("exports", f"{row['name']} is for {network}, which is no site's", f"networks in {listed(networks)}")
                if network in seen:
                    yield problem("exports", f"{row['name']} is for {network} twice", "a network once, as ro or rw")
                seen.append(network)


def wrong_paths(table: str, rows: list[Row], key: str = "path") -> Iterator[str]:
    """Paths that are no such, are there twice, or lie in one another."""
    for row in rows:
        if not re.fullmatch(PATH, row[key]):
            yield problem(table, f"{row['name']} has the {key} {row[key]!r}", "one such as /data/project, of a-z, 0-9 and _")
    for one, other in combinations(sorted(rows, key=lambda row: row[key]), 2):
        if one[key] == other[key] or is_below(other[key], one[key]):
            wrong = f"{other['name']} ({other[key]}) overlaps {one['name']} ({one[key]})"
            yield problem(table, wrong, f"a {key} outside of all others")


def is_below(path: str, top: str) -> bool:
    return path.startswith(f"{top}/")


def listed(names: Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


def problem(table: str, wrong: str, allowed: str) -> str:
    return f"storage_{table}: {wrong}. Allowed: {allowed}. {EDIT.format(table)}"


class FilterModule:
    """What Ansible looks for."""

    def filters(self):
        """The filters of this file by name."""
        return {"storage_problems": storage_problems}
