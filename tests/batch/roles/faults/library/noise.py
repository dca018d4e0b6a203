#!/usr/bin/python
"""A module for the tests: prints what is no JSON before and after its result, or no result at all."""

from __future__ import annotations

import sys

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={"result": {"type": "bool"}})
    print("a library says hello {")
    if not module.params["result"]:
        sys.stderr.write("and complains\n")
        sys.exit(3)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
