#!/usr/bin/python
"""Keep a token by which an HTCondor daemon or user proves who it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_token
short_description: Keep a token by which an HTCondor daemon or user proves who it is
version_added: 0.3.0
description:
  - Compares what the token at O(dest) says with what is asked for, and has another one made when they differ or when it ends soon.
  - C(condor_token_create) signs it, on the host that has the key. For another host, this module is run three times - there
    with O(create=false), to see whether one is due; on the host with the key without O(dest), with O(return_token); there again with
    O(token).
  - A token is a secret. It is in no result but that of O(return_token), whose task must have C(no_log).
options:
  identity:
    description: Who it speaks for, such as V(execute@pool.example.org). Needed unless O(state=absent).
    type: str
  authz:
    description: What it is good for at most, such as V(ADVERTISE_STARTD). All when none is given.
    type: list
    elements: str
    default: []
  lifetime:
    description: Seconds after which it ends; never when not given.
    type: int
  renew_before:
    description: Another one is due so many seconds before its end.
    type: int
    default: 0
  key:
    description: Name of the key that signs it.
    type: str
    default: POOL
  issuer:
    description: The pool's TRUST_DOMAIN, when that is to be compared.
    type: str
  dest:
    description:
      - Its file. When not given, it is always made, and only returned.
      - With O(state=absent), a pattern for the names of files, such as V(/srv/tokens/flock-*).
    type: path
  keep:
    description: Names of files that O(state=absent) leaves although they fit the pattern.
    type: list
    elements: str
    default: []
  token:
    description: A token that was made elsewhere. One that says something else than asked for is refused.
    type: str
  create:
    description: When false, it is only said whether one is due.
    type: bool
    default: true
  reconfig:
    description: Whether running daemons read it at once (C(condor_reconfig)); otherwise they do within 5 minutes.
    type: bool
    default: true
  return_token:
    description: Whether the result has it.
    type: bool
    default: false
  state:
    description: Whether there is one at O(dest).
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds to wait for the command that signs, a key, and the pool's name, as the key's host may just be set up.
    type: float
    default: 0
attributes:
  check_mode:
    support: full
    description: Says what would happen from what the token at O(dest) says. Nothing is signed.
  diff_mode:
    support: full
    description: What the token says before and after, never itself.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Have a token for a glidein
  lsst.ldf.htcondor_token:
    identity: pilot@pool.example.org
    authz: [ADVERTISE_STARTD, ADVERTISE_MASTER, READ]
    lifetime: 86400
    renew_before: 43200
    dest: /srv/pilot/token
    reconfig: false
"""

RETURN = r"""
reason:
  description: Why one was due; empty when none was.
  type: str
  returned: success
claims:
  description: What the token says, with C(identity), C(issuer), C(authz), C(key), C(issued), C(expires) and C(expires_in). Empty for none.
  type: dict
  returned: success
token:
  description: The token.
  type: str
  returned: when O(return_token)
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils import htcondor, htcondor_token
from ansible_collections.lsst.ldf.plugins.module_utils.waiting import poll

SPEC = {
    "identity": {"type": "str"},
    "authz": {"type": "list", "elements": "str", "default": []},
    "lifetime": {"type": "int"},
    "renew_before": {"type": "int", "default": 0},
    "key": {"type": "str", "default": "POOL", "no_log": False},
    "issuer": {"type": "str"},
    "dest": {"type": "path"},
    "keep": {"type": "list", "elements": "str", "default": []},
    "token": {"type": "str", "no_log": True},
    "create": {"type": "bool", "default": True},
    "reconfig": {"type": "bool", "default": True},
    "return_token": {"type": "bool", "default": False, "no_log": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "timeout": {"type": "float", "default": 0.0},
}


def signed(p: dict) -> str:
    """A new token. CondorError when there is no such key."""
    htcondor_token.check_name(p["key"])

    def place() -> Path | None:
        if not htcondor.installed():
            return None
        path = Path(htcondor.value("SEC_PASSWORD_DIRECTORY")) / p["key"]
        return path if path.exists() else None

    if not poll(place, p["timeout"]):
        raise htcondor.CondorError(
            f"There is no key {p['key']} to sign the token of {p['identity']} with.\nAllowed: a manager of a pool that has the key.\n"
            "Set the manager up first, or correct key."
        )
    if p["issuer"]:
        # It has its key before its pool's name. What it signs is looked at in any case.
        poll(lambda: htcondor.value("TRUST_DOMAIN") == p["issuer"], p["timeout"])
    options = [each for name in sorted(p["authz"]) for each in ("-authz", name)]
    options += ["-lifetime", str(p["lifetime"])] if p["lifetime"] else []
    return htcondor.condor("condor_token_create", "-identity", p["identity"], "-key", p["key"], *options).strip()


def main() -> None:
    required = [("state", "absent", ["dest"]), ("state", "present", ["identity"])]
    module = AnsibleModule(SPEC, supports_check_mode=True, required_if=required)
    p, now, text = module.params, time.time(), ""
    absent = p["state"] == "absent"
    wanted = htcondor_token.Wanted(p["identity"], frozenset(p["authz"]), p["key"], p["lifetime"], p["renew_before"], p["issuer"])
    dest = Path(p["dest"]) if p["dest"] else None
    try:
        files = htcondor_token.files(dest, p["keep"] if absent else []) if dest else []
        before = after = htcondor_token.read(files[0].read_text()) if files else None
        reason = htcondor_token.due(before, wanted, now) if not absent else "it is not wanted" if files else ""
        if reason and p["create"] and not module.check_mode:
            text = "" if absent else p["token"] or signed(p)
            after = htcondor_token.read(text)
            if text and (wrong := htcondor_token.due(after, wanted, now)):
                raise htcondor.CondorError(
                    f"The new token is not as asked for: {wrong}.\nAllowed: what is asked for.\nCorrect token, or key and issuer."
                )
            if dest:
                for unwanted in files if absent else []:
                    unwanted.unlink()
                if text:
                    htcondor_token.write(dest, f"{text}\n".encode())
                if p["reconfig"] and "master" in htcondor.daemons():
                    htcondor.condor("condor_reconfig")
    except (htcondor.CondorError, OSError) as error:
        module.fail_json(msg=str(error))
    shown = [htcondor_token.told(htcondor_token.claims(each, now)) for each in (before, after)]
    module.exit_json(
        changed=bool(reason),
        reason=reason,
        claims=htcondor_token.claims(after, now),
        diff={"before": shown[0], "after": shown[1] if shown[1] != shown[0] or not reason else f"another one: {reason}\n"},
        **({"token": text} if p["return_token"] else {}),
    )


if __name__ == "__main__":
    main()
