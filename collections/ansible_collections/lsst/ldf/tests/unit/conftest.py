"""A throw-away root and site CA for tests of certificates; archives and processes for those of the DAQ's releases; a host with HTCondor."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lsst.ldf.plugins.module_utils import htcondor
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


# Answers like condor_config_val: by the files that CONDOR_CONFIG names. What it cannot read says "broken".
CONFIG_VAL = """#!/bin/sh
config=${CONDOR_CONFIG:-none}
directory=$(sed -n 's/^LOCAL_CONFIG_DIR = //p' "$config" | tail -n 1)
case "$1" in
LOCAL_CONFIG_DIR) echo "$directory" ;;
DAEMON_LIST) echo MASTER STARTD ;;
LOG) echo /var/log/condor ;;
-dump) printf 'NUM_CPUS = 1\\nUPDATE_INTERVAL = 300\\nSTART = True\\nSTARTD_ATTRS = \\n' ;;
-summary)
    if grep -qs broken "$directory"/*; then echo "Configuration Error Line 1 while reading config source $directory/x.conf" >&2; exit 1; fi
    cat "$directory"/* 2>/dev/null; true ;;
-info)
    shift
    for name; do
        line=$(cat "$directory"/* 2>/dev/null | grep "^$name = ") || continue
        case $name in NUM_CPUS | UPDATE_INTERVAL) expected=INT ;; *) expected= ;; esac
        printf '%s\\n # raw: %s\\n # expected values : %s\\n # used by: startd\\n\\n' "$line" "$line" "$expected"
    done ;;
esac
"""
CLASSAD_EVAL = """#!/bin/sh
case "$1" in *"(" | *">" | -5x) echo "Unable to turn '$1' into a ClassAd or an expression." >&2; exit 1 ;; esac
echo '[  ]'
case "$1" in [0-9]*) echo "$1" ;; *) echo undefined ;; esac
"""


@pytest.fixture
def pool(tmp_path, monkeypatch, capsys):
    """A host with HTCondor: commands, files, and processes below a /proc of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "config.d").mkdir()
    (tmp_path / "condor_config").write_text(f"LOCAL_CONFIG_DIR = {tmp_path}/config.d\n")
    monkeypatch.setenv("CONDOR_CONFIG", str(tmp_path / "condor_config"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(htcondor, "PROC", tmp_path / "proc")
    monkeypatch.setattr(htcondor, "USR", tmp_path)
    monkeypatch.setattr(htcondor, "RESTARTS", tmp_path / "state" / "restarts.json")

    class Pool:
        top, dest = tmp_path, tmp_path / "config.d" / "x.conf"

        def command(self, name, text):
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)

        def process(self, pid, name, parent, started=0):
            (tmp_path / "proc" / str(pid)).mkdir(parents=True, exist_ok=True)
            rest = ["S", str(parent), *["0"] * 17, str(started)]
            (tmp_path / "proc" / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(rest)}\n")

        def run(self, module, check=False, **params):
            with patch_module_args(params | {"_ansible_check_mode": check}), pytest.raises(SystemExit):
                module.main()
            return json.loads(capsys.readouterr().out)

    made = Pool()
    made.command("condor_config_val", CONFIG_VAL)
    made.command("classad_eval", CLASSAD_EVAL)
    made.command("condor_reconfig", "#!/bin/sh\nexit 0\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text("cpu 1 2\nbtime 1000\n")
    made.process(10, "condor_master", 1)
    made.process(11, "condor_startd", 10)
    return made
