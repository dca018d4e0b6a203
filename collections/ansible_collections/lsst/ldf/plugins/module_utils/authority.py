"""A site's certificate authority on the control side: what is due on a host, and the signatures that this takes.

Works on PEM texts and cryptography's objects alone; neither Ansible nor a host is needed. Times are aware datetimes in UTC.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# P-256 and RSA of 3072 bits are equally strong (128 bits), P-384 has 192: NIST SP 800-57 part 1 revision 5, table 2.
KEY_ALGORITHMS = ("ec-p256", "ec-p384", "rsa-3072")
# How far the clock of a host that has not been set yet may be behind; also tolerated between two control machines.
CLOCK_ERROR = timedelta(hours=1)
# A longer name cannot be a common name (ub-common-name: RFC 5280, appendix A.1).
COMMON_NAME_LENGTH = 64
# The last label is never a number (RFC 3696, 2): a misspelt address is no name.
DNS_NAME = re.compile(r"(?=.{1,253}$)(?!(.*\.)?[0-9]+$)(\*\.)?(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
# A serial number has at most 20 octets (RFC 5280, 4.1.2.2). Fewer than 16 digits are a typing error: ours have 36 to 40.
SERIAL = re.compile(r"[0-9a-fA-F]{16,40}")


class AuthorityError(Exception):
    """A value that cannot be worked with; the message says what is wrong and what is allowed, the caller adds where to edit it."""


@dataclass(frozen=True)
class Policy:
    """What a host's certificate is to be. It and the revocation list live for ``days`` and are renewed ``renew_days`` before their end."""

    names: tuple[str, ...]
    key_algorithm: str
    days: int
    renew_days: int
    revoked: frozenset[int]

    def due(self, end: datetime, last: datetime, now: datetime) -> str:
        """Why something that ends at ``end`` is to be made anew, empty if it is not. Nothing can outlive ``last``, its issuer's end."""
        if end < min(now + timedelta(days=self.renew_days), last):
            return f"ends at {stamp(end)}, which is less than {self.renew_days} days away"
        if end > now + timedelta(days=self.days) + CLOCK_ERROR:
            return f"ends at {stamp(end)}, which is more than {self.days} days away"
        return ""


@dataclass(frozen=True)
class Authority:
    """A site's CA: certified by ``root``, whose key is not here, and able to sign with ``key``."""

    root: x509.Certificate
    ca: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def read_policy(names: list[str], key_algorithm: str, days: int, renew_days: int, revoked: list[str]) -> Policy:
    """A policy from a task's options; AuthorityError for a value that is not allowed."""
    if not names:
        raise AuthorityError("names is empty. Allowed are one or more DNS names or IP addresses, the host's own full name first.")
    for name in names:
        if not is_address(name) and not DNS_NAME.fullmatch(name):
            raise AuthorityError(f"names has {name!r}. Allowed are DNS names in lower case and IP addresses.")
    if is_address(names[0]) or len(names[0]) > COMMON_NAME_LENGTH:
        raise AuthorityError(
            f"names begins with {names[0]!r}. Allowed as first one is a DNS name of at most {COMMON_NAME_LENGTH} characters."
        )
    if not 0 < renew_days < days:
        raise AuthorityError(
            f"renew_days is {renew_days} and days is {days}. Allowed is a renew_days of at least 1 that is smaller than days."
        )
    for serial in revoked:
        if not SERIAL.fullmatch(serial):
            raise AuthorityError(
                f"revoked has {serial!r}. Allowed are serial numbers of certificates as quoted text: 16 to 40 hexadecimal digits."
            )
    return Policy(tuple(names), key_algorithm, days, renew_days, frozenset(int(serial, 16) for serial in revoked))


