"""When a host needs another ssh certificate, and that OpenSSH reads what is signed."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import ssh_certificate as sc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

NOW = datetime.now(UTC)
CA, OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))), ec.generate_private_key(ec.SECP256R1())
# Not random: it stands in the names of tests, which parallel workers compare.
KEY = sc.line(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()).decode()
POLICY = sc.read_policy(["base-dtn01.base.lsst.internal", "10.64.16.149"], days=365, renew_days=90)


def days(number: float) -> datetime:
    return NOW + timedelta(days=number)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (sc.sign(KEY, CA, POLICY, NOW), None),
        (sc.sign(KEY, CA, sc.read_policy(POLICY.principals[::-1], 365, 90), NOW), None),
        (sc.sign(KEY, CA, POLICY, days(-274)), None),
        (sc.sign(KEY, CA, POLICY, days(-276)), "it ends at "),
        (sc.sign(KEY, CA, POLICY, days(-400)), "it ends at "),
        (sc.sign(KEY, CA, POLICY, days(1)), "it is not valid before "),
        ("", "there is none"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA\n", "it cannot be read"),
        (KEY, "it is no host's certificate"),
        (sc.sign(KEY, OTHER, POLICY, NOW), "it is from another authority"),
        (sc.sign(sc.line(OTHER.public_key()).decode(), CA, POLICY, NOW), "it is for another key"),
        (sc.sign(KEY, CA, sc.read_policy(["base-dtn02"], 365, 90), NOW), "it is for base-dtn02"),
    ],
)
def test_due(certificate, reason):
    found = sc.due(certificate, KEY, CA, POLICY, NOW)
    assert found == reason or found.startswith(reason)


def test_openssh_reads_it(tmp_path):
    (tmp_path / "host-cert.pub").write_text(sc.sign(KEY, CA, POLICY, NOW))
    shown = subprocess.run(["ssh-keygen", "-L", "-f", str(tmp_path / "host-cert.pub")], capture_output=True, text=True, check=True).stdout
    for words in ("host certificate", 'Key ID: "base-dtn01.base.lsst.internal"', "10.64.16.149", "Valid: from", "Critical Options: (none)"):
        assert words in shown


@pytest.mark.parametrize(
    ("principals", "life", "renewal", "message"),
    [
        ([], 365, 90, "The certificate is for nobody: .* Allowed: the host's names and addresses"),
        (["x"], 30, 30, "A certificate of 30 days is to be renewed 30 days before its end. Allowed: 0 < renewal < days"),
        (["x"], 30, 0, "renewed 0 days before"),
    ],
)
def test_a_policy_without_sense_is_refused(principals, life, renewal, message):
    with pytest.raises(sc.CertificateError, match=message):
        sc.read_policy(principals, life, renewal)


def private_text(password: bytes | None) -> str:
    cipher = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return CA.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, cipher).decode()


@pytest.mark.parametrize("text", [private_text(None), private_text(None).strip(), "\n" + private_text(None)])
def test_a_key_is_read_whatever_yaml_did_to_its_ends(text):
    assert sc.line(sc.read_ca_key(text).public_key()) == sc.line(CA.public_key())


@pytest.mark.parametrize("text", ["", "s3cret", private_text(b"s3cret"), KEY])
def test_what_is_no_key_is_refused_and_not_shown(text):
    with pytest.raises(sc.CertificateError, match="Allowed: an OpenSSH private key without a passphrase") as refusal:
        sc.read_ca_key(text)
    assert not text or text not in str(refusal.value)
