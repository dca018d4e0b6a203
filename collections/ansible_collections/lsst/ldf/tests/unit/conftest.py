"""A throw-away root and site CA for the tests of certificates; archives and processes for those of the DAQ's releases."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.authority import Authority, key_usage, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

# A process that maps a file until it hears something.
MAPPER = "import mmap, sys; file = open(sys.argv[1]); kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); print(flush=True); input()"
SERVER = (
    "import sys; from ansible.plugins.loader import init_plugin_loader; init_plugin_loader([sys.argv[1]]); "
    "sys.path.insert(0, sys.argv[2]); import test_daq_sdk; test_daq_sdk.serve()"
)
NOW = datetime.now(UTC).replace(microsecond=0)


class Ca:
    """A certificate with its key; ``issuer`` None signs itself."""

    def __init__(self, name: str, issuer: Ca | None = None, *, days: float = 365, is_ca: bool = True, kind: str = "ec"):
        self.key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder(
                subject_name=subject, issuer_name=issuer.certificate.subject if issuer else subject, public_key=self.key.public_key()
            )
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer or self).key.public_key()), critical=False)
        )
        self.certificate = builder.sign((issuer or self).key, hashes.SHA256())
        self.text = pem(self.certificate)
        private = serialization.PrivateFormat.PKCS8
        self.key_text = self.key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()).decode()


@pytest.fixture(scope="session")
def make_ca():
    """Makes a CA of its own."""
    return Ca


@pytest.fixture(scope="session")
def root() -> Ca:
    return Ca("lsst-root")


@pytest.fixture(scope="session")
def site(root) -> Ca:
    return Ca("lsst-base", root)


@pytest.fixture(scope="session")
def authority(root, site) -> Authority:
    return Authority(root.certificate, site.certificate, site.key)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def pack():
    """Writes an archive of (name, what) at a path and says its SHA-256. What: a file's content, or tarfile's type and a link's target."""

    def write(path, members):
        with tarfile.open(path, "w:gz") as archive:
            for name, what in members:
                member = tarfile.TarInfo(name)
                content = what if isinstance(what, bytes) else b""
                member.type, member.linkname = (tarfile.REGTYPE, "") if isinstance(what, bytes) else what
                member.size, member.uid, member.mode = len(content), 1234, 0o775
                archive.addfile(member, io.BytesIO(content))
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return write


@pytest.fixture
def mapper():
    """Starts a process that maps a file, and says how messages name it."""
    started = []

    def start(path):
        process = subprocess.Popen([sys.executable, "-c", MAPPER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        comm = Path(f"/proc/{process.pid}/comm").read_text().strip()
        return f"{comm} ({process.pid})"

    def stop():
        while started:
            started.pop().communicate(b"\n")

    start.stop = stop
    yield start
    stop()


@pytest.fixture(scope="session")
def victims():
    """Starts processes that run a module and get killed, see ``test_daq_sdk.serve``.

    They are without pytest's threads, which a fork would not survive.
    """
    started = []

    def start():
        paths = [str(Path(__file__).parents[5]), str(Path(__file__).parent)]
        process = subprocess.Popen([sys.executable, "-c", SERVER, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.communicate()


@pytest.fixture(scope="session")
def victim(victims):
    return victims()
