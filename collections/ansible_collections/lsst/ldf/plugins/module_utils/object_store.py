"""Buckets of an S3 object store as data: what a bucket's policy and versioning have to be, what they are, and what is to be done."""

from __future__ import annotations

import json
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # imports that cost a host more time than a look takes
    from collections.abc import Iterable, Mapping
    from typing import Any

SPEC = {
    "endpoint": {"type": "str", "required": True},
    "access": {"type": "str", "required": True},
    "secret": {"type": "str", "required": True, "no_log": True},
    "buckets": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "readers": {"type": "list", "elements": "str", "default": []},
            "public_read": {"type": "bool", "default": False},
            "versioning": {"type": "bool", "default": False},
        },
    },
}
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
READ = ["s3:GetObject*", "s3:ListBucket*", "s3:GetBucketLocation"]
# Objects, but not the bucket's own settings: those are the table's.
WRITE = [*READ, "s3:PutObject*", "s3:DeleteObject*", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]


def policy(bucket: Mapping[str, Any]) -> dict[str, Any]:
    """The policy of a bucket: its owner reads and writes, its readers read and list, everybody may read objects of a public one."""
    both = [f"arn:aws:s3:::{bucket['name']}", f"arn:aws:s3:::{bucket['name']}/*"]
    statements = [{"Effect": "Allow", "Principal": {"AWS": [bucket["owner"]]}, "Action": WRITE, "Resource": both}]
    if bucket["readers"]:
        statements.append({"Effect": "Allow", "Principal": {"AWS": sorted(bucket["readers"])}, "Action": READ, "Resource": both})
    if bucket["public_read"]:
        statements.append({"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": both[1:]})
    return {"Version": "2012-10-17", "Statement": statements}


def due(bucket: Mapping[str, Any], have: Mapping[str, Any] | None) -> list[str]:
    """What is to be done for a bucket. ``have``: its policy, None for none, and whether it keeps versions; None when it is not there."""
    have = have or {"policy": None, "versioning": False, "missing": True}
    actions = ["create"] if "missing" in have else []
    actions += ["policy"] if have["policy"] != policy(bucket) else []
    return actions + (["versioning"] if have["versioning"] != bucket["versioning"] else [])


def connect(p: Mapping[str, Any]) -> Any:
    """A client of the store; boto3 must be there."""
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=60, retries={"max_attempts": 2})
    keys = {"aws_access_key_id": p["access"], "aws_secret_access_key": p["secret"], "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=p["endpoint"], verify=AUTHORITIES, config=config, **keys)


def read(client: Any, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Policy and versioning of those buckets of ``names`` that there are."""
    there = {entry["Name"] for entry in client.list_buckets()["Buckets"]}
    found = {}
    for name in there.intersection(names):
        try:
            text = client.get_bucket_policy(Bucket=name)["Policy"]
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucketPolicy":
                raise
            text = "null"
        found[name] = {"policy": json.loads(text), "versioning": client.get_bucket_versioning(Bucket=name).get("Status") == "Enabled"}
    return found


def apply(client: Any, bucket: Mapping[str, Any], actions: Iterable[str]) -> None:
    """Do what is due for one bucket; what another gateway of the store did meanwhile is done again, to the same end."""
    name = bucket["name"]
    if "create" in actions:
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=name)
    if "policy" in actions:
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy(bucket)))
    if "versioning" in actions:
        status = "Enabled" if bucket["versioning"] else "Suspended"
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})
