#!/usr/bin/python
"""Write the zones that a name server is primary for, with a new serial when something changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zone
short_description: Write zone files of BIND, with a new serial when something changed
version_added: 0.1.0
description:
  - Writes a file C(NAME.zone) for each zone (C(root.zone) for the root). Its serial changes exactly when something else in it does,
    never backwards, and is otherwise the time.
  - All zones that change are checked with C(named-checkzone) before any file is replaced, so that a bad record changes nothing.
  - Removes the files that it wrote earlier for zones that are no longer named. The server is not told; that is M(lsst.ldf.unit)'s work.
options:
  directory:
    description: Where the files are. It exists.
    type: path
    required: true
  zones:
    description: All zones, in one task.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name without a dot at its end; C(.) is the root.
        type: str
        required: true
      records:
        description:
          - Every record but SOA, in the order of the file. The first NS record of C(@) names the first server of the SOA.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name relative to the zone, C(@) for the zone itself.
            type: str
            required: true
          type:
            description: Type such as A, NS or PTR.
            type: str
            required: true
          value:
            description: Value as a zone file has it. A name without a dot at its end is relative to the zone.
            type: str
            required: true
          ttl:
            description: Seconds; O(ttl) when not given.
            type: int
  ttl:
    description: Seconds for which answers, and the lack of one, may be remembered.
    type: int
    default: 60
  expire:
    description: Seconds for which other servers go on serving a zone that they cannot fetch any more.
    type: int
    default: 7776000
  edit:
    description: Where a wrong value is corrected; ends every message.
    type: str
    default: the zones of this task
attributes:
  check_mode:
    support: full
    description: Says what would change and checks it. A checker or directory that is not there yet counts as about to come.
  diff_mode:
    support: full
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Write the zones
  lsst.ldf.zone:
    directory: /etc/bind/zones
    zones:
      - name: base.lsst.internal
        records:
          - {name: "@", type: NS, value: base-nameserver01}
          - {name: base-nameserver01, type: A, value: 10.64.16.1}
"""

RETURN = r"""
zones:
  description: The zones whose files changed, came or went.
  type: list
  elements: str
  returned: always
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.zone import (
    MODE,
    SPEC,
    ZoneError,
    check,
    due,
    ours,
    refuse_unwritable,
    zones_of,
)


def put(path: Path, text: str) -> None:
    """Replace the file at once."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(text)
    draft.chmod(MODE)
    draft.replace(path)


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    p = module.params
    directory, now = Path(p["directory"]), time.time()
    zones = zones_of(p)
    changes: dict[str, tuple[str, str]] = {}
    try:
        if twice := {zone.name for zone in zones if [other.name for other in zones].count(zone.name) > 1}:
            raise ZoneError(f"zone {', '.join(sorted(twice))} is there twice\nAllowed: each zone once.")
        for zone in zones:
            refuse_unwritable(zone)
            if change := due(zone, directory, now):
                if change[0] != change[1]:
                    check(zone, change[1], module.check_mode)
                changes[zone.file] = change
    except ZoneError as error:
        module.fail_json(msg=f"{error}\nEdit {p['edit']}.")
    gone = {name: text for name, text in ours(directory).items() if name not in {zone.file for zone in zones}}
    if not module.check_mode:
        for name, (_, new) in changes.items():
            put(directory / name, new)
        for name in gone:
            (directory / name).unlink()
    module.exit_json(
        changed=bool(changes or gone),
        zones=sorted(name.removesuffix(".zone") for name in (*changes, *gone)),
        diff=[
            {"before_header": str(directory / name), "after_header": str(directory / name), "before": old, "after": new}
            for name, (old, new) in {**changes, **{name: (text, "") for name, text in gone.items()}}.items()
        ],
    )


if __name__ == "__main__":
    main()
