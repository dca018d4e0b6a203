"""Python environments side by side: whole or not at all, only of what the lock file names, and a link that says which is in use."""

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import python_environment as env
from ansible_collections.lsst.ldf.plugins.module_utils.release import switch


@pytest.fixture
def place(tmp_path):
    return tmp_path / "opt" / "tool" / "0d5c3b1f2a9e"


@pytest.fixture
def ran(monkeypatch):
    """The commands that would run; those that have ``fails`` in them fail."""
    commands = []

    def run(command, **options):
        commands.append(command)
        if "venv" in command:
            env.Path(command[-1], "bin").mkdir(parents=True)
        return env.subprocess.CompletedProcess(command, int("fails" in command), stdout="THESE PACKAGES DO NOT MATCH\n")

    monkeypatch.setattr(env.subprocess, "run", run)
    return commands


def test_an_environment_is_built_and_taken_into_use(place, ran):
    assert env.due(place) == ["build", "switch"]
    env.build(place, "tool==1 --hash=sha256:0\n", "/srv/wheels", ["tool --help"])
    switch(place)
    assert env.due(place) == [] and (place / "requirements.lock").read_text() == "tool==1 --hash=sha256:0\n"
    assert ran[1][-4:] == ["--find-links", "/srv/wheels", "--requirement", str(place / "requirements.lock")]
    assert ran[2] == [str(place / "bin" / "tool"), "--help"]


@pytest.mark.parametrize(("wheels", "commands"), [("fails", []), ("/srv/wheels", ["tool fails"])])
def test_what_fails_leaves_the_old_one_in_use(place, ran, wheels, commands):
    old = place.with_name("old")
    env.build(old, "", "/srv/wheels", [])
    switch(old)
    with pytest.raises(env.EnvironmentFailed, match=r"(?s)THESE PACKAGES DO NOT MATCH\nAllowed: .*\n.*dit the lock file"):
        env.build(place, "", wheels, commands)
    assert sorted(path.name for path in place.parent.iterdir()) == ["current", "old"] and env.due(old) == []


def test_what_a_killed_run_left_is_built_anew(place, ran):
    (place / "lib").mkdir(parents=True)
    assert env.due(place) == ["build", "switch"]
    env.build(place, "", "/srv/wheels", [])
    assert not (place / "lib").exists()


def test_the_probe_says_what_the_module_would(place, ran):
    asked = {"path": str(place), "requirements": "", "wheels": "", "commands": []}
    assert env.already(asked) is None
    env.build(place, "", "/srv/wheels", [])
    switch(place)
    assert env.already(asked) == {"changed": False, "actions": []}
