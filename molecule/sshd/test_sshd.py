"""sshd, asked from outside by two clients that share no code with it: paramiko, and OpenSSH's own for what paramiko does not know."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization

TOP = Path(__file__).parents[2]

# What may be offered at all; anything else is a step back.
STRONG = {
    "kex": {"mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com"}
    | {"curve25519-sha256", "curve25519-sha256@libssh.org"},
    "host key": {"ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"},
    "cipher": {"chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr"},
    "mac": {"hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com"},
}
# No algorithms, but how the two sides agree on extensions of the protocol.
MARKERS = {"ext-info-s", "kex-strict-s-v00@openssh.com"}


def connect(address: str, port: int, timeout: float = 5) -> socket.socket:
    """A TCP connection to sshd."""
    return socket.create_connection((address, port), timeout)


@pytest.fixture
def address(host, settings) -> str:
    """The first of the host's addresses on which its sshd answers from here."""
    known = host.check_output("hostname --all-ip-addresses").split() + [word for word in settings["sshd_principals"] if is_address(word)]
    return reachable(tuple(dict.fromkeys(known)), settings["sshd_ports"][0])


@cache
def reachable(addresses: tuple[str, ...], port: int) -> str:
    """The first of ``addresses`` that accepts a connection."""
    for candidate in addresses:
        with suppress(OSError), closing(connect(candidate, port, timeout=2)):
            return candidate
    pytest.fail(f"sshd answers on none of {', '.join(addresses)}, port {port}")


def is_address(word: str) -> bool:
    """Whether a principal is an address."""
    try:
        return bool(IPv4Address(word))
    except AddressValueError:
        return False


@dataclass(frozen=True)
class Authorities:
    """Where the private keys are; known of a scenario's and of the lab's throw-away authorities only."""

    directory: Path

    def certify(self, tmp_path: Path, principal: str, life: str = "-5m:+5m", authority: str | None = None) -> paramiko.PKey:
        """A new person's key with a certificate for ``principal``; ``authority``: the signing key, the right one if not given."""
        key = tmp_path / f"{principal}{life}".replace(":", "")
        generate(key)
        ca = authority or str(self.directory / "ssh-user-ca")
        run("ssh-keygen", "-q", "-s", ca, "-I", "test.person", "-n", principal, "-V", life, f"{key}.pub")
        return load(key)


@pytest.fixture
def authorities(settings) -> Authorities:
    """The throw-away authorities that the host under test trusts."""
    scenario = os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY")
    directory = Path(scenario) / "secrets" if scenario else Path(os.environ.get("LSST_LAB_STATE", TOP / ".cache/lab")) / "secrets"
    trusted = (directory / "ssh-user-ca.pub").read_text().split()[1] in settings["sshd_user_ca"]
    assert trusted, f"the host does not trust the authority in {directory}"
    return Authorities(directory)


def run(*command: str) -> str:
    """What ``command`` printed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def generate(path: Path) -> None:
    """A new key at ``path`` without a passphrase."""
    if not path.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))


def load(path: Path) -> paramiko.PKey:
    """A key, with its certificate if there is one beside it."""
    key = paramiko.Ed25519Key.from_private_key_file(str(path))
    if (certificate := path.with_name(f"{path.name}-cert.pub")).exists():
        key.load_certificate(str(certificate))
    return key


@contextmanager
def client(address: str, port: int) -> Iterator[paramiko.Transport]:
    """A client that is connected; ``start_client`` of these raises when a minute was not enough, its own timeout returns without a word."""
    with closing(paramiko.Transport(connect(address, port))) as transport:
        transport.banner_timeout = transport.handshake_timeout = 60
        yield transport


def log_in(address: str, port: int, user: str, key: paramiko.PKey) -> str | None:
    """Who a person is on the host after logging in with ``key``; None when refused."""
    with client(address, port) as transport:
        transport.start_client()
        try:
            transport.auth_publickey(user, key)
        except paramiko.AuthenticationException:
            return None
        channel = transport.open_session()
        channel.exec_command("id -un")
        return channel.makefile().read().decode().strip()


def offers(address: str, port: int) -> dict[str, set[str]]:
    """The algorithms in the server's first packet, by kind (RFC 4253 section 7.1)."""
    with closing(connect(address, port)) as connection, connection.makefile("rwb") as stream:
        stream.readline()
        stream.write(b"SSH-2.0-test\r\n")
        stream.flush()
        length, padding = int.from_bytes(stream.read(4), "big"), stream.read(1)[0]
        message = paramiko.Message(stream.read(length - 1 - padding))
    message.get_bytes(17)
    kex, host_key, cipher_in, cipher_out, mac_in, mac_out = (set(message.get_list()) for _ in range(6))
    return {"kex": kex - MARKERS, "host key": host_key, "cipher": cipher_in | cipher_out, "mac": mac_in | mac_out}


@pytest.mark.reads
def test_listens_on_its_ports_and_on_ipv4_only(host, settings):
    """Asked from the host itself: the firewall may open a port to somebody else only."""
    for port in settings["sshd_ports"]:
        assert host.run(f"timeout 5 bash -c 'read -r line </dev/tcp/127.0.0.1/{port}; echo $line'").stdout.startswith("SSH-2.0-OpenSSH")
        assert not host.socket(f"tcp://:::{port}").is_listening


