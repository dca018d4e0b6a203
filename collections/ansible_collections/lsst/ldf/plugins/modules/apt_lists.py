#!/usr/bin/python
"""Keep apt's lists of packages fresh, and say what to do when they cannot be had."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_lists
short_description: Keep apt's lists of packages fresh
version_added: 0.1.0
description:
  - Fetches the lists when they are older than O(max_age) or than the sources they belong to.
  - Lists that cannot be fetched fail the task only where something waits for them, that is when one of O(needed) is not installed;
    otherwise they are a warning, so that a run without anything to install ends well while the package cache is down.
options:
  proxy:
    description: URL of the package cache that apt is configured with; empty for none.
    type: str
    default: ""
  max_age:
    description: Age in seconds at which the lists are fetched again.
    type: int
    default: 86400
  needed:
    description: Packages that are about to be installed unless they are already.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Fetches nothing and only warns, because the package cache may be about to come.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Refresh the lists of packages
  lsst.ldf.apt_lists:
    proxy: http://10.64.16.17:3142
    needed: [curl, jq]
"""

RETURN = r"""
age:
  description: Age of the lists in seconds before the task; -1 when there were none.
  type: int
  returned: always
"""

import socket
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.apt_lists import MAX_AGE, STAMP, endpoint, fetched, stale

FILE = "inventories/production/group_vars/all/package.yml"


def unreachable(address: tuple[str, int], timeout: float = 5.0) -> str | None:
    """Why ``address`` accepts no TCP connection within ``timeout`` seconds; None when it does."""
    try:
        with socket.create_connection(address, timeout):
            return None
    except OSError as error:
        return str(error)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "proxy": {"type": "str", "default": ""},
            "max_age": {"type": "int", "default": MAX_AGE},
            "needed": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    proxy, needed = module.params["proxy"], module.params["needed"]
    try:
        address = endpoint(proxy) if proxy else None
    except ValueError as error:
        allowed = "a URL such as http://10.64.16.17:3142, or nothing for none"
        module.fail_json(msg=f"{error}\nAllowed: {allowed}.\nEdit package_proxy in {FILE}.")
    _, shown, _ = module.run_command(["dpkg-query", "--show", "--showformat=${binary:Package} ${db:Status-Status}\n"], check_rc=True)
    installed = {line.split()[0].partition(":")[0] for line in shown.splitlines() if line.endswith(" installed")}
    missing = sorted(set(needed) - installed)
    since = fetched()
    age = int(time.time() - since) if since else -1
    old = stale(since, module.params["max_age"])
    reason = unreachable(address) if address and (old or missing) else None
    if old and not reason and not module.check_mode:
        code, _, complaint = module.run_command(["apt-get", "update", "--option=APT::Update::Error-Mode=any", "--quiet"])
        reason = next((line for line in complaint.splitlines() if line.startswith("E: ")), complaint) if code else None
        if not reason:
            STAMP.parent.mkdir(parents=True, exist_ok=True)
            STAMP.touch()
    if reason:
        source = f"the package cache {proxy}" if proxy else "the sources in /etc/apt"
        answer = "apt-cacher-ng of the site's depot answers" if proxy else "they answer"
        edit = f"edit package_{'proxy' if proxy else 'archive'} in {FILE}"
        message = f"No packages through {source}: {reason}\nExpected: {answer}.\nStart what does not, or {edit}."
        if not module.check_mode and (missing or not since):
            module.fail_json(msg=f"{message}\nNot installed yet: {', '.join(missing) or 'nothing known, there are no lists'}.", age=age)
        module.warn(message)
    module.exit_json(changed=False, age=age)


if __name__ == "__main__":
    main()
