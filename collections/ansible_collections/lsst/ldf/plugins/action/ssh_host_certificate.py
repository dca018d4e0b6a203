"""The control side's half of lsst.ldf.ssh_host_certificate: judges what a host has, and signs what is due."""

from __future__ import annotations

from datetime import UTC, datetime

from ansible.plugins.action import ActionBase
from ansible_collections.lsst.ldf.plugins.action.commit_confirm import commit, edit_hint
from ansible_collections.lsst.ldf.plugins.module_utils import ssh_certificate

MODULE = "lsst.ldf.ssh_host_certificate"
SPEC = {
    "ca_key": {"type": "str", "required": True, "no_log": True},
    "principals": {"type": "list", "elements": "str", "required": True},
    "days": {"type": "int", "default": 365},
    "renew_days": {"type": "int", "default": 90},
    "key": {"type": "path", "default": "/etc/ssh/ssh_host_ed25519_key", "no_log": False},
    "unit": {"type": "str", "default": "ssh"},
    "timeout": {"type": "float", "default": 60.0},
}


class ActionModule(ActionBase):
    """See modules/ssh_host_certificate.py, which documents both."""

    TRANSFERS_FILES = False
    BATCH_MODULES = ("lsst.ldf.ssh_host_certificate", "lsst.ldf.commit_confirm")

    def run(self, tmp=None, task_vars=None):
        """One trip that looks; if a certificate is due, those of a commit-confirm."""
        result = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(SPEC)
        now = datetime.now(UTC)
        try:
            policy = ssh_certificate.read_policy(options["principals"], options["days"], options["renew_days"])
            ca_key = ssh_certificate.read_ca_key(options["ca_key"])
        except ssh_certificate.CertificateError as error:
            return result | {"failed": True, "msg": f"{error} Edit {edit_hint(self)}."}
        found = self._execute_module(module_name=MODULE, module_args={"key": options["key"]}, task_vars=task_vars)
        if found.get("failed"):
            return found
        reason = ssh_certificate.due(found["certificate"], found["public_key"], ca_key, policy, now)
        file = f"{options['key']}-cert.pub"
        if not reason:
            return result | {"changed": found["changed"], "due": ""}
        after = f"one for {', '.join(sorted(policy.principals))} until {ssh_certificate.stamp((now + policy.life).timestamp())}\n"
        words = {"due": reason, "diff": [{"before_header": file, "after_header": file, "before": f"{reason}\n", "after": after}]}
        if self._task.check_mode:
            return result | words | {"changed": True}
        content = ssh_certificate.sign(found["public_key"], ca_key, policy, now)
        change = {
            "name": "ssh_host_certificate",
            "files": [{"dest": file, "content": content}],
            "unit": options["unit"],
            "verb": "reload",
            "timeout": options["timeout"],
        }
        return result | commit(self, change, task_vars) | words