@pytest.mark.reads
def test_offers_strong_algorithms_only(settings, address):
    offered = offers(address, settings["sshd_ports"][0])
    assert all(offered.values())
    assert [(kind, name) for kind, names in offered.items() for name in names - STRONG[kind]] == []


@pytest.mark.reads
@pytest.mark.parametrize(
    ("kind", "weak"),
    [("kex", "ecdh-sha2-nistp256"), ("digests", "hmac-sha1"), ("key_types", "rsa-sha2-256")],
)
def test_refuses_a_weak_client(settings, address, kind, weak):
    with client(address, settings["sshd_ports"][0]) as transport:
        setattr(transport.get_security_options(), kind, (weak,))
        if kind == "digests":
            transport.get_security_options().ciphers = ("aes256-ctr",)
        with pytest.raises(paramiko.SSHException, match="no acceptable"):
            transport.start_client()


@pytest.mark.reads
def test_refuses_passwords(settings, address):
    with client(address, settings["sshd_ports"][0]) as transport:
        transport.start_client()
        with pytest.raises(paramiko.BadAuthenticationType) as refusal:
            transport.auth_password("nobody", "guess")
    assert refusal.value.allowed_types == ["publickey"]


@pytest.mark.reads
def test_presents_a_certificate_for_its_names(settings, address):
    """paramiko knows no host certificates; ssh-keyscan prints what the host presents."""
    scanned = run("ssh-keyscan", "-c", "-t", "ed25519", "-p", str(settings["sshd_ports"][0]), address)
    certificate = serialization.load_ssh_public_identity(scanned[scanned.index("ssh-ed25519-cert-v01@openssh.com") :].encode())
    certificate.verify_cert_signature()
    assert certificate.type is serialization.SSHCertificateType.HOST
    assert sorted(name.decode() for name in certificate.valid_principals) == sorted(settings["sshd_principals"])
    left = datetime.fromtimestamp(certificate.valid_before) - datetime.now()
    assert left > timedelta(days=settings["sshd_certificate_renew_days"])


@pytest.mark.reads
@pytest.mark.invariant("a bare host knows no authority at all")
def test_refuses_the_certificate_of_a_stranger(settings, address, tmp_path):
    generate(tmp_path / "stranger")
    key = Authorities(tmp_path).certify(tmp_path, "ldfadmin", authority=str(tmp_path / "stranger"))
    assert log_in(address, settings["sshd_ports"][0], "ldfadmin", key) is None


@pytest.mark.writes
def test_admits_people_by_the_right_certificate_and_logs_their_name(host, machine, settings, address, authorities, tmp_path):
    """On all ports, but where a firewall may be, on the first one only, which is open to whoever drives the tests."""
    for port in settings["sshd_ports"] if machine.in_molecule else settings["sshd_ports"][:1]:
        assert log_in(address, port, "ldfadmin", authorities.certify(tmp_path, "ldfadmin")) == "ldfadmin"
    assert "ID test.person" in host.check_output("journalctl --unit ssh --output cat --lines 50")


@pytest.mark.writes
def test_refuses_every_other_certificate(settings, address, authorities, tmp_path):
    port = settings["sshd_ports"][0]
    assert log_in(address, port, "ldfadmin", authorities.certify(tmp_path, "ldfadmin")) == "ldfadmin"
    generate(tmp_path / "bare")
    refused = {
        "expired": ("ldfadmin", authorities.certify(tmp_path, "ldfadmin", life="-2h:-1h")),
        "not valid yet": ("ldfadmin", authorities.certify(tmp_path, "ldfadmin", life="+1h:+2h")),
        "for somebody else": ("ldfadmin", authorities.certify(tmp_path, "somebody")),
        "no certificate": ("ldfadmin", load(tmp_path / "bare")),
        "in no allowed group": ("outsider", authorities.certify(tmp_path, "outsider")),
    }
    assert {why: log_in(address, port, user, key) for why, (user, key) in refused.items()} == dict.fromkeys(refused)


@pytest.mark.writes
def test_admits_root_only_where_it_is_said(settings, address, authorities, tmp_path):
    allowed = settings["sshd_permit_root"] != "no"
    assert log_in(address, settings["sshd_ports"][0], "ldfadmin", authorities.certify(tmp_path, "ldfadmin")) == "ldfadmin"
    assert log_in(address, settings["sshd_ports"][0], "root", authorities.certify(tmp_path, "root")) == ("root" if allowed else None)


@pytest.mark.writes
def test_passes_connections_on_only_where_it_is_said(settings, address, authorities, tmp_path):
    with client(address, settings["sshd_ports"][0]) as transport:
        transport.start_client()
        transport.auth_publickey("ldfadmin", authorities.certify(tmp_path, "ldfadmin"))
        target = ("127.0.0.1", settings["sshd_ports"][0])
        if settings["sshd_forwarding"]:
            assert transport.open_channel("direct-tcpip", target, ("127.0.0.1", 0)).recv(8) == b"SSH-2.0-"
        else:
            with pytest.raises(paramiko.ChannelException, match="prohibited"):
                transport.open_channel("direct-tcpip", target, ("127.0.0.1", 0))


