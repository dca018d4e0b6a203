"""The control side's half of lsst.ldf.host_certificate: judges what a host has, and signs what is due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lsst.ldf.plugins.action.commit_confirm import edit_hint
from ansible_collections.lsst.ldf.plugins.module_utils import authority as tls

MODULE = "lsst.ldf.host_certificate"
SPEC = {
    "names": {"type": "list", "elements": "str", "required": True},
    "ca": {"type": "str", "required": True},
    "ca_key": {"type": "str", "required": True, "no_log": True},
    "root": {"type": "str", "required": True},
    "key_algorithm": {"type": "str", "choices": list(tls.KEY_ALGORITHMS), "default": "ec-p256"},
    "days": {"type": "int", "default": 90},
    "renew_days": {"type": "int", "default": 30},
    "revoked": {"type": "list", "elements": "str", "default": []},
    "directory": {"type": "path", "default": "/etc/lsst/tls"},
    "group": {"type": "str", "default": "ssl-cert"},
    "trust": {"type": "bool", "default": True},
}
# The only options that are sent to the host.
SENT = ("names", "key_algorithm", "directory", "group", "trust")


class ActionModule(ActionBase):
    """See modules/host_certificate.py, which documents both."""

    TRANSFERS_FILES = False
    BATCH_MODULES = ("lsst.ldf.host_certificate",)

    def run(self, tmp=None, task_vars=None):
        """One trip that looks; if a certificate is due, one that has the host make a key; if anything is due, one that installs."""
        result = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(SPEC)
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            policy = tls.read_policy(*(options[key] for key in ("names", "key_algorithm", "days", "renew_days", "revoked")))
            authority = tls.read_authority(options["root"], options["ca"], options["ca_key"], now)
            return result | self._keep(authority, policy, {key: options[key] for key in SENT}, now, task_vars)
        except tls.AuthorityError as error:
            return result | {"failed": True, "msg": f"{error} Edit {edit_hint(self)}."}

    def _keep(self, authority: tls.Authority, policy: tls.Policy, sent: dict[str, Any], now: datetime, task_vars: dict) -> dict[str, Any]:
        sent["root"] = tls.pem(authority.root)
        found = self._step("report", sent, task_vars)
        if found.get("failed"):
            return found
        texts = found["texts"]
        certificate_due = tls.certificate_due(texts["host.crt"], found["public_key"], authority, policy, now)
        crl_due = tls.crl_due(texts["ca.crl"], authority, policy, now)
        due = [f"{name}: {why}" for name, why in (("host.crt", certificate_due), ("ca.crl", crl_due)) if why]

        wanted = {"chain.crt": tls.pem(authority.ca), "root.crt": sent["root"]}
        if not certificate_due:
            # The same certificate under a CA certificate that was issued anew for the same key needs only its chain.
            certificate = tls.first_certificate(texts["host.crt"])
            wanted["host.crt"] = tls.pem(certificate) + wanted["chain.crt"]
        due += [f"{name}: {'is another' if texts[name] else 'is missing'}" for name, text in wanted.items() if texts[name] != text]
        due += found["access"]
        if not found["trusted"]:
            due.append("root.crt: is not trusted by this host")

        result = {"changed": bool(due), "due": due}
        if due:
            end = tls.stamp(tls.life(authority, policy, now))
            after = [f"host.crt: is for {', '.join(policy.names)}, until {end}\n"] if certificate_due else []
            after += [f"ca.crl: revokes {len(policy.revoked)} certificates, until {end}\n"] if crl_due else []
            before = "".join(f"{line}\n" for line in due)
            result["diff"] = [
                {"before_header": sent["directory"], "after_header": sent["directory"], "before": before, "after": "".join(after)}
            ]
        if due and not self._task.check_mode:
            if certificate_due:
                answer = self._step("request", sent, task_vars)
                if answer.get("failed"):
                    return answer
                certificate = tls.issue(authority, answer["request"], policy, now)
                wanted["host.crt"] = tls.pem(certificate) + wanted["chain.crt"]
            wanted["ca.crl"] = tls.revoke(authority, policy, now) if crl_due else texts["ca.crl"]
            answer = self._step("install", sent | {"texts": wanted, "new_key": bool(certificate_due)}, task_vars)
            if answer.get("failed"):
                return answer
        elif certificate_due:
            return result
        return result | {"serial": f"{certificate.serial_number:x}", "not_after": tls.stamp(certificate.not_valid_after_utc)}

    def _step(self, step: str, options: dict[str, Any], task_vars: dict) -> dict[str, Any]:
        return self._execute_module(module_name=MODULE, module_args=options | {"step": step}, task_vars=task_vars)
