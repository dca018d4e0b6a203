#!/usr/bin/python
"""Install releases of the camera's DAQ software side by side, and say which one is current."""

from __future__ import annotations

DOCUMENTATION = r"""
module: daq_sdk
short_description: Install releases of the camera's DAQ software side by side, and say which one is current
version_added: 0.3.0
description:
  - A release is the directory C(<base_dir>/<version>), the only one that its archive holds; the archive stays in C(<base_dir>/dl), as
    C(<version>.tgz) or C(rce-sdk-<version>.tar.gz). All is root's.
  - Before anything is unpacked, the archive's checksum, each of its members and the room on the disk are looked at. A release has its name
    when it is whole and on the disk; a killed run leaves nothing that looks like one, and the next run removes what it left.
  - Only O(state=current) moves the link C(current), from one moment to the next.
  - A release has a manifest, C(.manifest.json), and each run compares its files with it, which reads all of them. What somebody added does
    not count, but is lost when the release is installed anew.
  - A release that a process maps is left alone. Processes of other machines, which have it by NFS, are not seen.
options:
  name:
    description: The software.
    type: str
    choices: [daq-sdk, rpt-sdk]
    required: true
  version:
    description: The release.
    type: str
    required: true
  state:
    description:
      - V(present) has it whole. One whose files are damaged or missing is installed anew, from the kept archive if that is the right one;
        not while a process maps it.
      - V(current) moves the link to a release that is there and whole, and installs nothing; not while a process maps the release that the
        link leads to.
      - V(absent) removes it with its archive; not while a link in O(base_dir) leads to it or a process maps it.
    type: str
    choices: [present, absent, current]
    default: present
  src:
    description: Its archive, a .tar.gz, as a URL, such as one of the site's depot, or an absolute path on the host. Needed for V(present).
    type: str
  checksum:
    description: SHA-256 of O(src). Needed for V(present). A version has one content, once and for all.
    type: str
  base_dir:
    description: Directory of all releases; C(/opt/lsst/<name>) when not given.
    type: path
  keep:
    description:
      - How many of the newest releases stay, by their version; all when not given. The others go, with their archives, for V(present) and
        V(current).
      - The one of O(version), one that a link in O(base_dir) leads to, and one that a process maps always stay.
    type: int
  force:
    description: Whether V(current) moves the link although a process maps the release that it leads to.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description:
      - Says what would happen, refusals included, and fetches nothing, so that it cannot tell a wrong archive or a full disk.
      - A release that is not there or not whole counts as about to come for V(current).
  diff_mode:
    support: full
    description: Releases, archives and links, a line each, before and after.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Have the SDK
  lsst.ldf.daq_sdk:
    name: daq-sdk
    version: R5-V11.3
    src: https://summit-depot01.summit.lsst.internal/media/R5-V11.3.tgz
    checksum: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae

- name: Take it into use, and keep one to go back to
  lsst.ldf.daq_sdk:
    name: daq-sdk
    version: R5-V11.3
    state: current
    keep: 2
"""

RETURN = r"""
actions:
  description: What was due, of V(fetch), V(install), V(switch) and V(remove).
  type: list
  elements: str
  returned: success
removed:
  description: The releases that went, or would go.
  type: list
  elements: str
  returned: success
"""

import os
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.lsst.ldf.plugins.module_utils import daq
from ansible_collections.lsst.ldf.plugins.module_utils.release import clear, switch


def opened(src: str) -> tuple[BinaryIO, int]:
    """The content of a URL or file, and its bytes, 0 when the server does not say. DaqError when it cannot be had."""
    try:
        if src.startswith("/"):
            return Path(src).open("rb"), Path(src).stat().st_size
        response = open_url(src, timeout=60)
    except (OSError, ValueError) as error:
        raise daq.DaqError(
            f"{src} cannot be had: {error}.\nAllowed: a URL that is served, or an absolute path on this host.\n"
            "Put the archive there, or correct src."
        ) from None
    return response, int(response.headers.get("Content-Length") or 0)


def main() -> None:
    module = AnsibleModule(daq.SPEC, supports_check_mode=True, required_if=[("state", "present", ("src", "checksum"))])
    p = module.params
    # What is made here is for everybody to read, whoever runs this.
    os.umask(0o022)
    release = daq.Release(daq.base_of(p), p["name"], p["version"])
    try:
        daq.check(p["version"], p["checksum"], p["keep"])
        if p["state"] == "present" and not module.check_mode:
            release.base.mkdir(mode=0o755, parents=True, exist_ok=True)
        with daq.locked(release.base):
            if not module.check_mode:
                clear(release.base)
            held = daq.holders(release.base)
            before, leading, gone = daq.contents(release.base), daq.links(release.base), []
            if p["state"] == "present":
                actions = daq.due_present(release, p["checksum"], held)
            elif p["state"] == "current":
                actions = daq.due_current(release, held, p["force"], coming=module.check_mode)
                leading |= {daq.CURRENT: p["version"]}
            else:
                actions = daq.due_absent(release, held)
                gone = [release] if actions else []
            if p["state"] != "absent":
                versions = daq.prunable(release, p["keep"], leading, held)
                gone = [daq.Release(release.base, p["name"], version) for version in versions]
                actions += ["remove"] if gone else []
            if not module.check_mode:
                if "fetch" in actions or "install" in actions:
                    daq.install(release, p["src"], p["checksum"], actions, opened)
                if "switch" in actions:
                    switch(release.tree)
                for each in gone:
                    daq.remove(each)
    except daq.DaqError as error:
        module.fail_json(msg=str(error))
    except (HTTPException, OSError) as error:
        module.fail_json(
            msg=f"{release.tree}: {error}.\nAllowed: room, a writable disk and a src that stays there.\n"
            "Repair it and run again; what has the name of a release is whole."
        )
    if actions and held.unknown:
        module.warn(daq.unseen(held))
    module.exit_json(
        changed=bool(actions),
        actions=actions,
        removed=[each.version for each in gone],
        diff=daq.difference(before, release, actions, gone),
    )


if __name__ == "__main__":
    main()
