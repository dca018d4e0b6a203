#!/usr/bin/python
"""Keep a file of HTCondor's settings that is looked at before it goes live."""

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_config
short_description: Keep a file of HTCondor's settings that is looked at before it goes live
version_added: 0.3.0
description:
  - HTCondor takes any file. A wrong template or an open C(if) ends all of a host's daemons at the next reload, a wrong expression its
    startd with the jobs there; a misspelt name is never complained of.
  - This module reads the candidate with HTCondor's own commands first, beside all other files of the host. What cannot be read, a number
    that is none, an expression that is none, a name that nothing reads is refused, and the live file stays as it is.
  - Then it has the daemons read the file (C(condor_reconfig)), which ends no job, and looks at them. When one of them dies of it, the old
    file is put back. It restarts nothing, but says and remembers what needs it; M(lsst.ldf.htcondor_node) does it and ends no job.
options:
  dest:
    description: The file, in one of the host's LOCAL_CONFIG_DIR.
    type: path
    required: true
  content:
    description: All of its text. One of O(content), O(settings) or O(use) is needed for V(present).
    type: str
  settings:
    description: Settings, name and value. A value may have several lines.
    type: dict
    default: {}
  use:
    description: Templates, such as V(ROLE:Submit), before the settings.
    type: list
    elements: str
    default: []
  state:
    description: Whether the file is there.
    type: str
    choices: [present, absent]
    default: present
  unknown:
    description: What becomes of a file that sets a name which nothing reads.
    type: str
    choices: [fail, warn, ignore]
    default: fail
  allow_names:
    description: Names that something else reads, such as a script.
    type: list
    elements: str
    default: []
  reconfig:
    description: Whether running daemons read the new file now.
    type: bool
    default: true
  settle:
    description: Seconds for which all daemons must live after that.
    type: float
    default: 3
attributes:
  check_mode:
    support: full
    description: Looks at the candidate, refusals included, and changes nothing. A host without HTCondor is about to get it.
  diff_mode:
    support: full
    description: The file before and after.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Have four slots' worth of processors
  lsst.ldf.htcondor_config:
    dest: /etc/condor/config.d/50-slots.conf
    use: [ROLE:Execute]
    settings:
      NUM_CPUS: 4
      START: TARGET.RequestMemory < 2000
"""

RETURN = r"""
effective:
  description: The settings that change on the host, other files and templates counted in.
  type: list
  elements: dict
  returned: success
  sample: [{name: NUM_CPUS, before: "2", after: "4"}]
unknown:
  description: Names that nothing reads, each with the likeliest right one.
  type: list
  elements: str
  returned: success
  sample: ["NUM_CPU (NUM_CPUS?)"]
needs:
  description: What this change needs, C(reconfig) (bool) and C(restart) (names of daemons).
  type: dict
  returned: success
  sample: {reconfig: true, restart: [startd]}
pending:
  description: Daemons that have to restart for this or an earlier change.
  type: list
  elements: str
  returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils import htcondor

SPEC = {
    "dest": {"type": "path", "required": True},
    "content": {"type": "str"},
    "settings": {"type": "dict", "default": {}},
    "use": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "unknown": {"type": "str", "choices": ["fail", "warn", "ignore"], "default": "fail"},
    "allow_names": {"type": "list", "elements": "str", "default": []},
    "reconfig": {"type": "bool", "default": True},
    "settle": {"type": "float", "default": 3.0},
}


def wanted(module: AnsibleModule) -> str | None:
    """The file's text; None for no file."""
    p = module.params
    if p["state"] == "absent":
        return None
    if p["content"] is None and not p["settings"] and not p["use"]:
        module.fail_json(msg=f"{p['dest']} has nothing in it.\nAllowed: content, or settings and use.\nGive one of them, or state absent.")
    if p["content"] is not None and (p["settings"] or p["use"]):
        module.fail_json(msg=f"{p['dest']} has content and settings or use.\nAllowed: one or the other.\nLeave one out.")
    return p["content"] if p["content"] is not None else htcondor.written(p["use"], p["settings"])


def look(module: AnsibleModule, dest: Path, text: str | None) -> htcondor.Findings:
    """What the text would bring; what must not go live ends the module."""
    found = htcondor.examine(dest, text, module.params["allow_names"])
    if found.wrong:
        raise htcondor.CondorError(
            f"{dest} has {'; '.join(found.wrong)}.\nAllowed: values of the setting's type (condor_config_val -info NAME).\n"
            "Correct it; the live file is as it was."
        )
    if found.unknown and module.params["unknown"] != "ignore":
        told = (
            f"{dest} sets {', '.join(found.unknown)}, which nothing reads.\nAllowed: HTCondor's own names, those that another setting or "
            "an attribute list uses, and allow_names.\nCorrect the name; "
        )
        if module.params["unknown"] == "fail":
            raise htcondor.CondorError(told + "the live file is as it was.")
        module.warn(told + "it is taken as it is.")
    return found


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    p, dest = module.params, Path(module.params["dest"])
    text, found, pending = wanted(module), htcondor.Findings(), []
    try:
        old = dest.read_text() if dest.exists() else None
        changed = text != old or (old is not None and dest.stat().st_mode & 0o777 != 0o644)
        if htcondor.installed():
            if changed:
                found = look(module, dest, text)
            if changed and not module.check_mode:
                htcondor.bring(dest, text, found, p["settle"], p["reconfig"])
            running = htcondor.daemons()
            pending = sorted(
                htcondor.pending(running) if not module.check_mode else {*htcondor.pending(running), *found.restart} & {*running}
            )
        elif changed and not module.check_mode:
            raise htcondor.CondorError(f"{dest}: there is no condor_config_val.\nAllowed: a host with HTCondor.\nInstall it first.")
    except (htcondor.CondorError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=changed,
        effective=found.effective,
        unknown=found.unknown,
        needs={"reconfig": changed, "restart": found.restart},
        pending=pending,
        diff={"before_header": str(dest), "after_header": str(dest), "before": old or "", "after": text or ""},
    )


if __name__ == "__main__":
    main()
