#!/usr/bin/python
"""Keep a host's users and groups, all of them at once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: account
short_description: Keep a host's users and groups, all of them at once
version_added: 0.1.0
description:
  - Like M(ansible.builtin.group) and M(ansible.builtin.user) for whole lists, in one round trip.
  - Contradictions, within the lists and between them and the host, are refused before anything changes. A uid or gid is never changed,
    because files would stay behind with the old one.
  - No password opens a user of the list.
  - A user is in exactly the given groups as far as these are in O(groups); memberships that others gave stay.
  - What is in neither list is left alone. The home of a user that goes is left where it is.
options:
  groups:
    description: The groups.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the group.
        type: str
        required: true
      gid:
        description: Its number. Required unless it is to be absent.
        type: int
      state:
        description: Whether there is to be such a group.
        type: str
        choices: [present, absent]
        default: present
  users:
    description: The users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Login name.
        type: str
        required: true
      uid:
        description: Its number. Required unless it is to be absent.
        type: int
      group:
        description: Primary group. The group of the user's name if not given.
        type: str
      groups:
        description: Further groups.
        type: list
        elements: str
        default: []
      shell:
        description: Login shell.
        type: str
        default: /bin/bash
      home:
        description: Home directory, made with the user. C(/home/NAME) if not given.
        type: path
      comment:
        description: Who or what it is.
        type: str
        default: ""
      sudo:
        description: For the caller's own use, ignored here.
        type: bool
        default: false
      state:
        description: Whether there is to be such a user.
        type: str
        choices: [present, absent]
        default: present
  edit:
    description: Where a wrong value is corrected; ends every message.
    type: str
    default: account_groups and account_users in inventories/production/group_vars/*/account.yml
attributes:
  check_mode:
    support: full
    description: Says what would change, refusals included. A shell that is not there counts as about to come.
  diff_mode:
    support: full
    description: Shows each user and group before and after.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Create people and service users
  lsst.ldf.account:
    groups:
      - {name: iip, gid: 61003}
    users:
      - {name: iip, uid: 61003, group: iip, shell: /usr/sbin/nologin}
      - {name: former, state: absent}
"""

RETURN = r"""
commands:
  description: What was run, or would be.
  type: list
  elements: list
  returned: success
  sample: [[groupadd, --gid, "61003", iip]]
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.accounts import SPEC, Group, Host, User, after, clashes, commands, read_host, wanted

# What groupdel ends with when userdel has taken the user's own group along.
NO_SUCH_GROUP = 6


def diff(groups: list[Group], users: list[User], host: Host, touched: set[str]) -> list[dict[str, str]]:
    """Before and after of every user and group of which a command is due."""
    managed = {group.name for group in groups}
    entries = []
    for group in groups:
        have = f"gid {host.gids[group.name]}\n" if group.name in host.gids else ""
        entries.append((f"group {group.name}", have, f"gid {group.gid}\n" if group.present else ""))
    for user in users:
        account = host.users.get(user.name)
        wanted = f"{after(user, account, managed)}\n" if user.present else ""
        if user.name in touched:
            entries.append((f"user {user.name}", f"{account}\n" if account else "", wanted))
    return [{"before_header": name, "after_header": name, "before": old, "after": new} for name, old, new in entries if old != new]


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    p = module.params
    groups, users = wanted(p["groups"], p["users"])
    host = read_host([user.uid for user in users], [group.gid for group in groups])
    wrong = clashes(groups, users, host, shells=not module.check_mode)
    if wrong:
        module.fail_json(msg="\n".join([*wrong, f"Nothing was changed. Edit {p['edit']}."]))
    due = commands(groups, users, host)
    for command in [] if module.check_mode else due:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and (command[0], done.returncode) != ("groupdel", NO_SUCH_GROUP):
            module.fail_json(msg=f"{' '.join(command)} failed: {done.stderr.strip()}\nRun again when that is mended, or edit {p['edit']}.")
    module.exit_json(changed=bool(due), commands=due, diff=diff(groups, users, host, {command[-1] for command in due}))


if __name__ == "__main__":
    main()
