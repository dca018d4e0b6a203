"""requirements.yml and the pinned ansible package speak of the same collections."""

import json
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

TOP = Path(__file__).parents[2]
CONTROL_LOCK = "requirements-control.lock"


def test_the_collections_come_with_the_pinned_package():
    """The second lock's package is older and has older ones."""
    named = {entry["name"]: entry["version"] for entry in yaml.safe_load((TOP / "requirements.yml").read_text())["collections"]}
    listed = subprocess.run(["ansible-galaxy", "collection", "list", "--format=json"], cwd=TOP, capture_output=True, text=True, check=True)
    there = {name: entry["version"] for found in json.loads(listed.stdout).values() for name, entry in found.items()}
    assert set(named) <= set(there)
    if version("ansible") == re.search(r"^ansible==([\d.]+)", (TOP / "requirements.lock").read_text(), re.M)[1]:
        assert {name: there[name] for name in named} == named


def test_a_control_host_runs_what_was_tested():
    """Its lock file holds a part of the other's packages, each in the same version, with checksums and no word of where they come from."""
    pinned = {name: dict(re.findall(r"^([\w-]+)==(\S+)", (TOP / name).read_text(), re.M)) for name in ("requirements.lock", CONTROL_LOCK)}
    assert pinned[CONTROL_LOCK].items() <= pinned["requirements.lock"].items()
    groups = tomllib.loads((TOP / "pyproject.toml").read_text())["dependency-groups"]
    assert set(groups["control"]) <= set(pinned[CONTROL_LOCK])
    assert {line.split(":")[0].strip() for line in (TOP / CONTROL_LOCK).read_text().splitlines() if "==" not in line} == {"--hash=sha256"}


def test_every_collection_that_is_used_is_named():
    """In what Ansible reads: a word of three parts that begins with a known name space."""
    named = {entry["name"] for entry in yaml.safe_load((TOP / "requirements.yml").read_text())["collections"]}
    files = [path for part in ("inventories", "playbooks", "roles", "molecule", "lab") for path in (TOP / part).rglob("*.yml")]
    words = re.compile(r"\b((?:ansible|community|containers|awx)\.(?!builtin\b)[a-z_]+)\.[a-z_]+\b")
    used = {word for path in [*files, TOP / "site.yml", TOP / "ansible.cfg"] for word in words.findall(path.read_text())}
    assert used == named
