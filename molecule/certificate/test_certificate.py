"""certificate, as a TLS client of the host meets it: real handshakes, and the judgement of the openssl command."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

TLS = "/etc/lsst/tls"
# Anchored at nothing but the root.
VERIFY = f"openssl verify -no-CApath -no-CAstore -CAfile {TLS}/root.crt -untrusted {TLS}/chain.crt -CRLfile {TLS}/ca.crl -crl_check"

# On the host: a server with the host's key against a client that expects NAME; prints how that ends for the client.
HANDSHAKE = """
import socket, ssl, sys, threading
name, trust = sys.argv[1:]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("/etc/lsst/tls/host.crt", "/etc/lsst/tls/host.key")
client = ssl.create_default_context() if trust == "system" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ours, theirs = socket.socketpair()
def serve():
    try:
        server.wrap_socket(theirs, server_side=True).unwrap()
    except OSError:
        theirs.close()
threading.Thread(target=serve, daemon=True).start()
try:
    with client.wrap_socket(ours, server_hostname=name) as connection:
        print("accepted", connection.version())
except ssl.SSLCertVerificationError as error:
    print(error.verify_message)
"""


def handshake(host, name: str, trust: str = "system") -> str:
    """``accepted`` and the version, or why a client that expects ``name`` refuses the host. ``trust``: whom it trusts, system or nobody."""
    done = host.run("python3 -c %s %s %s", HANDSHAKE, name, trust)
    assert done.rc == 0, done.stderr
    return done.stdout.strip()


def serial(host) -> str:
    """Serial number of the host's certificate, as certificate_revoked takes it."""
    return host.check_output(f"openssl x509 -in {TLS}/host.crt -noout -serial").partition("=")[2]


def ends(host, what: str, option: str) -> datetime:
    """When the certificate (x509) or the revocation list (crl) ends."""
    name = {"x509": "host.crt", "crl": "ca.crl"}[what]
    return datetime.fromisoformat(host.check_output(f"openssl {what} -in {TLS}/{name} -noout {option} -dateopt iso_8601").partition("=")[2])


@pytest.mark.reads
def test_a_client_that_trusts_the_root_accepts_every_name(host, settings):
    """The client is any program of the host itself: the root is in the system's store, and the server sends the site CA along."""
    for name in settings["certificate_names"]:
        assert handshake(host, name).startswith("accepted TLSv1.3")


@pytest.mark.reads
def test_a_client_refuses_another_name(host):
    assert "Hostname mismatch" in handshake(host, "somebody-else.lsst.internal")


@pytest.mark.reads
def test_a_client_that_does_not_trust_the_root_refuses(host, settings):
    assert "unable to get local issuer certificate" in handshake(host, settings["certificate_names"][0], trust="nobody")


@pytest.mark.reads
def test_chain_and_revocation_list_verify_to_the_root(host):
    for purpose in ("sslserver", "sslclient"):
        assert host.check_output(f"{VERIFY} -purpose {purpose} {TLS}/host.crt") == f"{TLS}/host.crt: OK"


@pytest.mark.reads
def test_certificate_and_list_end_in_due_time(host, settings):
    now = datetime.now(UTC)
    for end in (ends(host, "x509", "-enddate"), ends(host, "crl", "-nextupdate")):
        assert timedelta(days=settings["certificate_renew_days"]) < end - now <= timedelta(days=settings["certificate_days"])


@pytest.mark.reads
def test_the_list_revokes_what_it_is_to_revoke(host, settings):
    text = host.check_output(f"openssl crl -in {TLS}/ca.crl -noout -text")
    assert set(re.findall(r"Serial Number: (\w+)", text)) == {number.upper() for number in settings["certificate_revoked"]}


@pytest.mark.reads
def test_the_key_is_for_few_and_of_the_right_kind(host, settings):
    """No leftover of an interrupted run lies beside it either."""
    key = host.file(f"{TLS}/host.key")
    assert (key.user, key.group, key.mode) == ("root", "ssl-cert", 0o640)
    assert host.run(f"runuser -u nobody -- cat {TLS}/host.key").rc == 1
    kind = {"ec-p256": "(256 bit)", "ec-p384": "(384 bit)", "rsa-3072": "(3072 bit"}[settings["certificate_key_algorithm"]]
    assert kind in host.check_output(f"openssl pkey -in {TLS}/host.key -noout -text_pub")
    assert sorted(host.file(TLS).listdir()) == ["ca.crl", "chain.crt", "host.crt", "host.key", "root.crt"]


@pytest.mark.disturbs
def test_a_revoked_and_an_ending_certificate_are_replaced(host, apply, settings):
    """The host's own is revoked, and what takes its place lives too short: the next ordinary run replaces that again, and its key."""
    name, old, copy = settings["certificate_names"][0], serial(host), "/tmp/lsst-revoked.crt"
    host.check_output(f"cp {TLS}/host.crt {copy}")
    try:
        done = apply(certificate_revoked=[*settings["certificate_revoked"], old], certificate_days=2, certificate_renew_days=1)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "certificate revoked" in host.run(f"{VERIFY} {copy}").stderr
        assert host.check_output(f"{VERIFY} {TLS}/host.crt") == f"{TLS}/host.crt: OK"
        assert handshake(host, name).startswith("accepted")
        short, key = serial(host), host.file(f"{TLS}/host.key").sha256sum
        assert short != old
        assert ends(host, "x509", "-enddate") - datetime.now(UTC) < timedelta(days=2)
    finally:
        host.check_output(f"rm {copy}")
        again = apply()
    assert again.returncode == 0, again.stdout + again.stderr
    assert serial(host) != short
    assert host.file(f"{TLS}/host.key").sha256sum != key
    assert ends(host, "x509", "-enddate") - datetime.now(UTC) > timedelta(days=settings["certificate_renew_days"])
    assert handshake(host, name).startswith("accepted")
