"""dtn, as one node meets another: files through dtn-send, the queue and rsync, and what their clients and a bare socket are refused."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from conftest import Machine, under_test, wait_for

MIB = 1 << 20
SPOOL, INCOMING = "/var/spool/dtn", "/srv/dtn/incoming"
ENVIRONMENT = (
    "XrdSecPROTOCOL=gsi XrdSecGSICADIR=/run/dtn/ca X509_CERT_DIR=/run/dtn/ca XrdSecGSICREATEPROXY=0"
    " XRD_CONNECTIONRETRY=1 XRD_CONNECTIONWINDOW=5"
)
OWN = {"XrdSecGSIUSERCERT": "/etc/lsst/tls/host.crt", "XrdSecGSIUSERKEY": "/etc/lsst/tls/host.key"}
in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)

# On the client: a session as far as the login, without TLS; prints the number of the server's answer, or that it hung up.
# Handshake, kXR_protocol (3006) and kXR_login (3007) as in the protocol's specification, version 5.
PLAIN = """
import socket, struct, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as s, s.makefile("rb") as answers:
    def answer():
        head = answers.read(8)
        if len(head) < 8:
            sys.exit("hung up")
        _, status, size = struct.unpack(">2sHi", head)
        return status, answers.read(size)
    try:
        s.sendall(struct.pack(">iiiii", 0, 0, 0, 4, 2012) + struct.pack(">2sHiBB10xi", b"aa", 3006, 0x511, 0, 0, 0))
        answer(), answer()
        s.sendall(struct.pack(">2sHi8sBBBBi", b"bb", 3007, 1, b"nobody", 0, 0, 5, 0, 0))
        status, body = answer()
    except ConnectionError:
        sys.exit("hung up")
    print(status, body[4:].decode(errors="replace") if status == 4003 else "")
"""


@dataclass(frozen=True)
class Far:
    """Another node that files can be sent to. ``name``: what it is called here; ``directory``: where they arrive there."""

    name: str
    address: str
    port: int
    machine: Machine
    directory: str

    @property
    def host(self):
        return self.machine.host


@pytest.fixture
def far(machine, settings, others, request) -> Far:
    """One of the machine's peers that takes part in this run."""
    peers = {peer["name"]: peer for peer in settings["dtn_peers"]}
    for other in under_test(request.config):
        its = other.settings.get("dtn", {})
        if peer := peers.get(its.get("dtn_name")):
            address = peer.get("address") or peer["host"]
            return Far(peer["name"], address, its["dtn_port"], other, f"{INCOMING}/{settings['dtn_name']}")
    pytest.fail(f"none of the peers {', '.join(peers)} takes part")


@pytest.fixture
def file(host, far):
    """Makes files of random content on the host: ``file(size)`` gives the path; they are removed at both ends."""
    made = []

    def make(size: int, directory: str = "/var/tmp") -> str:
        made.append(f"lsst-test-{uuid.uuid4().hex}")
        path = f"{directory}/{made[-1]}"
        # Under a hidden name until it is complete, as the queue wants it.
        host.check_output(f"head -c {size} /dev/urandom >{directory}/.{made[-1]} && mv {directory}/.{made[-1]} {path}")
        return path

    yield make
    for name in made:
        host.run(f"rm --force /var/tmp/{name} {SPOOL}/*/{name}")
        far.host.run(f"rm --force {INCOMING}/*/{name} {INCOMING}/*/.{name}.*")


def digest(host, path: str) -> str | None:
    """SHA-256 of a file; None when there is none."""
    return host.run(f"sha256sum {path}").stdout.partition(" ")[0] or None


def xrdfs(host, far: Far, command: str, **environment: str):
    """``xrdfs COMMAND`` against the far node, with the host's own certificate unless ``environment`` has another one."""
    words = " ".join(f"{key}={value}" for key, value in {**OWN, **environment}.items())
    return host.run(f"env {ENVIRONMENT} {words} timeout 30 xrdfs roots://{far.address}:{far.port}/ {command}")


def journal(host, unit: str, word: str) -> str:
    """The lines of a unit's journal that hold ``word``."""
    return host.run(f"journalctl --sync; journalctl --unit {unit} --output cat --since -5min --grep {shlex.quote(word)}").stdout


