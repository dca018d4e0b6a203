"""Host certificates of OpenSSH, judged and signed on the control side: the authority's key stays in memory there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import SSHCertificate, SSHCertificateBuilder, SSHCertificateType

# A host whose clock is behind the control side's would find a fresh certificate not valid yet.
BACKDATED = timedelta(hours=1)


class CertificateError(Exception):
    """A value that cannot be used; the message, two of the three parts, is meant for the operator and holds no secret."""


@dataclass(frozen=True)
class Policy:
    """What a certificate is to be: the ``principals`` it is for, its ``life``, and what must be ``left`` of that."""

    principals: list[str]
    life: timedelta
    left: timedelta


def read_policy(principals: list[str], days: int, renew_days: int) -> Policy:
    """The policy, if it makes sense."""
    if not principals:
        raise CertificateError("The certificate is for nobody: the list of principals is empty. Allowed: the host's names and addresses.")
    if not 0 < renew_days < days:
        wrong = f"A certificate of {days} days is to be renewed {renew_days} days before its end."
        raise CertificateError(f"{wrong} Allowed: 0 < renewal < days.")
    return Policy(principals, timedelta(days=days), timedelta(days=renew_days))


def read_ca_key(text: str) -> Any:
    """The private key that signs. Nothing of a text that is no key shows in the message."""
    try:
        # A block scalar or a lookup may have dropped the last line's end, without which the key cannot be read.
        return serialization.load_ssh_private_key(text.strip().encode() + b"\n", password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("The authority's key cannot be read. Allowed: an OpenSSH private key without a passphrase.") from None


def line(public_key: Any) -> bytes:
    """A public key as OpenSSH writes it, without comment."""
    return public_key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def due(certificate: str, public_key: str, ca_key: Any, policy: Policy, now: datetime) -> str | None:
    """Why the host needs another certificate for its ``public_key`` than ``certificate`` (empty: none); None: it needs none."""
    if not certificate:
        return "there is none"
    try:
        have = serialization.load_ssh_public_identity(certificate.encode())
        own = serialization.load_ssh_public_key(public_key.encode())
        if not isinstance(have, SSHCertificate) or have.type is not SSHCertificateType.HOST:
            return "it is no host's certificate"
        have.verify_cert_signature()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        return "it cannot be read"
    if line(have.public_key()) != line(own):
        return "it is for another key"
    if line(have.signature_key()) != line(ca_key.public_key()):
        return "it is from another authority"
    principals = [principal.decode() for principal in have.valid_principals]
    if sorted(principals) != sorted(policy.principals):
        return f"it is for {', '.join(sorted(principals)) or 'anybody'}"
    if have.valid_after > now.timestamp():
        return f"it is not valid before {stamp(have.valid_after)}"
    if have.valid_before - now.timestamp() < policy.left.total_seconds():
        return f"it ends at {stamp(have.valid_before)}"
    return None


def stamp(seconds: float) -> str:
    """A point in time for people; "never" where a certificate has no end."""
    return "never" if seconds >= 2**63 else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def sign(public_key: str, ca_key: Any, policy: Policy, now: datetime) -> str:
    """A new certificate as one line, named (key id) after the first principal; its serial is the time it was made."""
    builder = (
        SSHCertificateBuilder()
        .public_key(serialization.load_ssh_public_key(public_key.encode()))
        .serial(int(now.timestamp()))
        .type(SSHCertificateType.HOST)
        .key_id(policy.principals[0].encode())
        .valid_principals([principal.encode() for principal in policy.principals])
        .valid_after(int((now - BACKDATED).timestamp()))
        .valid_before(int((now + policy.life).timestamp()))
    )
    return builder.sign(ca_key).public_bytes().decode() + "\n"
