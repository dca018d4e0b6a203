"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_roles
short_description: Judge the values that a host's roles would get
version_added: 0.1.0
description:
  - Holds every variable of O(roles), or the role's default where the inventory is silent, against the role's argument specs.
  - Refuses a variable that begins with the name of one of O(roles) and is no option of it, and one that is a slip of the pen away from
    an option. Of several roles whose names it begins with, the longest owns a variable. Names that begin with an underscore are internal.
  - Fails once a host, with everything that is wrong, each in three parts. The values of C(no_log) options are never shown.
  - Runs on the control side only; the host need not be reachable.
options:
  roles:
    description: Names of the host's roles.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Validate the values of the host's roles
  lsst.ldf.validate_roles:
    roles: [timesync, sysctl]
"""

RETURN = r"""
msg:
  description: What is wrong, what is allowed and the file to edit, for each wrong value.
  type: str
  returned: always
"""
