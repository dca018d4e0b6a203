#!/usr/bin/python
"""Say what a host may do in an HTCondor pool, and whether that is what it should."""

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_authz_info
short_description: Say what a host may do in an HTCondor pool, and whether that is what it should
version_added: 0.3.0
description:
  - Asks a daemon for each level of permission, with whatever the host has to prove who it is (C(condor_ping)). Nothing is changed.
options:
  daemon:
    description: Which daemon to ask; the host's own schedd, startd or master, the pool's collector or negotiator.
    type: str
    choices: [collector, negotiator, schedd, startd, master]
    default: collector
  pool:
    description: Name of the manager of another pool, whose collector or negotiator is asked; the host's own pool when not given.
    type: str
  levels:
    description: The levels to ask for.
    type: list
    elements: str
    default: [READ, WRITE, DAEMON, ADMINISTRATOR, ADVERTISE_STARTD, ADVERTISE_SCHEDD, ADVERTISE_MASTER]
  user:
    description: Whose permissions; the ones of whoever runs the module when not given.
    type: str
  expect:
    description: The levels that must be allowed. All other ones of O(levels) must not. Anything else fails.
    type: list
    elements: str
  timeout:
    description: Seconds in which it must become as O(expect) says, as daemons may just be reading another key or token.
    type: float
    default: 0
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
- name: See that a machine where jobs run can do nothing else
  lsst.ldf.htcondor_authz_info:
    expect: [READ, ADVERTISE_STARTD, ADVERTISE_MASTER]

- name: See that jobs may go to another pool
  lsst.ldf.htcondor_authz_info:
    pool: manager.other.example.org
    levels: [READ, ADVERTISE_SCHEDD]
    expect: [READ, ADVERTISE_SCHEDD]
"""

RETURN = r"""
levels:
  description: For each level, whether it is C(allowed), and the C(method) and C(identity) by which.
  type: dict
  returned: always
  sample: {ADVERTISE_STARTD: {allowed: true, method: IDTOKENS, identity: execute@pool.example.org}}
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.htcondor import CondorError
from ansible_collections.lsst.ldf.plugins.module_utils.waiting import poll

LEVELS = ["READ", "WRITE", "DAEMON", "ADMINISTRATOR", "ADVERTISE_STARTD", "ADVERTISE_SCHEDD", "ADVERTISE_MASTER"]
SPEC = {
    "daemon": {"type": "str", "choices": ["collector", "negotiator", "schedd", "startd", "master"], "default": "collector"},
    "pool": {"type": "str"},
    "levels": {"type": "list", "elements": "str", "default": LEVELS},
    "user": {"type": "str"},
    "expect": {"type": "list", "elements": "str"},
    "timeout": {"type": "float", "default": 0.0},
}


def parse(text: str) -> dict[str, dict]:
    """What ``condor_ping -table`` said, level by level. A level that it could not ask for is missing."""
    found = {}
    for words in map(str.split, text.splitlines()):
        if len(words) >= 6 and words[4] in ("ALLOW", "DENY", "FAIL"):
            allowed = words[4] == "ALLOW"
            found[words[0]] = {"allowed": allowed, "method": words[1] if allowed else "", "identity": words[5] if allowed else ""}
    return found


def wrong(levels: dict[str, dict], expect: list[str]) -> list[str]:
    """The levels that are not as expected, for a message."""
    found = [
        f"{name} is {'allowed' if level['allowed'] else 'refused'}"
        for name, level in levels.items()
        if level["allowed"] != (name in expect)
    ]
    return found + [f"{name} was not asked for" for name in expect if name not in levels]


def ask(p: dict) -> tuple[dict[str, dict], str]:
    """What the daemon says of each level, and the rest of what was said. CondorError without HTCondor."""
    pool = ["-pool", p["pool"]] if p["pool"] else []
    command = ["condor_ping", "-table", *pool, "-type", p["daemon"], *p["levels"]]
    command = ["runuser", "-u", p["user"], "--", *command] if p["user"] else command
    try:
        # It fails when any level is refused; what it says counts.
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CondorError(f"condor_ping: {error}.\nAllowed: a host with HTCondor.\nInstall it first.") from None
    return parse(done.stdout), done.stderr.strip() or done.stdout.strip()


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    p, answer = module.params, [({}, "")]

    def as_expected() -> bool:
        answer[0] = ask(p)
        return not set(p["levels"]) - {*answer[0][0]} and not (p["expect"] is not None and wrong(answer[0][0], p["expect"]))

    try:
        good = poll(as_expected, p["timeout"])
    except CondorError as error:
        module.fail_json(msg=str(error), levels={})
    levels, said = answer[0]
    if set(p["levels"]) - {*levels}:
        module.fail_json(msg=f"No {p['daemon']} told all levels: {said}\nAllowed: one that runs.\nSee its log.", levels=levels)
    if not good:
        module.fail_json(
            msg=f"By the {p['daemon']}, {', '.join(wrong(levels, p['expect']))}.\nAllowed: {', '.join(p['expect'])} and nothing else.\n"
            "Look at the host's token and the ALLOW settings of the daemon's host.",
            levels=levels,
        )
    module.exit_json(changed=False, levels=levels)


if __name__ == "__main__":
    main()