@pytest.mark.where(lambda machine: machine.in_molecule and machine.settings["sshd"]["sshd_service_users"])
@pytest.mark.writes
def test_admits_a_service_user_for_what_its_file_says(settings, address, authorities, tmp_path):
    """On a host that passes people's connections on; the user is also in the group that plain keys admit."""
    port, target = settings["sshd_ports"][0], ("127.0.0.1", settings["sshd_ports"][0])
    with client(address, port) as transport:
        transport.start_client()
        transport.auth_publickey("courier", authorities.certify(tmp_path, "parcels"))
        channel = transport.open_session()
        with pytest.raises(paramiko.SSHException):
            channel.get_pty()
        channel = transport.open_session()
        channel.exec_command("cat /etc/passwd")
        assert channel.makefile().read().decode().split("\n")[:2] == ["courier", "not a tty"]
        with pytest.raises(paramiko.ChannelException, match="prohibited"):
            transport.open_channel("direct-tcpip", target, ("127.0.0.1", 0))
    refused = {
        "its own name": ("courier", authorities.certify(tmp_path, "courier")),
        "a plain key": ("courier", paramiko.Ed25519Key.from_private_key_file(str(authorities.directory / "id"))),
        "somebody else's name": ("ldfadmin", authorities.certify(tmp_path, "parcels")),
    }
    assert {why: log_in(address, port, user, key) for why, (user, key) in refused.items()} == dict.fromkeys(refused)


# The scenario has a user for it.
@pytest.mark.where(lambda machine: machine.in_molecule)
@pytest.mark.writes
def test_breaks_glass_for_its_group_only(settings, address, authorities):
    """The scenario's break-glass key is the operator's, used here without its certificate."""
    key = paramiko.Ed25519Key.from_private_key_file(str(authorities.directory / "id"))
    port, expected = settings["sshd_ports"][0], "breakglass" if settings["sshd_break_glass_keys"] else None
    assert log_in(address, port, "ldfadmin", load(authorities.directory / "id")) == "ldfadmin"
    assert log_in(address, port, "breakglass", key) == expected
    assert log_in(address, port, "ldfadmin", key) is None


@pytest.mark.writes
def test_is_known_to_clients_by_its_authority(settings, address, authorities, tmp_path):
    """OpenSSH's client, which has nothing but the authority's public key, accepts the host under each of its names and under no other."""
    known = tmp_path / "known_hosts"
    known.write_text("@cert-authority * " + (authorities.directory / "ssh-host-ca.pub").read_text())
    options = [f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"]
    options += ["IdentityAgent=none", "BatchMode=yes", "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com"]

    def knows(name: str) -> bool:
        words = [word for option in [*options, f"HostKeyAlias={name}"] for word in ("-o", option)]
        port = str(settings["sshd_ports"][0])
        command = ["ssh", "-F", "none", *words, "-i", str(authorities.directory / "id"), "-p", port, f"ldfadmin@{address}", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert {name: knows(name) for name in settings["sshd_principals"]} == dict.fromkeys(settings["sshd_principals"], True)
    assert not knows("somewhere-else.lsst.internal")


@pytest.mark.where(lambda machine: not machine.settings["sshd"]["sshd_break_glass_keys"])
@pytest.mark.once
@pytest.mark.disturbs
def test_a_configuration_that_locks_ansible_out_is_taken_back(host, machine, apply, settings, address, authorities, tmp_path):
    """Over a connection that can be cut off: the run says what happened, and the host is as it was."""
    assert log_in(address, settings["sshd_ports"][0], "ldfadmin", load(authorities.directory / "id")) == "ldfadmin"
    before = host.check_output("sha256sum /etc/ssh/sshd_config")
    known = tmp_path / "known_hosts"
    known.write_text("@cert-authority * " + (authorities.directory / "ssh-host-ca.pub").read_text())
    variables = {
        "ansible_connection": "ansible.builtin.ssh",
        "ansible_host": address,
        "ansible_user": "ldfadmin",
        "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={known} -o HostKeyAlias={settings['sshd_principals'][0]}"
        f" -o IdentityFile={authorities.directory / 'id'} -o IdentitiesOnly=yes -o IdentityAgent=none",
        "ansible_control_path_dir": str(tmp_path),
        "ansible_timeout": 5,
        "sshd_allow_groups": ["nogroup"],
        "sshd_confirm_seconds": 5,
    }
    refused = apply(**variables)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    for words in (
        f"locked Ansible out of {machine.name}: no new connection within 5 s",
        f"{machine.name} has restored the old state by itself and answers again",
        "Correct inventories/production/group_vars/*/sshd.yml and run again",
    ):
        assert words in refused.stdout, refused.stdout
    assert host.check_output("sha256sum /etc/ssh/sshd_config") == before
    assert log_in(address, settings["sshd_ports"][0], "ldfadmin", load(authorities.directory / "id")) == "ldfadmin"
