"""The playbooks run through ansible-runner as they do from the command line: this is how AWX runs them."""

from pathlib import Path

import ansible_runner

import keys

TOP = Path(__file__).parents[2]


def test_check_playbook_through_the_event_stream(tmp_path):
    """Every host of Base is validated, nothing is contacted, and the events tell it."""
    keys.make(tmp_path / "secrets", ["base", "ncsa", "summit", "tucson"], "ldfadmin", "lsst.internal")
    done = ansible_runner.run(
        private_data_dir=str(tmp_path),
        project_dir=str(TOP),
        playbook="playbooks/check.yml",
        inventory=[str(TOP / "inventories" / "production"), str(TOP / "inventories" / "lab")],
        limit="base",
        extravars={"lab_secrets": str(tmp_path / "secrets")},
        envvars={"ANSIBLE_CONFIG": str(TOP / "ansible.cfg")},
        quiet=True,
    )
    assert done.status == "successful", done.stdout.read()
    validated = {event["event_data"]["host"] for event in done.events if event["event"] == "runner_on_ok"}
    assert "base-dtn01" in validated and all(host.startswith("base-") for host in validated)
    assert not any(done.stats["changed"].values())
