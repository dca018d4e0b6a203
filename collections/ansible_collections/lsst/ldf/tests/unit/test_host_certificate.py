"""lsst.ldf.host_certificate on a directory in place of a host: trips, repairs, interruptions, and where the keys are.

Files are given to root, so these tests want root, as set-up does.
"""

from __future__ import annotations

import json
import ssl
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from ansible_collections.lsst.ldf.plugins.action import host_certificate as action
from ansible_collections.lsst.ldf.plugins.module_utils import authority as tls
from ansible_collections.lsst.ldf.plugins.modules import host_certificate as module


class Host:
    """A directory that the module's steps work on, and what was sent to it. ``dies_at``: a step that is never reached."""

    def __init__(self, directory, root, site):
        self.directory, self.sent, self.dies_at = directory, [], None
        self.options = {"names": ["a.lsst.internal"], "root": root.text, "ca": site.text, "ca_key": site.key_text}
        self.options |= {"directory": str(directory), "group": "root", "trust": False}

    def run(self, check_mode: bool = False, **options):
        """A run of the task; returns its result. ``trips`` counts what it sent."""
        task = SimpleNamespace(
            args=self.options | options,
            async_val=0,
            check_mode=check_mode,
            _role=None,
            get_path=lambda: "site.yml:1",
            diff=True,
            action="x",
        )
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        acting = action.ActionModule(task, connection, None, None, None, None)
        acting._execute_module = self.step
        self.sent = []
        return acting.run(None, {"inventory_hostname": "a"})

    def step(self, module_name, module_args, task_vars):
        assert module_name == "lsst.ldf.host_certificate"
        self.sent.append(module_args)
        assert set(module_args) <= set(module.SPEC)
        if module_args["step"] == self.dies_at:
            raise KeyboardInterrupt
        given = {key: value.get("default") for key, value in module.SPEC.items()} | module_args
        if given["step"] == "report":
            return module.report(self.directory, given["group"], given["root"], given["trust"])
        if given["step"] == "request":
            return {"request": module.request(self.directory, given["key_algorithm"], given["names"][0])}
        module.install(self.directory, given["group"], given["texts"], given["new_key"])
        return {}

    @property
    def trips(self):
        return [sent["step"] for sent in self.sent]

    def state(self):
        """Content, access and time of change of every file."""
        return {path.name: (path.read_bytes(), module.access(path), path.stat().st_ctime_ns) for path in self.directory.glob("*")}


@pytest.fixture
def bare(tmp_path, root, site):
    return Host(tmp_path / "tls", root, site)


@pytest.fixture
def host(bare):
    """A host that has its certificate."""
    assert bare.run()["changed"]
    return bare


def serial(host) -> int:
    return tls.first_certificate((host.directory / "host.crt").read_text()).serial_number


def test_a_bare_host_gets_everything(bare):
    result = bare.run()
    assert bare.trips == ["report", "request", "install"]
    assert result["due"] == [f"{name}: is missing" for name in ("host.crt", "ca.crl", "chain.crt", "root.crt")]
    assert {path.name: module.access(path) for path in bare.directory.iterdir()} == {
        "host.key": "root:root 0640",
        **dict.fromkeys(("host.crt", "chain.crt", "root.crt", "ca.crl"), "root:root 0644"),
    }
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bare.directory / "host.crt", bare.directory / "host.key")
    assert int(result["serial"], 16) == serial(bare)


def test_nothing_due_is_one_trip_and_touches_nothing(host):
    before = host.state()
    result = host.run()
    assert (result["changed"], result["due"], host.trips) == (False, [], ["report"])
    assert host.state() == before


def test_check_mode_tells_and_does_nothing(bare):
    result = bare.run(check_mode=True)
    assert result["changed"]
    assert bare.trips == ["report"]
    assert not bare.directory.exists()
    bare.run()
    assert not bare.run(check_mode=True)["changed"]
    before = bare.state()
    result = bare.run(check_mode=True, names=["b.lsst.internal"])
    assert result["due"] == ["host.crt: is for a.lsst.internal, not for b.lsst.internal"]
    assert "until" in result["diff"][0]["after"]
    assert bare.state() == before


def test_no_private_key_travels(bare, site):
    """The CA's key is in nothing that is sent or shown, and the host's is in nothing that comes back."""
    answers = []
    step = bare.step
    bare.step = lambda **sent: answers.append(step(**sent)) or answers[-1]
    result = bare.run()
    secrets = [line for text in (site.key_text, (bare.directory / "host.key").read_text()) for line in text.splitlines()[1:-1]]
    everything = json.dumps([bare.sent, answers, result])
    assert "BEGIN CERTIFICATE" in everything
    assert not [line for line in secrets if line in everything]
    assert "PRIVATE KEY" not in everything


