"""What is due on a host and what is signed then: rules as rows, results judged by the openssl command."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import timedelta

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils import authority as tls
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

DAY = timedelta(days=1)
POLICY = tls.read_policy(["base-dtn01.base.lsst.internal", "10.64.16.21"], "ec-p256", 90, 30, [])


def ask(key, name: str = "mallory.example") -> str:
    """A request (PEM) for a name that the host would like to have."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return tls.pem(x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256()))


@pytest.fixture
def key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def issued(authority, key, now):
    return tls.issue(authority, ask(key), POLICY, now)


def openssl(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("policy", "after", "reason"),
    [
        ({}, 0, ""),
        ({}, 59, ""),
        ({}, 61, "less than 30 days away"),
        ({}, 91, "less than 30 days away"),
        ({"days": 60}, 0, "more than 60 days away"),
        (
            {"names": ("other.lsst.internal", "10.64.16.21")},
            0,
            "is for 10.64.16.21, base-dtn01.base.lsst.internal, not for other.lsst.internal",
        ),
        ({"names": (*POLICY.names, "extra.lsst.internal")}, 0, "is for"),
        ({"names": tuple(reversed(POLICY.names))}, 0, "is for"),
        ({"key_algorithm": "rsa-3072"}, 0, "has a key of ec-p256, not rsa-3072"),
    ],
)
def test_a_certificate_is_due(authority, key, issued, now, policy, after, reason):
    found = tls.certificate_due(tls.pem(issued), tls.public_pem(key.public_key()), authority, replace(POLICY, **policy), now + after * DAY)
    assert reason in found
    assert bool(reason) == bool(found)


def test_a_certificate_is_due_when_something_else_lies_there(authority, key, issued, now, root, make_ca):
    public = tls.public_pem(key.public_key())
    other = make_ca("other", root)
    other = tls.Authority(root.certificate, other.certificate, other.key)
    assert tls.certificate_due("", "", authority, POLICY, now) == "is missing"
    assert tls.certificate_due("junk", public, authority, POLICY, now) == "is no certificate"
    assert tls.certificate_due(tls.pem(issued), "", authority, POLICY, now) == "has no private key that can be read"
    stranger = tls.public_pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    assert tls.certificate_due(tls.pem(issued), stranger, authority, POLICY, now) == "belongs to another private key"
    assert "is signed by CN=lsst-base, not by the CA CN=other" in tls.certificate_due(tls.pem(issued), public, other, POLICY, now)
    revoked = replace(POLICY, revoked=frozenset({issued.serial_number}))
    assert "is revoked" in tls.certificate_due(tls.pem(issued), public, authority, revoked, now)


def test_a_host_does_not_choose_its_names(issued):
    assert tls.certificate_names(issued) == set(POLICY.names)
    assert issued.subject.rfc4514_string() == "CN=base-dtn01.base.lsst.internal"


def test_only_an_honest_request_of_the_right_kind_is_signed(authority, key, now):
    request = ask(key)
    middle = request.index("\n") + 200
    forged = request[:middle] + ("A" if request[middle] != "A" else "B") + request[middle + 1 :]
    for bad in (forged, ask(rsa.generate_private_key(65537, 2048)), "junk"):
        with pytest.raises(tls.AuthorityError, match="not signed by a key of ec-p256"):
            tls.issue(authority, bad, POLICY, now)


def test_nothing_outlives_the_ca_and_that_is_no_reason_to_renew_for_ever(root, make_ca, key, now):
    ending = make_ca("lsst-ending", root, days=10)
    ending = tls.Authority(root.certificate, ending.certificate, ending.key)
    certificate = tls.issue(ending, ask(key), POLICY, now)
    assert certificate.not_valid_after_utc == ending.ca.not_valid_after_utc
    assert tls.certificate_due(tls.pem(certificate), tls.public_pem(key.public_key()), ending, POLICY, now) == ""
    assert tls.crl_due(tls.revoke(ending, POLICY, now), ending, POLICY, now) == ""


@pytest.mark.parametrize(
    ("policy", "after", "reason"),
    [
        ({}, 0, ""),
        ({}, 61, "less than 30 days away"),
        ({"days": 60}, 0, "more than 60 days away"),
        ({"revoked": frozenset({0xABCDEF0123456789})}, 0, "revokes 0 certificates, not the 1"),
    ],
)
def test_a_list_is_due(authority, now, policy, after, reason):
    found = tls.crl_due(tls.revoke(authority, POLICY, now), authority, replace(POLICY, **policy), now + after * DAY)
    assert reason in found
    assert bool(reason) == bool(found)


