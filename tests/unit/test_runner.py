"""The playbooks run through ansible-runner as they do from the command line: this is what AWX does."""

from pathlib import Path

import ansible_runner

TOP = Path(__file__).parent.parent.parent


def test_check_playbook_over_productions_inventory(tmp_path):
    """Every host of Base is validated, nothing is contacted, and the event stream tells it."""
    done = ansible_runner.run(
        private_data_dir=str(tmp_path),
        project_dir=str(TOP),
        playbook="playbooks/check.yml",
        inventory=str(TOP / "inventories" / "production"),
        limit="base",
        envvars={"ANSIBLE_CONFIG": str(TOP / "ansible.cfg")},
        quiet=True,
    )
    assert done.status == "successful", done.stdout.read()
    validated = {event["event_data"]["host"] for event in done.events if event["event"] == "runner_on_ok"}
    assert "base-dtn01" in validated and all(host.startswith("base-") for host in validated)
    assert not any(done.stats["changed"].values())
