"""A host's ssh key as its certificate has to match it."""

from __future__ import annotations

import subprocess
from pathlib import Path

KEY = "/etc/ssh/ssh_host_ed25519_key"
SPEC = {
    "key": {"type": "path", "default": KEY, "no_log": False},
    # Known here so that a task can be checked against it; the action sends none of them.
    "ca_key": {"type": "str", "no_log": True},
    "principals": {"type": "list", "elements": "str"},
    "days": {"type": "int"},
    "renew_days": {"type": "int"},
    "unit": {"type": "str"},
    "timeout": {"type": "float"},
}


def read(key: Path) -> dict[str, str]:
    """``public_key``, empty without a key, and ``certificate``, empty without one; CalledProcessError for a key that cannot be used."""
    # Out of the private key: a public file that belongs to another key would get a certificate that sshd cannot use.
    shown = subprocess.run(["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True) if key.exists() else None
    certificate = key.with_name(f"{key.name}-cert.pub")
    return {
        "public_key": shown.stdout if shown else "",
        "certificate": certificate.read_text(errors="replace") if certificate.exists() else "",
    }


def already(a: dict) -> dict | None:
    """The probe of a batch: what the module would say of a key that is there; None without one."""
    key = Path(a["key"])
    return {"changed": False} | read(key) if key.exists() else None
