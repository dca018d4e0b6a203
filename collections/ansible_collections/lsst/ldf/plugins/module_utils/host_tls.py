"""A host's TLS key and certificate as they are: what is there, who may read it, whom the host trusts."""

from __future__ import annotations

import grp
import pwd
import stat
import subprocess
from pathlib import Path

DIRECTORY = "/etc/lsst/tls"
GROUP = "ssl-cert"
MODES = {".": 0o755, "host.key": 0o640, "host.crt": 0o644, "chain.crt": 0o644, "root.crt": 0o644, "ca.crl": 0o644}
ANCHOR = Path("/usr/local/share/ca-certificates/lsst-root.crt")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
SPEC = {
    "step": {"type": "str", "choices": ["report", "request", "install"], "default": "report"},
    "directory": {"type": "path", "default": DIRECTORY},
    "group": {"type": "str", "default": GROUP},
    "names": {"type": "list", "elements": "str", "required": True},
    "root": {"type": "str", "required": True},
    "trust": {"type": "bool", "default": True},
    "key_algorithm": {"type": "str", "choices": ["ec-p256", "ec-p384", "rsa-3072"], "default": "ec-p256"},
    "texts": {"type": "dict", "default": {}},
    "new_key": {"type": "bool", "default": False, "no_log": False},
    # Known here so that a task can be checked against it; the action sends none of them.
    "ca": {"type": "str"},
    "ca_key": {"type": "str", "no_log": True},
    "days": {"type": "int"},
    "renew_days": {"type": "int"},
    "revoked": {"type": "list", "elements": "str"},
}


class StepError(Exception):
    """Something on the host that the operator has to see to."""


def run(*command: str) -> str:
    """What ``command`` printed; StepError when it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise StepError(
            f"{command[0]} is not on this host. Debian's openssl and ca-certificates are needed; install them, role package does."
        ) from None
    except subprocess.CalledProcessError as error:
        raise StepError(f"{' '.join(command)} failed: {error.stderr.strip()}") from None


def text_of(path: Path) -> str:
    """The file's text, empty when there is none."""
    return path.read_text(errors="replace") if path.exists() else ""


def access(path: Path) -> str:
    """Owner, group and mode as one text such as ``root:ssl-cert 0640``; a name that is gone is given by its number."""
    status = path.stat()
    names = []
    for look_up, number in ((lambda n: pwd.getpwuid(n).pw_name, status.st_uid), (lambda n: grp.getgrgid(n).gr_name, status.st_gid)):
        try:
            names.append(look_up(number))
        except KeyError:
            names.append(str(number))
    return f"{':'.join(names)} {stat.S_IMODE(status.st_mode):04o}"


def wanted_access(name: str, group: str) -> str:
    """What ``access`` is to say of the file."""
    return f"root:{group if name == 'host.key' else 'root'} {MODES[name]:04o}"


def public_key(path: Path) -> str:
    """The public half of the private key in ``path``, in PEM; empty when there is none or it cannot be read."""
    if not path.exists():
        return ""
    try:
        return run("openssl", "pkey", "-in", str(path), "-pubout")
    except StepError as error:
        if "is not on this host" in str(error):
            raise
        return ""


def trusted(root: str) -> bool:
    """Whether the host's programs trust the root."""
    return text_of(ANCHOR) == root and root in text_of(BUNDLE)


def report(directory: Path, group: str, root: str, trust: bool) -> dict:
    """What is there: the public files' texts, the key's public half, whose access is wrong, whether the root is trusted as it is to be."""
    found = [name for name in MODES if (directory / name).exists()]
    wrong = {name: access(directory / name) for name in found if access(directory / name) != wanted_access(name, group)}
    return {
        "texts": {name: text_of(directory / name) for name in MODES if name not in (".", "host.key")},
        "public_key": public_key(directory / "host.key"),
        "access": [f"{name}: is {is_now}, not {wanted_access(name, group)}" for name, is_now in wrong.items()],
        "trusted": not trust or trusted(root),
    }


def already(a: dict) -> dict | None:
    """The probe of a batch: the report, which changes nothing; None for another step."""
    return {"changed": False} | report(Path(a["directory"]), a["group"], a["root"], a["trust"]) if a["step"] == "report" else None
