#!/usr/bin/python
"""Give a host a certificate of its ssh host key; this is the host's half, which looks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_host_certificate
short_description: Give a host a certificate of its ssh host key
version_added: 0.1.0
description:
  - Clients that know the authority then know every host, without a list of host keys.
  - The host key is made on the host if there is none and never leaves it. The certificate is signed on the control side, in memory;
    O(ca_key) never leaves that and is never written.
  - A certificate is replaced when it is about to end, is for other principals or another key, or comes from another authority.
  - A new one is put in place by M(lsst.ldf.commit_confirm), which reloads sshd and takes the change back if it locks Ansible out.
  - Nothing due costs one round trip.
options:
  ca_key:
    description: Private key of the authority for hosts, as OpenSSH writes it, without a passphrase. Used on the control side only.
    type: str
    required: true
  principals:
    description: Names and addresses by which clients reach the host. The first one also names the certificate in logs.
    type: list
    elements: str
    required: true
  days:
    description: Life of a new certificate.
    type: int
    default: 365
  renew_days:
    description: A certificate with less than this left is replaced.
    type: int
    default: 90
  key:
    description: The host key. Its certificate lies beside it, as C(-cert.pub).
    type: path
    default: /etc/ssh/ssh_host_ed25519_key
  unit:
    description: The unit that presents the certificate.
    type: str
    default: ssh
  timeout:
    description: Seconds within which a new connection must confirm a new certificate.
    type: float
    default: 60
requirements:
  - "host: ssh-keygen"
  - "control side: cryptography"
attributes:
  check_mode:
    support: full
    description: Says whether a certificate is due. Makes no key and signs nothing.
  diff_mode:
    support: full
    description: Says why a certificate is due.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Certify the host key
  lsst.ldf.ssh_host_certificate:
    ca_key: "{{ sshd_host_ca_key }}"
    principals: [base-dtn01.base.lsst.internal, base-dtn01, 10.64.16.149]
"""

RETURN = r"""
due:
  description: Why the certificate was not as it is to be; empty when it was.
  type: str
  returned: always
  sample: it ends at 2026-12-01 10:00 UTC
"""

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.ssh_host_key import SPEC, read


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    key = Path(module.params["key"])
    make = not key.exists() and not module.check_mode
    try:
        if make:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], capture_output=True, text=True, check=True)
        found = read(key)
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{key} is no host key that can be used: {error.stderr.strip()} Allowed: none, or a key without a passphrase.")
    except OSError as error:
        module.fail_json(msg=f"{error}. Allowed: a host with openssh-server; install it before its certificate.")
    module.exit_json(changed=make, **found)


if __name__ == "__main__":
    main()
