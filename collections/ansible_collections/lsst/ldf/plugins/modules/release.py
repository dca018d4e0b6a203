#!/usr/bin/python
"""Install a release of a program beside the others and take it into use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Install a release of a program beside the others and take it into use
version_added: 0.1.0
description:
  - Software that is no Debian package lies in C(/opt/lsst/<name>/<version>); the link C(/opt/lsst/<name>/current) says which one is in use.
  - Fetches a release that is not there, compares its checksum before anything of it has a name, and moves the link. Older releases stay, so
    that an upgrade and the way back are another O(version). Units that run it name the link in C(restart_after) of M(lsst.ldf.unit).
  - A killed run or a full disk leave the old release in use and nothing that looks like a new one.
options:
  name:
    description: The program. Its file has this name, unless O(url) ends in C(.tar.gz), which is unpacked.
    type: str
    required: true
  version:
    description: The release.
    type: str
    required: true
  url:
    description: Where the site's depot serves it.
    type: str
    required: true
  sha256:
    description: Checksum of what O(url) gives.
    type: str
    required: true
  root:
    description: Directory of all releases.
    type: path
    default: /opt/lsst
attributes:
  check_mode:
    support: full
    description: Looks, and fetches nothing.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Install the gateway
  lsst.ldf.release:
    name: versitygw
    version: 1.8.0
    url: https://base-depot01.base.lsst.internal/release/versitygw-1.8.0
    sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
"""

RETURN = r"""
actions:
  description: What was due, of V(install) and V(switch).
  type: list
  elements: str
  returned: always
"""

from pathlib import Path
from urllib.error import URLError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.lsst.ldf.plugins.module_utils.release import SPEC, ReleaseError, check, due, install, switch


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    p = module.params
    place = Path(p["root"]) / p["name"] / p["version"]
    try:
        check(p["name"], p["version"], p["sha256"])
        actions = due(place, p["sha256"])
        if not module.check_mode:
            if "install" in actions:
                install(place, p["url"], p["sha256"], lambda url: open_url(url, timeout=60))
            if "switch" in actions:
                switch(place)
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    except URLError as error:
        module.fail_json(
            msg=f"{p['url']} cannot be had: {error}.\nAllowed: a depot that serves it.\nRun site.yml with -l and the site's depot first."
        )
    except OSError as error:
        module.fail_json(
            msg=f"{place} cannot be made: {error}.\nAllowed: room and a writable disk.\nMake room and run again; the old release is in use."
        )
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
