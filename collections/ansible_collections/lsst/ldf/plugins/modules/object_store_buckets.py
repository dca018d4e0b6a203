#!/usr/bin/python
"""Keep the buckets of an S3 object store, with who may read and write them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: object_store_buckets
short_description: Keep the buckets of an S3 object store
version_added: 0.1.0
description:
  - Makes the buckets that are missing, and keeps each one's policy and whether it keeps versions of its objects.
  - Whoever asks (O(access)) owns the buckets for the store; the policy lets the users of the table in, and nobody else. A bucket that is in
    the store but not in the table is left alone, with all that is in it.
options:
  endpoint:
    description: URL of a gateway.
    type: str
    required: true
  access:
    description: Access key of an account that may do everything.
    type: str
    required: true
  secret:
    description: Its secret.
    type: str
    required: true
  buckets:
    description: The buckets.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the bucket.
        type: str
        required: true
      owner:
        description: Access key of the user who reads, writes and removes its objects.
        type: str
        required: true
      readers:
        description: Access keys of users who list it and read its objects.
        type: list
        elements: str
        default: []
      public_read:
        description: Whether anybody may read an object whose key is known to them.
        type: bool
        default: false
      versioning:
        description: Whether older versions of objects are kept.
        type: bool
        default: false
requirements: [boto3]
attributes:
  check_mode:
    support: full
    description: Looks and changes nothing. A store that does not answer counts as about to come, so that a check of a bare host ends well.
author:
  - LSST Data Facility
"""

EXAMPLES = r"""
- name: Keep the buckets
  lsst.ldf.object_store_buckets:
    endpoint: https://10.64.19.21
    access: "{{ object_store_root_access }}"
    secret: "{{ object_store_root_secret }}"
    buckets:
      - {name: rubinobs-lfa-ls, owner: saluser, readers: [s3lhn], public_read: true}
"""

RETURN = r"""
buckets:
  description: What was due, bucket by bucket, of V(create), V(policy) and V(versioning).
  type: list
  elements: dict
  returned: always
  sample: [{name: rubinobs-lfa-ls, actions: [policy]}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lsst.ldf.plugins.module_utils.object_store import SPEC, apply, connect, due, read


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    p = module.params
    client, have = None, {}
    try:
        client = connect(p)
        have = read(client, [bucket["name"] for bucket in p["buckets"]])
    except Exception as error:  # boto3 is not there yet, or raises whatever its many layers do
        if not module.check_mode:
            module.fail_json(msg=refusal(p["endpoint"], "", error))
    changes = [(bucket, actions) for bucket in p["buckets"] if (actions := due(bucket, have.get(bucket["name"])))]
    for bucket, actions in changes if not module.check_mode else []:
        try:
            apply(client, bucket, actions)
        except Exception as error:
            module.fail_json(msg=refusal(p["endpoint"], f", bucket {bucket['name']}", error))
    module.exit_json(changed=bool(changes), buckets=[{"name": bucket["name"], "actions": actions} for bucket, actions in changes])


def refusal(endpoint: str, where: str, error: Exception) -> str:
    return (
        f"{endpoint}{where}: {error}.\nAllowed: a gateway that answers, and users that object_store_users lists.\n"
        "Edit inventories/production/group_vars/<site>/object_store.yml, or look at journalctl -u object-store."
    )


if __name__ == "__main__":
    main()