@pytest.mark.reads
def test_can_do_nothing_but_its_work(host):
    """Server and queue run as a user of their own, without capabilities, a way to new ones, or system calls they have no use for."""
    user = host.check_output("id --user dtn")
    for unit in ("dtn", "dtn-queue"):
        process = host.check_output(f"systemctl show --property MainPID --value {unit}")
        status = dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{process}/status").splitlines() if ":\t" in line)
        assert status["Uid"].split() == [user] * 4
        assert (status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2")


@pytest.mark.reads
def test_hides_its_own_files_and_nobody_elses(host):
    """/etc/lsst is shared with other roles."""
    assert host.check_output("runuser -u nobody -- cat /etc/lsst/tls/chain.crt").startswith("-----BEGIN CERTIFICATE-----")
    for path in ("/etc/lsst/dtn", "/run/dtn/host.key", "/srv/dtn/incoming", "/var/spool/dtn"):
        assert host.run(f"runuser -u nobody -- test -r {path}").rc == 1


@pytest.mark.reads
def test_refuses_a_client_without_tls(host, far):
    done = host.run("python3 -c %s %s %s", PLAIN, far.address, str(far.port))
    assert done.stdout.startswith("4003 ") and "TLS" in done.stdout, done.stdout + done.stderr


@pytest.mark.writes
def test_files_arrive_complete_under_their_names(host, far, file):
    paths = [file(5 * MIB), file(MIB), file(1), file(0)]
    done = host.run(f"dtn-send --tries 1 {' '.join(paths)} {far.name}")
    assert done.rc == 0, done.stdout + done.stderr
    for path in paths:
        name = Path(path).name
        assert digest(far.host, f"{far.directory}/{name}") == digest(host, path)
        assert not far.host.file(f"{far.directory}/.{name}.part").exists
    # A second time nothing is sent.
    assert "was there already" in host.check_output(f"dtn-send {path} {far.name}")


@pytest.mark.writes
def test_the_queue_sends_removes_and_reports(host, far, file):
    path = file(3 * MIB)
    wanted = digest(host, path)
    name = Path(path).name
    host.check_output(f"cp {path} {SPOOL}/{far.name}/.{name} && mv {SPOOL}/{far.name}/.{name} {SPOOL}/{far.name}/{name}")
    path = f"{SPOOL}/{far.name}/{name}"
    wait_for(lambda: journal(host, "dtn-queue", name), 30, "the queue takes it")
    assert not host.file(path).exists
    assert digest(far.host, f"{far.directory}/{name}") == wanted
    report = rf"{path}: sent to {far.name}, {3 * MIB} bytes in [\d.]+ s, [\d.]+ MB/s, md5 (\w+)\n"
    told = re.search(report, journal(host, "dtn-queue", name))
    assert told and far.host.check_output(f"md5sum {far.directory}/{name}").startswith(told[1])


@pytest.mark.writes
def test_a_peer_stays_in_its_own_directory(host, settings, far, file):
    """Elsewhere it may neither look, nor write, nor take away, and not by a detour either."""
    own, mine = f"/incoming/{settings['dtn_name']}", file(10)
    assert xrdfs(host, far, f"ls {own}/").rc == 0
    source = f"env {ENVIRONMENT} {' '.join(f'{key}={value}' for key, value in OWN.items())} xrdcp --nopbar {mine} roots://{far.address}:{far.port}/"
    for target in ("/incoming/other/x", f"/outgoing/{settings['dtn_name']}/x", f"{own}/../other/x"):
        done = host.run(f"{source}/{target}")
        assert done.rc and "[ERROR]" in done.stderr, f"{target}: {done.stdout}{done.stderr}"
    for command in ("ls /incoming/", "ls /outgoing/other/", f"mv {own}/x /incoming/other/x"):
        done = xrdfs(host, far, command)
        assert done.rc and "[ERROR]" in done.stdout + done.stderr, f"{command}: {done.stdout}{done.stderr}"


@dataclass(frozen=True)
class Authority:
    """A CA whose key is at hand; known of a scenario's throw-away one only."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def sign(self, name: str, key: rsa.RSAPrivateKey, begins: timedelta, ends: timedelta) -> str:
        """A certificate for ``name``, in PEM; ``begins`` and ``ends`` count from now."""
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )


@in_molecule
@pytest.mark.writes
def test_refuses_every_other_certificate(host, machine, far):
    """The last one is a right one: what is refused is the certificate, not the way that the test asks."""
    site = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets/tls/site"
    certificate = x509.load_pem_x509_certificate(site.with_suffix(".crt").read_bytes())
    ours = Authority(certificate, serialization.load_pem_private_key(site.with_suffix(".key").read_bytes(), None))
    # Of the same name, but with another key.
    theirs = Authority(certificate, ec.generate_private_key(ec.SECP256R1()))
    key, day, name = rsa.generate_private_key(65537, 2048), timedelta(days=1), f"{machine.name}.test"
    asked = {
        "another authority": theirs.sign(name, key, -day, day),
        "ended": ours.sign(name, key, -day, -day / 24),
        "begins tomorrow": ours.sign(name, key, day, 2 * day),
        "nobody's peer": ours.sign("somebody-else.test", key, -day, day),
        "right": ours.sign(name, key, -day, day),
    }
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret = key.private_bytes(pem, pkcs8, plain).decode()
    host.check_output("mkdir --mode 0700 /tmp/lsst-test && umask 77 && echo %s >/tmp/lsst-test/key", secret)
    admitted = []
    try:
        for why, text in asked.items():
            host.check_output("echo %s >/tmp/lsst-test/crt", text)
            own = {"XrdSecGSIUSERCERT": "/tmp/lsst-test/crt", "XrdSecGSIUSERKEY": "/tmp/lsst-test/key"}
            admitted += [why] * (xrdfs(host, far, f"ls /incoming/{machine.settings['dtn']['dtn_name']}/", **own).rc == 0)
    finally:
        host.check_output("rm -r /tmp/lsst-test")
    assert admitted == ["right"]


def elsewhere(far: Far) -> str:
    """Another address of the far node on the same wire; the host calls it from one that is not among those that may connect."""
    return next(word for word in far.host.check_output("hostname --all-ip-addresses").split() if not word.startswith("198.51.100."))


@in_molecule
@pytest.mark.reads
def test_hangs_up_on_a_client_from_elsewhere(host, far):
    assert host.run("python3 -c %s %s %s", PLAIN, far.address, str(far.port)).stdout.startswith("4003")
    done = host.run("python3 -c %s %s %s", PLAIN, elsewhere(far), str(far.port))
    assert done.stderr.strip() == "hung up", done.stdout + done.stderr


@pytest.mark.reads
def test_the_user_of_rsync_has_no_shell(host):
    for command in ("su dtn-rsync --command id", "su --login dtn-rsync --command 'rsync --version'", "su --login dtn-rsync"):
        done = host.run(f"{command} </dev/null")
        assert (done.rc, done.stdout) == (1, "") and "Allowed: rsync over ssh" in done.stderr, done.stdout + done.stderr


@dataclass(frozen=True)
class Partner:
    """Who sends by rsync from the host. ``keys``: here, with what the host has in ``directory``: key, certificate, known hosts."""

    host: Any
    far: Far
    keys: Path
    directory: str

    def write(self, name: str, text: str) -> None:
        """Write a file for the client."""
        self.host.check_output(f"umask 77 && echo %s >{self.directory}/{name}", text)

    def certify(self, principal: str, authority: Path, life: str = "-5m:+5m") -> None:
        """Have a certificate for ``principal`` in the place of the one before."""
        words = ["-s", authority, "-I", "test.partner", "-n", principal, "-V", life, self.keys / "id.pub"]
        subprocess.run(["ssh-keygen", "-q", *words], check=True)
        self.write("id-cert.pub", (self.keys / "id-cert.pub").read_text())

    @property
    def client(self) -> str:
        """OpenSSH's client with its options."""
        files = f"-i {self.directory}/id -o CertificateFile={self.directory}/id-cert.pub -o UserKnownHostsFile={self.directory}/known_hosts"
        return f"ssh -F none -p {self.far.machine.settings['sshd']['sshd_ports'][-1]} {files} -o IdentitiesOnly=yes -o BatchMode=yes"

    def ssh(self, words: str, address: str | None = None):
        """``ssh OPTIONS`` or ``ssh "OPTIONS -- COMMAND"``, to another address of the far node if that is given."""
        options, _, command = words.partition("--")
        alias = f"-o HostKeyAlias={self.far.address}"
        return self.host.run(f"timeout 30 {self.client} {alias} {options} dtn-rsync@{address or self.far.address} {command} </dev/null")

    def command(self, words: str, target: str = "") -> str:
        """``rsync OPTIONS FILE...`` to ``target`` there."""
        return f"rsync --rsh {shlex.quote(self.client)} {words} dtn-rsync@{self.far.address}:{target}"

    def rsync(self, words: str, target: str = ""):
        return self.host.run(f"timeout 60 {self.command(words, target)}")


@pytest.fixture
def authority() -> Path:
    """The private key that signs people's ssh certificates; known of a scenario's throw-away one only."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets/ssh-user-ca"


@pytest.fixture
def partner(host, settings, far, authority, tmp_path) -> Partner:
    """One with a certificate for the host's name among its peers."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    made = Partner(host, far, tmp_path, host.check_output("mktemp --directory"))
    made.write("id", (tmp_path / "id").read_text())
    made.write("known_hosts", f"@cert-authority * {authority.with_name('ssh-host-ca.pub').read_text()}")
    made.certify(settings["dtn_name"], authority)
    yield made
    host.check_output(f"rm -r {made.directory}")


@in_molecule
@pytest.mark.writes
def test_takes_files_by_rsync(host, far, file, partner):
    """The group dtn reads them, and a link leads nowhere: xrootd would follow it."""
    path, link = file(5 * MIB), file(1)
    host.check_output(f"ln --symbolic --force /etc/passwd {link}")
    done = partner.rsync(f"--links --times --delay-updates {path} {link}")
    assert done.rc == 0, done.stderr
    assert far.host.check_output(f"runuser -u dtn -- sha256sum {far.directory}/{Path(path).name}").startswith(digest(host, path))
    arrived = far.host.file(f"{far.directory}/{Path(link).name}")
    assert arrived.is_symlink and far.host.run(f"cat {arrived.path}").rc == 1


@in_molecule
@pytest.mark.writes
def test_rsync_writes_into_the_directory_of_the_certificates_peer_only(settings, far, file, partner, authority):
    """Elsewhere it may neither by a detour nor by a whole path."""
    path, own = file(10), settings["dtn_name"]
    another = next(peer["name"] for peer in far.machine.settings["dtn"]["dtn_peers"] if peer["name"] != own)
    done = partner.rsync(path)
    assert done.rc == 0, done.stderr
    found = f"find /srv/dtn -name {Path(path).name} -printf %h -delete"
    assert far.host.check_output(found) == far.directory
    partner.certify(another, authority)
    assert partner.rsync(path, f"../{own}/").rc
    assert partner.rsync(path, f"{far.directory}/").rc
    assert far.host.check_output(found) == ""
    assert partner.rsync(path).rc == 0
    assert far.host.check_output(found) == f"{INCOMING}/{another}"


@in_molecule
@pytest.mark.writes
def test_the_user_of_rsync_can_do_nothing_else(host, far, file, partner):
    """Nor leave something unfinished under its name, nor remove what is there."""
    path = file(10)
    done = partner.rsync(path)
    assert done.rc == 0, done.stderr
    tried = {
        "a command": (partner.ssh("-- id"), "does not run rsync"),
        "a shell": (partner.ssh("-T"), "Not invoked via sshd"),
        "a terminal": (partner.ssh("-tt"), "PTY allocation request failed"),
        # What a subsystem says against it does not come here.
        "sftp": (partner.ssh("-s -- sftp"), ""),
        "a connection onwards": (partner.ssh(f"-W 127.0.0.1:{far.port}"), "administratively prohibited"),
        "reading": (host.run(f"{partner.command('', Path(path).name)} {path}.back"), "write-only"),
        "listing": (host.run(partner.command("")), "write-only"),
        "removing": (partner.rsync("--recursive --delete /etc/ssh/"), "disabled on this server"),
    }
    for option in ("--inplace", "--append", "--append-verify", "--partial", "--partial-dir=.part"):
        tried[option] = partner.rsync(f"{option} {path}"), "Allowed: --delay-updates"
    assert {
        why: (done.rc, done.stdout, done.stderr) for why, (done, words) in tried.items() if not done.rc or words not in done.stderr
    } == {}
    assert digest(far.host, f"{far.directory}/{Path(path).name}") == digest(host, path)


@in_molecule
@pytest.mark.writes
def test_rsync_refuses_every_other_ssh_certificate(host, settings, far, partner, authority, tmp_path):
    """The last one is a right one, which is refused from elsewhere only."""
    own, admitted = settings["dtn_name"], []
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"], check=True)
    for why, certificate in {
        "another authority": (own, tmp_path / "stranger"),
        "ended": (own, authority, "-2h:-1h"),
        "nobody's peer": ("somebody-else", authority),
        "the login name": ("dtn-rsync", authority),
        "right": (own, authority),
    }.items():
        partner.certify(*certificate)
        admitted += [why] * (partner.ssh("-- true").rc == 0)
    assert partner.ssh("-- true", elsewhere(far)).rc == 255
    host.check_output(f"rm {partner.directory}/id-cert.pub")
    assert partner.ssh("-- true").rc == 255
    assert admitted == ["right"]


@pytest.mark.reads
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("dtn-send /etc/hostname nobody", "there is no peer 'nobody'. Allowed: {peers}. Edit: dtn_peers in inventories/production/"),
        ("runuser -u nobody -- dtn-send /etc/hostname {far}", "/etc/lsst/dtn/dtn.conf cannot be read. Allowed: root or the user dtn"),
        ("runuser -u dtn -- dtn-send /etc/hostname {far}", "/etc/lsst/tls/host.key cannot be read. Allowed: root or a member of ssl-cert"),
    ],
)
def test_says_what_is_wrong_and_what_is_allowed(host, settings, far, command, words):
    """Nobody but root and the services, which are in ssl-cert, can prove to be this node."""
    peers = ", ".join(peer["name"] for peer in settings["dtn_peers"])
    done = host.run(command.format(far=far.name))
    assert done.rc == 2 and words.format(peers=peers) in done.stderr, done.stderr


