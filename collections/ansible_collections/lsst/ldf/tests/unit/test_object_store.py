"""What a bucket's policy lets whom do, and what is to be done for a bucket."""

import pytest
from ansible_collections.lsst.ldf.plugins.module_utils.object_store import due, policy

BUCKET = {"name": "rubinobs-lfa-ls", "owner": "saluser", "readers": [], "public_read": False, "versioning": False}
KEPT = {"policy": policy(BUCKET), "versioning": False}


def allowed(bucket):
    """Who may do what, statement by statement."""
    return [(row["Principal"], set(row["Action"]), row["Resource"][-1]) for row in policy(bucket)["Statement"]]


def test_the_owner_has_the_objects_but_not_the_settings():
    [(who, actions, where)] = allowed(BUCKET)
    assert who == {"AWS": ["saluser"]} and where == "arn:aws:s3:::rubinobs-lfa-ls/*"
    assert {"s3:PutObject*", "s3:DeleteObject*", "s3:GetObject*"} <= actions
    assert not [action for action in actions if action.startswith(("s3:PutBucket", "s3:DeleteBucket", "s3:*"))]


def test_readers_and_everybody_only_read():
    _, (who, actions, _), (everybody, public, where) = allowed(BUCKET | {"readers": ["zoe", "ann"], "public_read": True})
    assert who == {"AWS": ["ann", "zoe"]} and not [action for action in actions if "Put" in action or "Delete" in action]
    assert everybody == "*" and public == {"s3:GetObject"} and where.endswith("/*")


@pytest.mark.parametrize(
    ("wanted", "have", "actions"),
    [
        ({}, KEPT, []),
        ({}, None, ["create", "policy"]),
        ({"versioning": True}, None, ["create", "policy", "versioning"]),
        ({}, KEPT | {"policy": None}, ["policy"]),
        ({"readers": ["ann"]}, KEPT, ["policy"]),
        ({}, KEPT | {"versioning": True}, ["versioning"]),
    ],
)
def test_due(wanted, have, actions):
    assert due(BUCKET | wanted, have) == actions
