"""The lab's own secrets: certificate authorities, the operator's and the control hosts' keys and certificates, the transfer key.

They are made once, under .cache/lab/secrets, and are worth nothing outside the lab. Not called secrets.py: this directory is on
the path of pytest, and that would hide Python's own module.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# A person's certificate lives for a day; lab.py up, start and status make it again when half of that is over.
LOGIN_LIFE = timedelta(hours=24)
HOST_LIFE = timedelta(days=365)
# A control host logs in while nobody is there to sign for it.
CONTROL_LIFE = timedelta(days=365)
AUTHORITY_LIFE = timedelta(days=3650)
# Clocks of containers are the machine's; certificates of a machine whose clock was set back shall still be valid.
BACKDATED = timedelta(minutes=5)


def make(
    directory: Path, sites: Collection[str], login: str, domain: str, control: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Make what is missing in ``directory``: ssh CAs, login key with a fresh certificate for ``login``, TLS CAs, TSIG key, depot's key.

    ``control``: site -> addresses of its control hosts; the site's key ``control-<site>`` opens hosts from these only, from anywhere when
    there are none.
    """
    tls = directory / "tls"
    for folder in (directory, tls):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    for name, comment in (("ssh-user-ca", "lab user CA"), ("ssh-host-ca", "lab host CA"), ("id", "lab operator")):
        ssh_key(directory / name, comment)
    if expires_soon(directory / "id-cert.pub", LOGIN_LIFE / 2):
        sign(directory / "ssh-user-ca", directory / "id.pub", "lab-operator", [login], LOGIN_LIFE, host=False)
    for site in sites:
        addresses = list(control.get(site, []))
        key = directory / f"control-{site}"
        ssh_key(key, f"lab control host of {site}")
        certificate = key.with_name(f"{key.name}-cert.pub")
        if expires_soon(certificate, CONTROL_LIFE / 2) or sources(certificate) != addresses:
            public = key.with_name(f"{key.name}.pub")
            sign(directory / "ssh-user-ca", public, f"lab-control-{site}", [login], CONTROL_LIFE, host=False, only_from=addresses)
    for name in ("tsig", "object-store", "munge"):
        if not (directory / name).exists():
            write(directory / name, base64.b64encode(os.urandom(32)))
    signing_key(directory / "depot", "Lab depot")
    authority(tls / "root", "Lab root CA", issuer=None)
    for site in sites:
        authority(tls / site, f"Lab CA of {site}", issuer=tls / "root")
    public = (directory / "ssh-host-ca.pub").read_text()
    write(directory / "known_hosts", f"@cert-authority *.{domain} {public}".encode())


def write(path: Path, content: bytes) -> None:
    """Write ``path``, mode 0600, all of it or nothing."""
    if path.exists() and path.read_bytes() == content:
        return
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


def ssh_key(path: Path, comment: str) -> None:
    """An ed25519 key pair at ``path`` and ``path``.pub, unless both are there."""
    public = path.with_name(path.name + ".pub")
    if path.exists() and public.exists():
        return
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)
    public.chmod(0o600)


def signing_key(base: Path, name: str) -> None:
    """An OpenPGP key that signs, ``base``.asc, and its public half, ``base``.pub.asc, unless both are there."""
    secret, public = base.with_suffix(".asc"), base.with_suffix(".pub.asc")
    if secret.exists() and public.exists():
        return
    with tempfile.TemporaryDirectory() as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-gen-key", name, "ed25519", "sign", "never"], check=True, capture_output=True)
        for path, command in ((secret, "--export-secret-keys"), (public, "--export")):
            write(path, subprocess.run([*gpg, "--armor", command], check=True, capture_output=True).stdout)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)


def sign(ca: Path, public: Path, identity: str, principals: list[str], life: timedelta, host: bool, only_from: Sequence[str] = ()) -> None:
    """Write the certificate of the key ``public`` beside it, as ssh-keygen names it (x.pub: x-cert.pub).

    ``only_from``: addresses, or networks in CIDR notation, from which it is good; anywhere when there are none.
    """
    validity = f"-{int(BACKDATED.total_seconds())}s:+{int(life.total_seconds())}s"
    kind = ["-h"] if host else []
    kind += ["-O", f"source-address={','.join(only_from)}"] if only_from else []
    command = ["ssh-keygen", "-q", "-s", str(ca), "-I", identity, "-n", ",".join(principals), "-V", validity, *kind, str(public)]
    subprocess.run(command, check=True)
    public.with_name(f"{public.stem}-cert.pub").chmod(0o600)


def expires_soon(certificate: Path, left: timedelta) -> bool:
    """True when the ssh certificate is missing or unreadable, or is valid for less than ``left``."""
    if not certificate.exists():
        return True
    try:
        valid_before = serialization.load_ssh_public_identity(certificate.read_bytes()).valid_before
    except ValueError:
        return True
    return datetime.fromtimestamp(valid_before, UTC) - datetime.now(UTC) < left


def sources(certificate: Path) -> list[str]:
    """The addresses and networks from which a person's ssh certificate is good; empty for anywhere."""
    listed = serialization.load_ssh_public_identity(certificate.read_bytes()).critical_options.get(b"source-address", b"")
    return listed.decode().split(",") if listed else []


def authority(base: Path, name: str, issuer: Path | None) -> None:
    """A TLS CA at ``base``.key and ``base``.crt, signed by ``issuer`` or by itself, unless both are there and belong to that issuer."""
    key_file, file = base.with_suffix(".key"), base.with_suffix(".crt")
    if key_file.exists() and file.exists() and (issuer is None or issued_by(file, issuer.with_suffix(".crt"))):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "LSST lab"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signer_name = key, subject
    if issuer:
        signer = serialization.load_pem_private_key(issuer.with_suffix(".key").read_bytes(), None)
        signer_name = x509.load_pem_x509_certificate(issuer.with_suffix(".crt").read_bytes()).subject
    now = datetime.now(UTC)
    usage = {name: name in ("key_cert_sign", "crl_sign") for name in KEY_USAGES}
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    write(key_file, key.private_bytes(pem, pkcs8, plain))
    write(file, certificate.public_bytes(pem))


KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def issued_by(certificate: Path, issuer: Path) -> bool:
    """True when ``certificate`` was signed by the CA whose certificate is ``issuer``."""
    try:
        x509.load_pem_x509_certificate(certificate.read_bytes()).verify_directly_issued_by(
            x509.load_pem_x509_certificate(issuer.read_bytes())
        )
    except Exception:  # cryptography raises ValueError, TypeError and InvalidSignature here: each of them means no
        return False
    return True


if __name__ == "__main__":
    # keys.py DIRECTORY [ADDRESS...]: a Molecule scenario's own, for one site called "site" with control hosts at these addresses.
    make(Path(sys.argv[1]), ["site"], "ldfadmin", "lsst.internal", {"site": sys.argv[2:]})
