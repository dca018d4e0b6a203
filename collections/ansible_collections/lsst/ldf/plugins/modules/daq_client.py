#!/usr/bin/python
"""Pin a client of the camera's DAQ to a release that loads, and have its applications use it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: daq_client
short_description: Pin a client of the camera's DAQ to a release that loads, and have its applications use it
version_added: 0.3.0
description:
  - The link O(link) in O(base_dir) says which release the client is pinned to. O(setup_file) sets C(DAQ_HOME) to it and C(LD_LIBRARY_PATH)
    to its libraries, and the key C(system.pre-execute) of each C(<application>.app) beside that file names it; other keys stay as they are.
  - Releases want a libreadline that systems no longer have, C(libreadline.so.6) before V10 and C(libreadline.so.7) from V10 on. Where it is
    absent from O(library_dir), a link leads to the newest one there.
  - The pin moves last, from one moment to the next, and only when every C(lib*.so) of the release loads. A release is not taken from a
    process that maps it. Processes of other machines, which have it by NFS, are not seen.
  - Releases are installed by M(lsst.ldf.daq_sdk). Nothing is changed when one is missing, or anything else is refused.
options:
  version:
    description: The release, such as V(R5-V11.3).
    type: str
    required: true
  base_dir:
    description: Directory of all releases.
    type: path
    default: /opt/lsst/daq-sdk
  link:
    description: Name of the link in O(base_dir). C(current) is for M(lsst.ldf.daq_sdk) to move.
    type: str
    default: ccs-production
  setup_file:
    description: The file that the applications' launcher sources, such as C(/etc/ccs/daqv5-setup).
    type: path
    required: true
  applications:
    description: Applications whose C(<application>.app), in the directory of O(setup_file), names it, such as V(store).
    type: list
    elements: str
    default: []
  owner:
    description: Owner of these files. Their mode is 0644.
    type: str
    default: ccsadm
  group:
    description: Their group.
    type: str
    default: ccsadm
  library_dir:
    description:
      - Where the system has its libraries. When not given, C(/usr/lib/x86_64-linux-gnu) where that exists, otherwise C(/usr/lib64).
    type: path
  keep:
    description: Whether a client that is pinned to a release already stays there; O(version) is then for one that is pinned to none.
    type: bool
    default: false
    version_added: 0.3.0
  smoke_test:
    description: Whether each run loads the release's libraries, each in a process of its own, and fails when one does not load.
    type: bool
    default: true
  force:
    description: Whether the pin moves although a process maps the release that it leads to.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description:
      - Says what would happen, refusals included. The smoke test runs, as it changes nothing.
      - A release, owner, group or libreadline that is not there counts as about to come, with a warning.
  diff_mode:
    support: full
    description: Each file with its owner and mode, and each link, before and after.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Have the image handling use this release
  lsst.ldf.daq_client:
    version: R5-V8.1
    setup_file: /etc/ccs/daqv5-setup
    applications: [store, comcam-ih, comcam-fp]
"""

RETURN = r"""
changes:
  description: Paths that were changed, in their order.
  type: list
  elements: str
  returned: success
  sample: [/etc/ccs/daqv5-setup, /opt/lsst/daq-sdk/ccs-production]
loaded:
  description: The libraries that the smoke test loaded.
  type: list
  elements: str
  returned: success
pinned:
  description: The release that the client is pinned to afterwards.
  type: str
  returned: success
previous:
  description: The release that it was pinned to before; empty for none.
  type: str
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils import daq, daq_client
from ansible_collections.lsst.ldf.plugins.module_utils.release import clear


def main() -> None:
    module = AnsibleModule(daq_client.SPEC, supports_check_mode=True)
    p = module.params
    # What is made here is for everybody to read, whoever runs this.
    os.umask(0o022)
    try:
        daq.check(p["version"], None, None)
        client = daq_client.client_of(p)
        if p["keep"] and (pinned := daq_client.pinned(client)):
            client = daq_client.client_of(p | {"version": pinned})
        with daq.locked(client.release.base):
            if lacking := daq_client.missing(client):
                if not module.check_mode:
                    raise daq.DaqError(lacking[0])
                for each in lacking:
                    module.warn(each.replace("\n", " "))
            there = client.release.tree.is_dir()
            held, previous = daq.holders(client.release.base), daq_client.pinned(client)
            changes = daq_client.due(client, daq.due_current(client.release, held, p["force"], coming=not there, name=client.link))
            loaded = daq_client.smoke_test(client) if p["smoke_test"] and there else []
            if not module.check_mode:
                clear(client.release.base)
                daq_client.apply(client, changes)
    except daq.DaqError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{p['version']} cannot be taken into use: {error}.\nAllowed: writable disks, and root.\n"
            "Repair it and run again, to have the rest."
        )
    if p["smoke_test"] and there and not loaded:
        module.warn(f"{client.libraries} has no lib*.so, so that nothing was loaded. Allowed: a release of the SDK. Look at what it holds.")
    if changes and held.unknown:
        module.warn(daq.unseen(held))
    module.exit_json(
        changed=bool(changes),
        changes=[str(change.path) for change in changes],
        loaded=loaded,
        pinned=client.release.version,
        previous=previous,
        diff=[{"before_header": str(c.path), "after_header": str(c.path), "before": c.before, "after": c.after} for c in changes],
    )


if __name__ == "__main__":
    main()
