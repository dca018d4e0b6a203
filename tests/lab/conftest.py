"""The running lab, and what the tests of this directory take from it. They need no converged host; they change nothing that stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from driving import call, lab

from runs import on, podman


@pytest.fixture(scope="session")
def running() -> list[str]:
    """The names of all running containers of the lab."""
    names = podman("ps", "--format", "{{.Names}}", "--filter", "label=lsst.lab").split()
    assert "lab-gw-base" in names, "the Base site does not run. Start it: lab/lab.py up base"
    return names


@pytest.fixture(scope="session")
def near(running) -> str:
    """A host of the Base site with a long-haul card."""
    return next(name for name in running if name.startswith("base-dtn"))


@pytest.fixture(scope="session")
def victim(running) -> Iterator[str]:
    """The host that is killed and made again: it serves nobody. If it was converged, it is so again afterwards."""
    name = next(name for name in running if name.startswith("base-spare"))
    converged = on(name, "cat /etc/nftables.conf", check=False).find("lsst") > 0
    yield name
    if converged:
        done = call("ansible-playbook", "site.yml", f"--limit={name}", timeout=600)
        assert done.rc == 0, done.text


@pytest.fixture(scope="session")
def depot(running) -> str:
    return next(name for name in running if name.startswith("base-depot"))


@pytest.fixture(scope="session")
def far(running) -> Iterator[str]:
    """A host of NCSA with a long-haul card, started for these tests when the site does not run."""
    found = [name for name in running if name.startswith("ncsa-dtn")]
    if found:
        yield found[0]
        return
    lab("up", "ncsa", "--limit", "ncsa-dtn01")
    yield "ncsa-dtn01"
    if not any(name.startswith(("ncsa-", "lab-gw-ncsa")) for name in running):
        lab("down", "ncsa")
