#!/usr/bin/python
"""Change what can cut Ansible off, and take it back unless a new connection confirms it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: commit_confirm
short_description: Change what can cut Ansible off, and take it back unless a new connection confirms it
version_added: 0.1.0
description:
  - Writes files and has their unit take them up, like M(ansible.builtin.copy) and M(lsst.ldf.unit) together, for files that can
    lock Ansible out, such as those of sshd, sudo, the firewall or the resolver.
  - Before it changes anything the host saves the old state and starts a timer that restores it. The action then opens a new
    connection and confirms, which stops the timer. If no new connection works, the host restores itself and the task fails saying so.
  - A host that goes down in between restores itself at its next boot, and a run that is killed in between is taken back by the next one.
  - A change that the host itself cannot run with (the checker refuses it, the unit does not come up) is taken back at once.
  - Nothing due costs one round trip.
options:
  name:
    description: A short word for what changes. At most one change of a name waits for its confirmation.
    type: str
    required: true
  files:
    description: The files that change together.
    type: list
    elements: dict
    required: true
    suboptions:
      dest:
        description: Path on the host. Where it is a bind mount it is written in place.
        type: path
        required: true
      state:
        description: Whether there is to be a file.
        type: str
        choices: [present, absent]
        default: present
      content:
        description: The whole text.
        type: str
      template:
        description: A template of the role, rendered as M(ansible.builtin.template) does, instead of O(files[].content).
        type: str
      mode:
        description: Permissions, octal and quoted.
        type: str
        default: "0644"
      owner:
        description: User name or number.
        type: str
        default: root
      group:
        description: Group name or number.
        type: str
        default: root
      validate:
        description: A command that checks the new file before it replaces the old one. C(%s) becomes the path of a temporary copy.
        type: str
  unit:
    description: The systemd unit that reads the files. It is started if it does not run.
    type: str
  verb:
    description: What O(unit) needs in order to take up changed files. Also due when it started or reloaded before its files last changed.
    type: str
    choices: [reload, restart]
    default: restart
  enabled:
    description: Whether O(unit) starts with the machine.
    type: bool
    default: true
  apply:
    description: A command that takes up changed files instead of a unit. It runs again after the old files are back.
    type: str
  probe:
    description:
      - A command that succeeds while O(unit) really runs with the files as they are.
      - When it fails, O(verb) is due although no file changed.
      - A change after which it still fails is taken back.
    type: str
  timeout:
    description: Seconds after which the host takes an unconfirmed change back. Taking it up may last half as long.
    type: float
    default: 60
  edit:
    description: Where a wrong value is corrected; ends every message. The variables of the calling role when not given.
    type: str
  phase:
    description: Set by the action; C(confirm) keeps the change of O(run).
    type: str
    choices: [commit, confirm]
    default: commit
  run:
    description: Set by the action; names one change to its confirmation.
    type: str
attributes:
  check_mode:
    support: full
    description:
      - Says what would change, runs the checkers and does nothing else.
      - A checker, owner or unit that is not there yet counts as about to come, so that a check of a bare host ends well.
  diff_mode:
    support: full
    description: Shows each file's difference and what the unit is due for.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Load the rule set
  lsst.ldf.commit_confirm:
    name: firewall
    unit: nftables
    verb: reload
    files:
      - dest: /etc/nftables.conf
        template: nftables.conf.j2
        mode: "0600"
        validate: nft --check --file %s
"""

RETURN = r"""
files:
  description: The files that were due.
  type: list
  elements: str
  returned: always
actions:
  description: What the unit was due for.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.commit_confirm import SPEC, Refused, change_of, commit, confirm
from ansible_collections.lsst.ldf.plugins.module_utils.systemd import SystemdError


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, mutually_exclusive=[("unit", "apply")], supports_check_mode=True)
    p = module.params
    try:
        change = change_of(p, module.check_mode)
        if p["phase"] == "confirm":
            module.exit_json(changed=False, answer=confirm(change.home, p["run"]))
        answer = commit(change, p["run"], module.check_mode)
    except (Refused, SystemdError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