@pytest.mark.parametrize("step", ["request", "install"])
def test_a_killed_run_is_completed_by_the_next(bare, step):
    bare.dies_at = step
    with pytest.raises(KeyboardInterrupt):
        bare.run()
    bare.dies_at = None
    assert bare.run()["changed"]
    assert not bare.run()["changed"]
    assert sorted(path.name for path in bare.directory.iterdir()) == sorted(set(module.MODES) - {"."})


def test_killed_between_key_and_certificate(host):
    """The key is the new one, the certificate the old one: another pair is made."""
    module.request(host.directory, "ec-p256", "a.lsst.internal")
    (host.directory / module.NEW_KEY).replace(host.directory / "host.key")
    (host.directory / "host.key").chmod(0o640)
    assert host.run()["due"] == ["host.crt: belongs to another private key"]
    assert not host.run()["changed"]


def test_renewal_replaces_certificate_and_key(host, monkeypatch):
    old, key = serial(host), (host.directory / "host.key").read_bytes()

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=61)

    monkeypatch.setattr(action, "datetime", Later)
    result = host.run()
    assert [line.split(" at ")[0] for line in result["due"]] == ["host.crt: ends", "ca.crl: ends"]
    assert serial(host) != old
    assert (host.directory / "host.key").read_bytes() != key
    assert not host.run()["changed"]


def test_a_revoked_host_gets_another_certificate(host):
    old = f"{serial(host):X}"
    result = host.run(revoked=[old])
    assert result["due"] == [f"host.crt: is revoked (serial {old.lower()})", "ca.crl: revokes 0 certificates, not the 1 that are to be"]
    assert not host.run(revoked=[old])["changed"]


def test_someone_elses_revocation_replaces_the_list_alone(host):
    before = host.state()
    host.run(revoked=["0123456789abcdef0123"])
    after = host.state()
    assert [name for name in before if before[name] != after[name]] == ["ca.crl"]


def test_drift_is_told_and_repaired(host):
    (host.directory / "host.key").chmod(0o644)
    (host.directory / "root.crt").unlink()
    (host.directory / "chain.crt").write_text("junk")
    before = serial(host)
    assert host.run()["due"] == ["chain.crt: is another", "root.crt: is missing", "host.key: is root:root 0644, not root:root 0640"]
    assert serial(host) == before
    assert not host.run()["changed"]


@pytest.mark.parametrize("algorithm", ["ec-p384", "rsa-3072"])
def test_another_key_algorithm(host, algorithm):
    assert "has a key of ec-p256" in host.run(key_algorithm=algorithm)["due"][0]
    assert not host.run(key_algorithm=algorithm)["changed"]


def test_a_ca_certificate_made_anew_for_the_same_key_changes_the_chain_only(host, site, root, make_ca):
    builder = make_ca("lsst-base", root, days=500)
    again = tls.x509.CertificateBuilder(
        issuer_name=root.certificate.subject,
        subject_name=site.certificate.subject,
        public_key=site.key.public_key(),
        serial_number=7,
        not_valid_before=builder.certificate.not_valid_before_utc,
        not_valid_after=builder.certificate.not_valid_after_utc,
        extensions=[e for e in site.certificate.extensions],
    ).sign(root.key, tls.hashes.SHA256())
    before = serial(host)
    assert host.run(ca=tls.pem(again))["due"] == ["chain.crt: is another", "host.crt: is another"]
    assert serial(host) == before
    assert not host.run(ca=tls.pem(again))["changed"]


def test_another_ca_replaces_everything_it_signed(host, root, make_ca):
    other = make_ca("lsst-other", root)
    due = host.run(ca=other.text, ca_key=other.key_text)["due"]
    assert [line.split(":")[0] for line in due] == ["host.crt", "ca.crl", "chain.crt"]
    assert not host.run(ca=other.text, ca_key=other.key_text)["changed"]


def test_a_bad_value_is_refused_in_three_parts_before_any_trip(bare, site, root, make_ca):
    stranger = make_ca("lsst-summit", root)
    result = bare.run(ca_key=stranger.key_text)
    assert result["failed"]
    assert bare.trips == []
    assert result["msg"] == (
        "ca_key is not the key of ca (CN=lsst-base). Allowed is the private key whose public key that certificate holds. Edit site.yml:1."
    )


def test_a_group_that_is_not_there(bare):
    with pytest.raises(module.StepError, match="group 'nobody-has-it' is not on this host"):
        bare.run(group="nobody-has-it")


def test_a_host_without_openssl_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(module.StepError, match="openssl is not on this host"):
        module.request(tmp_path, "ec-p256", "a")
