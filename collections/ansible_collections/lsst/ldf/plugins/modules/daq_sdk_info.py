#!/usr/bin/python
"""Say which releases of the camera's DAQ software are there, whole and in use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: daq_sdk_info
short_description: Say which releases of the camera's DAQ software are there, whole and in use
version_added: 0.3.0
description:
  - Looks at what M(lsst.ldf.daq_sdk) installed. Reads all files of all releases, and C(/proc/<pid>/maps) of all processes.
options:
  name:
    description: The software.
    type: str
    choices: [daq-sdk, rpt-sdk]
    required: true
  base_dir:
    description: Directory of all releases; C(/opt/lsst/<name>) when not given.
    type: path
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: See which releases are in use
  lsst.ldf.daq_sdk_info:
    name: daq-sdk
"""

RETURN = r"""
current:
  description: The release that the link C(current) leads to; empty for none.
  type: str
  returned: success
links:
  description: All links in the directory, and the release that each leads to.
  type: dict
  returned: success
  sample: {current: R5-V11.3}
releases:
  description: The releases, newest first by their version.
  type: list
  elements: dict
  returned: success
  contains:
    version:
      description: Its name.
      type: str
    size:
      description: Bytes of its files.
      type: int
    archive_size:
      description: Bytes of the archive that is kept of it; 0 for none.
      type: int
    checksum:
      description: SHA-256 of the archive that it was made of; empty when nothing tells.
      type: str
    verified:
      description: Whether its files and its archive are what they were.
      type: bool
    damaged:
      description: Paths that are missing or other than they were; the version itself when it has no manifest.
      type: list
      elements: str
    processes:
      description: Processes that map files of it, with C(pid) and C(name).
      type: list
      elements: dict
unknown:
  description: Processes whose maps cannot be read, with C(pid) and C(name).
  type: list
  elements: dict
  returned: success
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils import daq


def main() -> None:
    module = AnsibleModule(daq.INFO_SPEC, supports_check_mode=True)
    base, name = daq.base_of(module.params), module.params["name"]
    try:
        with daq.locked(base):
            held, links = daq.holders(base), daq.links(base)
            releases = [daq.report(daq.Release(base, name, version), held) for version in daq.installed(base)]
    except OSError as error:
        module.fail_json(msg=f"{base} cannot be read: {error}.\nAllowed: a directory of releases.\nCorrect base_dir, or run as root.")
    module.exit_json(
        changed=False,
        current=links.get(daq.CURRENT, ""),
        links=links,
        releases=releases,
        unknown=[asdict(process) for process in held.unknown],
    )


if __name__ == "__main__":
    main()
