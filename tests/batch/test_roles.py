"""Every role of the project by a batch and by include_tasks, on fresh containers of its scenario: the same outcome, the same hosts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import TOP, outcome, play, shown, state

ROLES = sorted(path.name for path in (TOP / "roles").iterdir() if (path / "tasks" / "configure.yml").exists())
SHARED = TOP / "molecule" / "shared"
# Made anew for each host or run: keys, passwords, what is signed or has a serial, addresses that a network lends.
OWN = re.compile(
    r" /etc/(lsst/tls/(host\.key|host\.crt|ca\.crl)|ssh/ssh_host_\w+(-cert)?(\.pub)?|bind/(rndc\.key|zones/.*)|nftables\.conf"
    r"|ssl/(certs/ssl-cert-snakeoil\.pem|private/ssl-cert-snakeoil\.key)"
    r"|apt-cacher-ng/zz_admin\.conf|lsst/control/id-cert\.pub|condor/(tokens\.d/(pool|flock-[\w.]+)|passwords\.d/POOL|\w+\.pem|known_hosts)|systemd/system/shaping\.service)$"
    # What HTCondor's clients keep for who asks, such as the activator of bps, once a few seconds have passed.
    r"|/home/alice/\.condor\b"
    # Runs every few seconds.
    r"|^(bps-activator|gpfs-health|object-store-replicate|storage-health)\."
)
# What differs in texts: addresses, keys and passwords, times.
DIFFERENT = re.compile(r"\d+\.\d+\.\d+\.\d+|[\w+/=-]{20,}|\d{4}-\d\d-\d\d[ T][\d:]+|\b\d{10}\b")


def by_include(role: str, roles: Path) -> Path:
    """The roles, this one with include_tasks in the place of lsst.ldf.batch; those that its hosts have beside it have their own test."""
    for source in (TOP / "roles").iterdir():
        if source.name != role:
            (roles / source.name).symlink_to(source)
    shutil.copytree(TOP / "roles" / role, roles / role)
    for path in (roles / role / "tasks").iterdir():
        path.write_text(path.read_text().replace("lsst.ldf.batch: ", "ansible.builtin.include_tasks: "))
    return roles


def recorded(role: str) -> Path | None:
    """The record of the role's last ``make molecule`` (callback record), when nothing was changed since."""
    told = TOP / ".cache" / "records" / role / "told.json"
    sources = (path for name in ("collections", "molecule", "roles") for path in (TOP / name).rglob("*") if "__pycache__" not in path.parts)
    return told.parent if told.exists() and told.stat().st_mtime > max(path.stat().st_mtime for path in sources) else None


class Scenario:
    """A role's scenario, whose containers are made anew for each of the ways."""

    def __init__(self, role: str, ephemeral: Path, by_include: Path):
        self.by_include, self.ephemeral = by_include, ephemeral
        self.directory = TOP / "molecule" / role
        self.hosts = list(yaml.safe_load((self.directory / "inventory.yml").read_text())["molecule"]["hosts"])
        self.environment = {"MOLECULE_SCENARIO_NAME": role, "MOLECULE_EPHEMERAL_DIRECTORY": str(ephemeral)}

    def play(self, playbook: Path, *arguments: str, **environment: str):
        """Play over the scenario's containers; see conftest.play."""
        return play([f"--inventory={self.directory}/inventory.yml", str(playbook), *arguments], **self.environment | environment)

    def make(self) -> None:
        """Fresh containers, prepared as the scenario asks."""
        steps = [SHARED / "create.yml"] + [path for path in [self.directory / "prepare.yml"] if path.exists()]
        for step in steps:
            rc, text, _ = self.play(step, "--skip-tags=proof")
            assert rc == 0, text

    def converge(self, way: str):
        """Outcome by host of the role, by ``way``."""
        roles = self.by_include if way == "include" else TOP / "roles"
        chosen = json.dumps({"lsst_ldf_batch": True})
        rc, text, report = self.play(SHARED / "converge.yml", "--diff", "-e", chosen, ANSIBLE_ROLES_PATH=str(roles))
        assert rc == 0, text
        return {host: outcome(rc, text, report, host) for host in self.hosts}

    def state(self) -> dict[str, list[str]]:
        """What each container holds."""
        return {host: state(host) for host in self.hosts}

    def recorded(self, record: Path):
        """What ``converge`` and ``state`` would return of a recorded converge. Its keys and passwords are those to use from now on."""
        shutil.copytree(record / "secrets", self.ephemeral / "secrets")
        report = json.loads((record / "told.json").read_text())
        return {host: outcome(0, "", report, host) for host in self.hosts}, json.loads((record / "state.json").read_text())

    def destroy(self) -> None:
        for host in self.hosts:
            subprocess.run(["bash", SHARED / "reap.sh", host], check=True)


def differences(told) -> list[str]:
    """What a run showed of before and after."""
    return [DIFFERENT.sub("*", str(pair)) for pair in shown(told.diffs)]


def unlike(batch, include) -> list[str]:
    """What differs between two ways, host by host. Each is what ``converge`` and what ``state`` returned."""
    found = []
    for host, told in include[0].items():
        if batch[0][host].outcome != told.outcome:
            found.append(f"{host}: {batch[0][host].outcome} by a batch, {told.outcome} by include_tasks")
        if differences(batch[0][host]) != differences(told):
            found.append(f"{host}: {differences(batch[0][host])} by a batch, {differences(told)} by include_tasks")
        lines = sorted(set(batch[1][host]) ^ set(include[1][host]))
        found += [f"{host}: {line}" for line in lines if not OWN.search(line)]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_role(role, tmp_path, tmp_path_factory):
    """That neither a batch nor the real modules find anything to do after a batch, every scenario's idempotence and check steps show."""
    scenario = Scenario(role, tmp_path, by_include(role, tmp_path_factory.mktemp("roles")))
    record = scenario.recorded(place) if (place := recorded(role)) else None
    try:
        scenario.make()
        include = scenario.converge("include"), scenario.state()
    finally:
        scenario.destroy()
    assert any(each.changed for each in include[0].values())
    # What the scenario's own tests left on the bare hosts is in a record, too: what is unlike it is looked at on fresh ones.
    if record and not (found := unlike(record, include)):
        return
    if record:
        print("unlike the record:", *found, sep="\n")
    try:
        scenario.make()
        batch = scenario.converge("batch"), scenario.state()
    finally:
        scenario.destroy()
    assert unlike(batch, include) == []