@pytest.mark.writes
def test_refuses_names_that_would_be_something_else_there(host, far):
    host.check_output("touch '/var/tmp/lsst test'")
    done = host.run(f"dtn-send '/var/tmp/lsst test' {far.name}")
    host.check_output("rm '/var/tmp/lsst test'")
    assert "has the name 'lsst test'. Allowed: letters, digits and" in done.stderr


@contextmanager
def slow(host, rate: str):
    """The host's card sends at ``rate`` only."""
    host.check_output(f"tc qdisc add dev eth0 root tbf rate {rate} burst 256kb latency 50ms")
    try:
        yield
    finally:
        host.run("tc qdisc del dev eth0 root")


# To the node with the larger disk.
@pytest.mark.where(lambda machine: machine.name == "dtn-far")
@pytest.mark.disturbs
def test_a_killed_sender_goes_on_where_it_stood(host, far, file):
    """Killed outright half-way, the command started anew sends the rest: all in all little more than the file."""
    size = 160 * MIB
    assert host.exists("dtn-send")
    path = file(size)
    part = f"{far.directory}/.{Path(path).name}.part"
    sent = "cat /sys/class/net/eth0/statistics/tx_bytes"
    before = int(host.check_output(sent))
    with slow(host, "640mbit"):
        host.check_output(f"systemd-run --quiet --collect --unit lsst-test-send dtn-send {path} {far.name}")
        wait_for(lambda: far.host.file(part).exists and far.host.file(part).size > size / 2, 30, "half of it arrives")
        host.check_output("systemctl kill --signal KILL lsst-test-send")
        assert not far.host.file(f"{far.directory}/{Path(path).name}").exists
        wait_for(lambda: host.run("systemctl is-active lsst-test-send").rc, 60, "the sender is gone")
        done = host.run(f"dtn-send {path} {far.name}")
    assert done.rc == 0, done.stdout + done.stderr
    assert digest(far.host, f"{far.directory}/{Path(path).name}") == digest(host, path)
    assert size < int(host.check_output(sent)) - before < 1.15 * size