def test_a_list_is_due_when_something_else_lies_there(authority, now, root, make_ca):
    other = make_ca("lsst-base", root)
    forged = tls.revoke(tls.Authority(root.certificate, other.certificate, other.key), POLICY, now)
    assert tls.crl_due("", authority, POLICY, now) == "is missing"
    assert tls.crl_due("junk", authority, POLICY, now) == "is no revocation list"
    assert "is signed by" in tls.crl_due(forged, authority, POLICY, now)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_openssl_agrees(tmp_path, root, make_ca, key, now, kind):
    """Chain, names, purpose and revocation, judged by another implementation; also for a CA with an RSA key."""
    ca = make_ca("lsst-site", root, kind=kind)
    authority = tls.Authority(root.certificate, ca.certificate, ca.key)
    good, bad = (tls.issue(authority, ask(key), POLICY, now) for _ in range(2))
    revoking = replace(POLICY, revoked=frozenset({bad.serial_number}))
    for name, text in {
        "root": root.text,
        "chain": ca.text,
        "good": tls.pem(good),
        "bad": tls.pem(bad),
        "crl": tls.revoke(authority, revoking, now),
    }.items():
        (tmp_path / name).write_text(text)
    verify = [
        "verify",
        "-x509_strict",
        "-CAfile",
        f"{tmp_path}/root",
        "-untrusted",
        f"{tmp_path}/chain",
        "-CRLfile",
        f"{tmp_path}/crl",
        "-crl_check",
    ]
    for purpose in ("sslserver", "sslclient"):
        assert openssl(*verify, "-purpose", purpose, "-verify_hostname", POLICY.names[0], f"{tmp_path}/good").returncode == 0
    assert openssl(*verify, "-verify_ip", "10.64.16.21", f"{tmp_path}/good").returncode == 0
    assert "hostname mismatch" in openssl(*verify, "-verify_hostname", "mallory.example", f"{tmp_path}/good").stderr
    assert "certificate revoked" in openssl(*verify, f"{tmp_path}/bad").stderr


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": []}, "names is empty"),
        ({"names": ["Base-DTN01"]}, "names has 'Base-DTN01'. Allowed are DNS names in lower case"),
        ({"names": ["under_score.lsst.internal"]}, "Allowed are DNS names"),
        ({"names": ["a.lsst.internal", "10.64.16.021"]}, "names has '10.64.16.021'"),
        ({"names": ["10.64.16.21"]}, "Allowed as first one is a DNS name"),
        ({"names": ["x" * 60 + ".lsst"]}, "at most 64 characters"),
        ({"renew_days": 90}, "renew_days is 90 and days is 90. Allowed is a renew_days of at least 1 that is smaller"),
        ({"renew_days": 0}, "Allowed is a renew_days"),
        ({"revoked": ["1234"]}, "revoked has '1234'. Allowed are serial numbers"),
        ({"revoked": ["6.02e23"]}, "Allowed are serial numbers"),
    ],
)
def test_a_bad_policy_is_refused(values, message):
    given = {"names": ["a.lsst.internal"], "key_algorithm": "ec-p256", "days": 90, "renew_days": 30, "revoked": []} | values
    with pytest.raises(tls.AuthorityError, match=message.replace(".", r"\.")):
        tls.read_policy(**given)


def test_a_bad_authority_is_refused(root, site, make_ca, now):
    def refused(message: str, **values: str) -> str:
        given = {"root": root.text, "ca": site.text, "ca_key": site.key_text} | values
        with pytest.raises(tls.AuthorityError, match=message) as caught:
            tls.read_authority(given["root"], given["ca"], given["ca_key"], now)
        assert "Allowed is" in str(caught.value)
        return str(caught.value)

    stranger, other_root = make_ca("lsst-summit", root), make_ca("lsst-root")
    message = refused(r"ca_key is not the key of ca \(CN=lsst-base\)", ca_key=stranger.key_text)
    assert stranger.key_text.splitlines()[1] not in message
    message = refused("ca_key cannot be read", ca_key=site.key_text.replace("A", "?"))
    assert "?" not in message
    refused("ca begins with '-----BEGIN PRIVATE", ca=site.key_text)
    refused("ca begins with ''", ca="")
    refused("ca begins with", ca=site.text + root.text)
    refused("root begins with 'nonsense'", root="nonsense")
    refused(r"ca \(CN=lsst-base\) is not signed by root", root=other_root.text)
    plain = make_ca("lsst-host", root, is_ca=False)
    refused("may not sign", ca=plain.text, ca_key=plain.key_text)
    old = make_ca("lsst-old", root, days=-0.5)
    refused("ended at", ca=old.text, ca_key=old.key_text)
    assert tls.read_authority(root.text, site.text, site.key_text, now).ca == site.certificate
