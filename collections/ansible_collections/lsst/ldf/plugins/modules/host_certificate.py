#!/usr/bin/python
"""Give a host a TLS certificate of its site's CA; this is the host's half, in three steps."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_certificate
short_description: Give a host a TLS certificate of its site's CA
version_added: 0.1.0
description:
  - Keeps C(host.key), C(host.crt) (the certificate, then the site CA's), C(chain.crt) (the site CA's), C(root.crt) and C(ca.crl)
    in O(directory).
  - The private key is made on the host and never leaves it. The certificate and the revocation list are signed on the control side,
    and O(ca_key) never leaves that. The root's key is needed nowhere.
  - A certificate is replaced, always together with its key, when it is about to end, is revoked, is for other names, has a key of another
    algorithm or comes from another CA. A revocation list is replaced when it is about to end or is to hold other serials.
  - Files that are right are not touched, so M(lsst.ldf.unit) with C(restart_after) restarts exactly what uses a new one.
  - Nothing due costs one round trip. A run that is killed in between is completed by the next one.
options:
  names:
    description: DNS names and IP addresses of the certificate. The first one, a DNS name, is its common name too.
    type: list
    elements: str
    required: true
  ca:
    description: The site CA's certificate in PEM.
    type: str
    required: true
  ca_key:
    description: The site CA's private key in PEM. Used on the control side only.
    type: str
    required: true
  root:
    description: The root's certificate in PEM, which signed O(ca).
    type: str
    required: true
  key_algorithm:
    description: The kind of private key.
    type: str
    choices: [ec-p256, ec-p384, rsa-3072]
    default: ec-p256
  days:
    description: Life of a new certificate and revocation list. None outlives O(ca).
    type: int
    default: 90
  renew_days:
    description: A certificate and a revocation list with less than this left are replaced.
    type: int
    default: 30
  revoked:
    description: Serial numbers, hexadecimal and quoted, of the CA's certificates that nobody may accept any more.
    type: list
    elements: str
    default: []
  directory:
    description: Where the files are.
    type: path
    default: /etc/lsst/tls
  group:
    description: The group that may read the private key. Debian's name for it.
    type: str
    default: ssl-cert
  trust:
    description: Whether the whole host trusts the root, that is all programs that read C(/etc/ssl/certs).
    type: bool
    default: true
  step:
    description: Set by the action. C(report) looks, C(request) makes a key, C(install) puts everything in place.
    type: str
    choices: [report, request, install]
    default: report
  texts:
    description: Set by the action. File names and contents to install.
    type: dict
    default: {}
  new_key:
    description: Set by the action. Whether the key that was made last becomes the host's.
    type: bool
    default: false
requirements:
  - "host: openssl, ca-certificates"
  - "control side: cryptography"
attributes:
  check_mode:
    support: full
    description: Says what is due and why. Makes no key and signs nothing.
  diff_mode:
    support: full
    description: Shows what was found and what takes its place, in words.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Keep the host's certificate
  lsst.ldf.host_certificate:
    names: [base-depot01.base.lsst.internal, 10.64.16.17]
    root: "{{ certificate_root }}"
    ca: "{{ certificate_ca }}"
    ca_key: "{{ certificate_ca_key }}"
"""

RETURN = r"""
due:
  description: What was not as it is to be, and why.
  type: list
  elements: str
  returned: always
  sample: ["host.crt: ends at 2026-12-01 10:00 UTC, which is less than 30 days away"]
serial:
  description: Serial number of the certificate, as O(revoked) takes it. Not in check mode when a new certificate is due.
  type: str
  returned: success
not_after:
  description: When the certificate ends. Not in check mode when a new certificate is due.
  type: str
  returned: success
"""

import grp
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.host_tls import (
    ANCHOR,
    BUNDLE,
    MODES,
    SPEC,
    StepError,
    access,
    report,
    run,
    text_of,
    trusted,
    wanted_access,
)

GENERATE = {
    "ec-p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ec-p384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "rsa-3072": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
}
NEW_KEY = "host.key.new"


def request(directory: Path, key_algorithm: str, name: str) -> str:
    """Make a new key beside the one in use, readable for root alone, and return a request (PEM) that it signed."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    key = directory / NEW_KEY
    key.unlink(missing_ok=True)
    before = os.umask(0o077)
    try:
        run("openssl", "genpkey", *GENERATE[key_algorithm], "-out", str(key))
    finally:
        os.umask(before)
    return run("openssl", "req", "-new", "-key", str(key), "-subj", f"/CN={name}")


def install(directory: Path, group: str, texts: dict[str, str], new_key: bool) -> None:
    """Put the files in place, the new key just before its certificate: a run that is killed between the two is told by the next report."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    waiting = []
    for name, text in texts.items():
        if text_of(directory / name) != text:
            waiting.append(stage(directory / name, text))
    if new_key:
        secure(directory / NEW_KEY, "host.key", group)
        waiting.insert(0, directory / NEW_KEY)
    for path in waiting:
        path.replace(path.with_suffix(""))
    for name in MODES:
        secure(directory / name, name, group)
    (directory / NEW_KEY).unlink(missing_ok=True)


def stage(path: Path, text: str) -> Path:
    """Write ``text`` beside ``path``, safe against a crash, and return where."""
    new = path.with_name(path.name + ".new")
    with new.open("w") as stream:
        os.fchmod(stream.fileno(), 0o644)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    return new


def secure(path: Path, name: str, group: str) -> None:
    """Give the file the access of ``name``, and touch it only if that is wrong: its time of change makes units restart."""
    if access(path) == wanted_access(name, group):
        return
    try:
        members = grp.getgrnam(group).gr_gid if name == "host.key" else 0
    except KeyError:
        raise StepError(f"group {group!r} is not on this host. Allowed is a group that exists; make it before the certificate.") from None
    os.chown(path, 0, members)
    path.chmod(MODES[name])


def trust_root(root: str) -> None:
    """Have the host's programs trust the root. Without its link it counts as added, and the hash links of an earlier root are made anew."""
    ANCHOR.parent.mkdir(parents=True, exist_ok=True)
    stage(ANCHOR, root).replace(ANCHOR)
    (BUNDLE.parent / ANCHOR.with_suffix(".pem").name).unlink(missing_ok=True)
    run("update-ca-certificates")
    if not trusted(root):
        raise StepError(f"update-ca-certificates did not take {ANCHOR} into {BUNDLE}. See what /etc/ca-certificates.conf and its hooks do.")


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    p = module.params
    directory = Path(p["directory"])
    try:
        if p["step"] == "report":
            module.exit_json(changed=False, **report(directory, p["group"], p["root"], p["trust"]))
        elif module.check_mode:
            module.fail_json(msg=f"step {p['step']} changes the host and has no check mode; the action never asks for it.")
        elif p["step"] == "request":
            module.exit_json(changed=True, request=request(directory, p["key_algorithm"], p["names"][0]))
        install(directory, p["group"], p["texts"], p["new_key"])
        if p["trust"] and not trusted(p["root"]):
            trust_root(p["root"])
    except (StepError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
