"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: role_settings
short_description: Write the options of a host's roles to a file of the control side
version_added: 0.1.0
description:
  - Takes every option in the argument specs of O(roles), with the value that the role would see (variable or default), leaves out
    those marked C(no_log), and writes them with the host's connection as JSON for tests to read. Runs on the control side only.
  - The variable C(lsst_ldf_tests_connection) says how the tests reach the host when not as Ansible does.
options:
  roles:
    description: Names of the roles.
    type: list
    elements: str
    required: true
  dest:
    description: The file, on the control side. Mode 0600, in a directory of mode 0700 where there is none.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Writes the file in check mode too; no host is touched.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Write the options of the host's roles
  lsst.ldf.role_settings:
    roles: [timesync]
    dest: .cache/verify/base-dtn01.json
"""

RETURN = r"""
dest:
  description: The written file.
  type: str
  returned: always
"""