@pytest.mark.where(lambda machine: machine.name == "dtn-far")
@pytest.mark.disturbs
def test_a_killed_rsync_goes_on_where_it_stood(host, far, file, partner):
    """As a partner who lost the line does it: the same command once more."""
    size = 80 * MIB
    assert partner.rsync(file(10)).rc == 0
    path = file(size)
    name = Path(path).name
    part, command = f"{far.directory}/.~tmp~/{name}", partner.command(f"--delay-updates {path}")
    sent = "cat /sys/class/net/eth0/statistics/tx_bytes"
    before = int(host.check_output(sent))
    with slow(host, "320mbit"):
        host.check_output(f"systemd-run --quiet --collect --unit lsst-test-rsync {command}")
        under_way = f"stat --format %s {far.directory}/.{name}.*"
        wait_for(lambda: int(far.host.run(under_way).stdout or 0) > size / 2, 30, "half of it arrives")
        host.check_output("systemctl kill --signal KILL lsst-test-rsync")
        wait_for(lambda: far.host.file(part).exists, 30, "what came of it is kept")
        assert not far.host.file(f"{far.directory}/{name}").exists
        done = host.run(command)
    assert done.rc == 0, done.stderr
    assert digest(far.host, f"{far.directory}/{name}") == digest(host, path)
    assert size < int(host.check_output(sent)) - before < 1.15 * size