def read_authority(root: str, ca: str, ca_key: str, now: datetime) -> Authority:
    """The authority from its PEM texts; AuthorityError where they are none, or do not belong together, or have ended."""
    anchor, issuer = read_certificate(root, "root"), read_certificate(ca, "ca")
    for option, certificate in (("root", anchor), ("ca", issuer)):
        if not signed_by(certificate, anchor):
            raise AuthorityError(
                f"{option} ({subject(certificate)}) is not signed by root ({subject(anchor)}). Allowed is a CA that root signed."
            )
        if not may_sign(certificate):
            raise AuthorityError(f"{option} ({subject(certificate)}) may not sign. Allowed is a CA that may sign certificates and lists.")
        if certificate.not_valid_after_utc <= now:
            raise AuthorityError(
                f"{option} ({subject(certificate)}) ended at {stamp(certificate.not_valid_after_utc)}. Allowed is one that is valid now."
            )
    try:
        key = serialization.load_pem_private_key(ca_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says could quote the key.
        raise AuthorityError(
            "ca_key cannot be read. Allowed is an EC or RSA private key in PEM without a passphrase (a vault guards it)."
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AuthorityError("ca_key is of an unknown kind. Allowed is an EC or RSA private key in PEM.")
    if key.public_key() != issuer.public_key():
        raise AuthorityError(
            f"ca_key is not the key of ca ({subject(issuer)}). Allowed is the private key whose public key that certificate holds."
        )
    return Authority(anchor, issuer, key)


def read_certificate(text: str, option: str) -> x509.Certificate:
    """The one certificate in ``text``; AuthorityError, which names ``option``, when there is none or more than one."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        # Only the header: it may be a key that was put there by mistake.
        begin = text.partition("\n")[0][:40]
        raise AuthorityError(f"{option} begins with {begin!r}. Allowed is one certificate in PEM, from BEGIN to END line.") from None
    return certificate


def first_certificate(text: str) -> x509.Certificate:
    """The certificate that a file begins with; ValueError when it begins with none."""
    return x509.load_pem_x509_certificates(text.encode())[0]


def certificate_due(found: str, public_key: str, authority: Authority, policy: Policy, now: datetime) -> str:
    """Why a host needs a new key and certificate, empty if it does not.

    ``found``: text of its certificate file; ``public_key``: PEM of its private key's public half; both empty if there is none.
    """
    try:
        certificate = first_certificate(found)
    except ValueError:
        return "is no certificate" if found else "is missing"
    if not public_key:
        return "has no private key that can be read"
    if public_pem(certificate.public_key()) != public_key:
        return "belongs to another private key"
    if not signed_by(certificate, authority.ca):
        return f"is signed by {certificate.issuer.rfc4514_string()}, not by the CA {subject(authority.ca)}"
    if certificate.serial_number in policy.revoked:
        return f"is revoked (serial {certificate.serial_number:x})"
    if key_algorithm(certificate.public_key()) != policy.key_algorithm:
        return f"has a key of {key_algorithm(certificate.public_key())}, not {policy.key_algorithm}"
    if certificate.subject != common_name(policy) or certificate_names(certificate) != set(policy.names):
        return f"is for {', '.join(sorted(certificate_names(certificate)))}, not for {', '.join(policy.names)}"
    return policy.due(certificate.not_valid_after_utc, authority.ca.not_valid_after_utc, now)


def crl_due(found: str, authority: Authority, policy: Policy, now: datetime) -> str:
    """Why a host needs a new revocation list, empty if it does not. ``found``: text of its file, empty if there is none."""
    try:
        crl = x509.load_pem_x509_crl(found.encode())
    except ValueError:
        return "is no revocation list" if found else "is missing"
    if crl.issuer != authority.ca.subject or not crl.is_signature_valid(authority.ca.public_key()):
        return f"is signed by {crl.issuer.rfc4514_string()}, not by the CA {subject(authority.ca)}"
    if {entry.serial_number for entry in crl} != policy.revoked:
        return f"revokes {len(crl)} certificates, not the {len(policy.revoked)} that are to be"
    return policy.due(crl.next_update_utc, authority.ca.not_valid_after_utc, now)


def issue(authority: Authority, request: str, policy: Policy, now: datetime) -> x509.Certificate:
    """Sign a host's request (PEM). Only its public key is taken from it: a host does not choose its own names.

    AuthorityError when the request is not signed by the key it carries, or that key is not of the policy's algorithm.
    """
    try:
        wish = x509.load_pem_x509_csr(request.encode())
        honest = wish.is_signature_valid and key_algorithm(wish.public_key()) == policy.key_algorithm
    except ValueError:
        honest = False
    if not honest:
        raise AuthorityError(
            f"The host sent a request that is not signed by a key of {policy.key_algorithm}. Allowed is only what this module made there."
        )
    is_rsa = isinstance(wish.public_key(), rsa.RSAPublicKey)
    builder = (
        x509.CertificateBuilder(serial_number=x509.random_serial_number())
        .subject_name(common_name(policy))
        .issuer_name(authority.ca.subject)
        .public_key(wish.public_key())
        .not_valid_before(max(now - CLOCK_ERROR, authority.ca.not_valid_before_utc))
        .not_valid_after(life(authority, policy, now))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True, key_encipherment=is_rsa), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in policy.names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(wish.public_key()), critical=False)
        .add_extension(authority_key(authority), critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256())


def revoke(authority: Authority, policy: Policy, now: datetime) -> str:
    """A revocation list (PEM) of the policy's serials. Its number, which has to grow (RFC 5280, 5.2.3), is the time in seconds."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.ca.subject)
        .last_update(max(now - CLOCK_ERROR, authority.ca.not_valid_before_utc))
        .next_update(life(authority, policy, now))
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        .add_extension(authority_key(authority), critical=False)
    )
    for serial in sorted(policy.revoked):
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, now - CLOCK_ERROR).build())
    return pem(builder.sign(authority.key, hashes.SHA256()))


