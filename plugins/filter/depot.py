"""Lock files of the depot's snapshots: what apt names, and what it is asked for.

A lock file has a line a package as sha256sum reads it, ``<sha256>  <name>_<version>_<architecture>.deb``, sorted by file. The names are
those that apt gives downloaded packages: in a version, a colon is written %3a.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from ansible.errors import AnsibleFilterError

# A line of apt-get --print-uris: 'http://.../chrony_4.6.1-3_amd64.deb' chrony_4.6.1-3_amd64.deb 330048 SHA256:...
NAMED = re.compile(r"^'[^']+' (?P<file>\S+_\S+_\w+\.deb) \d+ SHA256:(?P<sha256>[0-9a-f]{64})$")
LOCKED = re.compile(r"^(?P<sha256>[0-9a-f]{64})  (?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_/]+)_(?P<arch>[a-z0-9]+)\.deb$")


def depot_lock(told: Iterable[str]) -> str:
    """The text of a lock file, of what ``apt-get --print-uris`` told in one run or several; other lines of it are passed over."""
    found = {match["file"]: match["sha256"] for text in told for match in map(NAMED.match, text.splitlines()) if match}
    if not found:
        raise AnsibleFilterError(
            "apt named no package with its SHA-256. Allowed: a package at least. Edit: depot_packages, or apt's sources"
        )
    return "".join(f"{sha256}  {file}\n" for file, sha256 in sorted(found.items()))


def depot_locked(text: str, path: str) -> list[dict[str, str]]:
    """The packages of a lock file: [{file, wanted}], ``wanted`` as ``apt-get download`` takes it; ``path`` is for the message."""
    locked = []
    for number, line in enumerate(text.splitlines(), 1):
        match = LOCKED.match(line)
        if not match:
            allowed = "a SHA-256, two spaces, <name>_<version>_<architecture>.deb"
            raise AnsibleFilterError(f"line {number} of the lock file is {line!r}. Allowed: {allowed}. Edit: {path}")
        wanted = f"{match['name']}:{match['arch']}={unquote(match['version'])}"
        locked.append({"file": line.partition("  ")[2], "wanted": wanted})
    return locked


class FilterModule:
    """Filters for playbooks/fill-depot.yml."""

    def filters(self):
        return {"depot_lock": depot_lock, "depot_locked": depot_locked}
