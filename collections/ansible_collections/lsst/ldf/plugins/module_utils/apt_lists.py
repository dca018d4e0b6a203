"""The lists of packages that apt has: how old they are, and from which package cache they come."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

LISTS = Path("/var/lib/apt/lists")
STAMP = Path("/var/lib/apt/periodic/update-success-stamp")
SOURCES = Path("/etc/apt")
MAX_AGE = 86400  # seconds


def fetched(lists: Path = LISTS, stamp: Path = STAMP) -> float:
    """When the lists were fetched, in seconds since the epoch; 0.0 when there are none."""
    if not any(lists.glob("*Packages*")):
        return 0.0
    return (stamp if stamp.exists() else lists).stat().st_mtime


def written(sources: Path = SOURCES) -> float:
    """When a file of sources under ``sources`` was last written, in seconds since the epoch; 0.0 when there is none."""
    files = (*sources.glob("sources.list"), *sources.glob("sources.list.d/*"), *sources.glob("lsst.d/*"))
    return max((path.stat().st_mtime for path in files), default=0.0)


def stale(since: float, max_age: float) -> bool:
    """Whether lists fetched at ``since`` are over ``max_age`` seconds old, or older than what says where they come from."""
    return since < max(written(), time.time() - max_age)


def endpoint(proxy: str) -> tuple[str, int]:
    """Host and port of the package cache at ``proxy``; ValueError when that is no URL such as http://10.64.16.17:3142."""
    url = urlsplit(proxy)
    if url.scheme != "http" or not url.hostname or not url.port:
        raise ValueError(f"{proxy!r} is no package cache")
    return url.hostname, url.port
