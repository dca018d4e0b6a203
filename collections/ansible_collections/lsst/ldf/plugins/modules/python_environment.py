#!/usr/bin/python
"""Build a Python environment from a lock file beside the others and take it into use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: python_environment
short_description: Build a Python environment from a lock file beside the others and take it into use
version_added: 0.3.0
description:
  - Each lock file has an environment of its own, named after it and never changed again; the link C(current) beside it says which one is in
    use. Older ones stay, for what still runs from them and for the way back.
  - Only wheels are installed whose checksums the lock file has. One with another checksum, a program that does not start, a killed run
    and a full disk leave the old environment in use; what is not whole goes, or is built anew.
  - Nothing is compiled ahead but what O(commands) import.
options:
  path:
    description: The environment, named after what is in the lock file, such as C(/opt/lsst/bps/0d5c3b1f2a9e).
    type: path
    required: true
  requirements:
    description: The lock file's text, as C(pip) reads it, each package with its version and the checksums of its wheels.
    type: str
    required: true
  wheels:
    description: Where the wheels are, the URL of a page that links them or a directory of the host. Nothing is fetched from elsewhere.
    type: str
    required: true
  commands:
    description:
      - Programs of the environment that must end well before it is used, each with its arguments. What they import is compiled, for users
        who may not write there.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Looks, and builds nothing.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Have what submits pipelines
  lsst.ldf.python_environment:
    path: "/opt/lsst/bps/{{ (lock | hash('sha256'))[:12] }}"
    requirements: "{{ lock }}"
    wheels: https://ncsa-depot01.ncsa.lsst.internal/wheels/
    commands: [bps submit --help]
  vars:
    lock: "{{ lookup('ansible.builtin.file', 'requirements-bps.lock', rstrip=false) }}"
"""

RETURN = r"""
actions:
  description: What was due, of V(build) and V(switch).
  type: list
  elements: str
  returned: always
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.python_environment import SPEC, EnvironmentFailed, build, due
from ansible_collections.lsst.ldf.plugins.module_utils.release import switch


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    p = module.params
    place = Path(p["path"])
    actions = due(place)
    try:
        if "build" in actions and not module.check_mode:
            build(place, p["requirements"], p["wheels"], p["commands"])
        if "switch" in actions and not module.check_mode:
            switch(place)
    except EnvironmentFailed as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{place} cannot be made: {error}.\nAllowed: room and a writable disk.\nMake room and run again; the old one is in use."
        )
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