@pytest.mark.where(lambda machine: machine.name == "dtn-far")
@pytest.mark.disturbs
def test_a_wrong_part_is_not_taken_for_the_file(host, far, file):
    """What lies there under the temporary name is of another file, and longer."""
    path = file(20 * MIB)
    part = f"{far.directory}/.{Path(path).name}.part"
    far.host.check_output(f"runuser -u dtn -- head -c {30 * MIB} /dev/zero >{part}; chown dtn:dtn {part}")
    assert host.run(f"dtn-send {path} {far.name}").rc == 0
    assert digest(far.host, f"{far.directory}/{Path(path).name}") == digest(host, path)


# To the node with the small disk.
@pytest.mark.where(lambda machine: machine.name == "dtn-near")
@pytest.mark.disturbs
def test_a_full_receiver_loses_nothing(host, far, file):
    """The file stays in the queue, the journal says why, and it goes when there is room again."""
    free = int(far.host.check_output("df --output=avail --block-size=1 /srv/dtn | tail -n 1"))
    try:
        far.host.check_output(f"fallocate -l {free - 8 * MIB} /srv/dtn/lsst-test-ballast")
        path = file(20 * MIB, f"{SPOOL}/{far.name}")
        wanted = digest(host, path)
        why = "no space left on device.*; it stays in the queue"
        wait_for(lambda: re.search(why, journal(host, "dtn-queue", Path(path).name)), 30, "the queue says why")
        assert digest(host, path) == wanted
    finally:
        far.host.check_output("rm --force /srv/dtn/lsst-test-ballast")
    wait_for(lambda: not host.file(path).exists, 30, "the queue empties")
    assert digest(far.host, f"{far.directory}/{Path(path).name}") == wanted


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
def test_a_missing_certificate_is_named(host, far, file):
    assert host.run(f"dtn-send {file(10)} {far.name}").rc == 0
    host.check_output("mv /etc/lsst/tls/host.key /etc/lsst/tls/away")
    try:
        done = host.run(f"dtn-send {file(10)} {far.name}")
    finally:
        host.check_output("mv /etc/lsst/tls/away /etc/lsst/tls/host.key")
    assert "/etc/lsst/tls/host.key cannot be read. Allowed: root or a member of ssl-cert, once there is a certificate. Run:" in done.stderr


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
def test_a_name_that_is_no_directory_is_refused(host, apply):
    before = host.check_output("sha256sum /etc/lsst/dtn/authdb")
    done = apply(dtn_peers=[{"name": "../etc", "host": "dtn-near.test"}])
    words = " ".join(done.stdout.split())
    assert done.returncode != 0 and "dtn_peers ../etc" in words, words
    assert "Allowed: names of a-z, 0-9 and -" in words and "Edit inventories/production/group_vars/dtn/dtn.yml" in words
    assert host.check_output("sha256sum /etc/lsst/dtn/authdb") == before