def life(authority: Authority, policy: Policy, now: datetime) -> datetime:
    """When something that is signed now ends: after the policy's days, but never after the CA itself."""
    return min(now + timedelta(days=policy.days), authority.ca.not_valid_after_utc)


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` signed ``certificate``; its name must match too."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def may_sign(certificate: x509.Certificate) -> bool:
    """Whether it is the certificate of a CA that may sign certificates and revocation lists."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign and usage.crl_sign


def key_usage(**used: bool) -> x509.KeyUsage:
    """A key usage with only ``used`` true."""
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**dict.fromkeys(names, False) | used)


def authority_key(authority: Authority) -> x509.AuthorityKeyIdentifier:
    """The extension that leads from a certificate or list to the CA that signed it."""
    try:
        identifier = authority.ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.ca.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def key_algorithm(key: object) -> str:
    """The name in KEY_ALGORITHMS of a public key, or one like them for a key that we would not make."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ec-p256", "secp384r1": "ec-p384"}.get(key.curve.name, f"ec-{key.curve.name}")
    return f"rsa-{key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__


def certificate_names(certificate: x509.Certificate) -> set[str]:
    """DNS names and addresses that the certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


def is_address(name: str) -> bool:
    """Whether ``name`` is an IP address, as Python writes it: an address of another spelling would never match itself."""
    try:
        return str(ipaddress.ip_address(name)) == name
    except ValueError:
        return False


def general_name(name: str) -> x509.GeneralName:
    """A name of a certificate from a DNS name or an IP address."""
    return x509.IPAddress(ipaddress.ip_address(name)) if is_address(name) else x509.DNSName(name)


def common_name(policy: Policy) -> x509.Name:
    """The subject of a host's certificate: its first name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, policy.names[0])])


def subject(certificate: x509.Certificate) -> str:
    """The subject as people read it."""
    return certificate.subject.rfc4514_string()


def stamp(when: datetime) -> str:
    """A time as people read it."""
    return when.strftime("%Y-%m-%d %H:%M UTC")


def pem(thing: x509.Certificate | x509.CertificateRevocationList) -> str:
    """Its text."""
    return thing.public_bytes(serialization.Encoding.PEM).decode()


def public_pem(key) -> str:
    """Text of a public key, the same that ``openssl pkey -pubout`` prints."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
