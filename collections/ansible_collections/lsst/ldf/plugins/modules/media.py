#!/usr/bin/python
"""Fetch licensed files from the site's depot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: media
short_description: Fetch licensed files from the site's depot
version_added: 0.3.0
description:
  - What is licensed comes to a site's depot by hand. This fetches the named files of it, all or none, into C(<directory>/<sha256>/<file>).
  - Looks for all of them before it fetches the first, in check mode too; what is missing fails and says what to do.
  - A file has its name when its checksum is right. A killed run or a full disk leave nothing that looks like one.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      file:
        description: Its name at the depot.
        type: str
        required: true
      sha256:
        description: Its checksum.
        type: str
        required: true
  url:
    description: Where the depot serves them.
    type: str
    required: true
  variable:
    description: The variable that names them, and the file to edit, for messages.
    type: str
    required: true
  directory:
    description: Where they are kept on the host.
    type: path
    default: /var/cache/lsst/media
attributes:
  check_mode:
    support: full
    description: Asks the depot, and fetches nothing.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Have the media
  lsst.ldf.media:
    url: https://ncsa-depot01.ncsa.lsst.internal/media
    files:
      - {file: gpfs.base_5.2.3-1_amd64.deb, sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae}
    variable: gpfs_media in inventories/production/group_vars/ncsa/gpfs.yml
"""

RETURN = r"""
fetched:
  description: Names of the files that were not there.
  type: list
  elements: str
  returned: success
"""

import re
from pathlib import Path
from urllib.error import URLError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.lsst.ldf.plugins.module_utils.release import UNFINISHED, clear, save

FILE = {"file": {"type": "str", "required": True}, "sha256": {"type": "str", "required": True}}
SPEC = {
    "files": {"type": "list", "elements": "dict", "required": True, "options": FILE},
    "url": {"type": "str", "required": True},
    "variable": {"type": "str", "required": True},
    "directory": {"type": "path", "default": "/var/cache/lsst/media"},
}


class MediaError(Exception):
    """A file cannot be had; the message is for the operator, in three parts."""


def check(files: list[dict[str, str]], variable: str) -> None:
    """MediaError for names and checksums that are none: they become paths."""
    if not files:
        raise MediaError(f"No media are named.\nAllowed: the files that the product comes in, by name and SHA-256.\nEdit {variable}.")
    for each in files:
        if not re.fullmatch(r"[\w+~][\w.+~-]*", each["file"]) or not re.fullmatch(r"[0-9a-f]{64}", each["sha256"]):
            raise MediaError(
                f"{each['file']} with the SHA-256 {each['sha256']} is no file of media.\n"
                f"Allowed: a name of letters, digits and . _ + ~ -, and 64 hexadecimal digits.\nEdit {variable}."
            )


def look(url: str, variable: str) -> None:
    """MediaError if the depot does not serve ``url``."""
    try:
        open_url(url, method="HEAD", timeout=60).close()
    except URLError as error:
        raise MediaError(
            f"{url} cannot be had: {error}.\nAllowed: a file that lies in /srv/depot/www/media of the site's depot.\n"
            f"Put it there, or edit {variable}."
        ) from None


def fetch(url: str, target: Path, sha256: str, variable: str) -> None:
    """Have the content of ``url`` as ``target``, if it is what it should be."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    clear(target.parent)
    work = target.parent / f"{UNFINISHED}{target.name}"
    try:
        with open_url(url, timeout=60) as source:
            found = save(source, work)
        if found != sha256:
            raise MediaError(f"{url} has the SHA-256 {found}.\nAllowed: {sha256}.\nPut the right file there, or edit {variable}.")
        work.chmod(0o644)
        work.replace(target)
    finally:
        work.unlink(missing_ok=True)


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    p = module.params
    try:
        check(p["files"], p["variable"])
        places = {each["file"]: Path(p["directory"]) / each["sha256"] / each["file"] for each in p["files"]}
        missing = [each for each in p["files"] if not places[each["file"]].exists()]
        urls = {each["file"]: f"{p['url'].rstrip('/')}/{each['file']}" for each in missing}
        for url in urls.values():
            look(url, p["variable"])
        if not module.check_mode:
            for each in missing:
                fetch(urls[each["file"]], places[each["file"]], each["sha256"], p["variable"])
    except (MediaError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(missing), fetched=[each["file"] for each in missing])


if __name__ == "__main__":
    main()
