#!/usr/bin/python
"""Keep a key that signs HTCondor's tokens."""

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_signing_key
short_description: Keep a key that signs HTCondor's tokens
version_added: 0.3.0
description:
  - A key is a file of the pool's manager, and of nobody else. Who has it can make any token.
  - With O(state=absent), all tokens that it signed are worth nothing from then on; running daemons are told (C(condor_reconfig)).
options:
  name:
    description: Its name. Tokens say by which key they are signed.
    type: str
    required: true
  key:
    description: Its bytes, as text. When not given, it is made at random where there is none, and stays as it is where there is one.
    type: str
  directory:
    description: Where keys are; the host's SEC_PASSWORD_DIRECTORY.
    type: path
    default: /etc/condor/passwords.d
  state:
    description: Whether it is there.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Says what would happen.
  diff_mode:
    support: none
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Have a second key, to change to
  lsst.ldf.htcondor_signing_key:
    name: K2
"""

RETURN = r"""
keys:
  description: Names of the keys that are there, or would be.
  type: list
  elements: str
  returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.htcondor import CondorError, condor, daemons
from ansible_collections.lsst.ldf.plugins.module_utils.htcondor_token import check_name, new_key, scrambled, write

SPEC = {
    "name": {"type": "str", "required": True},
    "key": {"type": "str", "no_log": True},
    "directory": {"type": "path", "default": "/etc/condor/passwords.d"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    p = module.params
    path = Path(p["directory"]) / p["name"]
    try:
        check_name(p["name"])
        old = path.read_bytes() if path.exists() else None
        keys = {each.name for each in path.parent.glob("[A-Za-z0-9]*")}
        if p["state"] == "absent":
            changed, keys = old is not None, keys - {p["name"]}
            if changed and not module.check_mode:
                path.unlink()
                if "master" in daemons():
                    condor("condor_reconfig")
        else:
            wanted = scrambled(p["key"].encode()) if p["key"] is not None else old or scrambled(new_key())
            changed, keys = old != wanted or path.stat().st_mode & 0o077 != 0, keys | {p["name"]}
            if changed and not module.check_mode:
                write(path, wanted)
    except (CondorError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, keys=sorted(keys))


if __name__ == "__main__":
    main()
