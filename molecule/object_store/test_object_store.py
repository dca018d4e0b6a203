"""object_store, by real S3 clients: who gets what, what the life cycle removes, what reaches the other site, what a dead gateway costs."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import LONG, changed, under_test, wait_for

MIB = 1 << 20
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
RAW, PUBLIC, VERSIONED = "rubinobs-raw-latiss", "rubinobs-lfa-ls", "rubinobs-calibrations"
in_molecule = pytest.mark.where(lambda machine: machine.in_molecule)
copies = pytest.mark.where(lambda machine: machine.settings["object_store"]["object_store_replica_endpoint"])
alone = pytest.mark.where(lambda machine: not machine.settings["object_store"]["object_store_peers"])
# One of two over the same tree.
paired = pytest.mark.where(lambda machine: machine.settings["object_store"]["object_store_peers"])
# A real SDK: code speaks to ``s3``, the client, and has the further words as ``words``.
BOTO = f"""
import sys, boto3
from botocore.config import Config
code, endpoint, access, secret, *words = sys.argv[1:]
config = Config(s3={{"addressing_style": "path"}}, connect_timeout=5)
s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret, region_name="us-east-1",
                  verify="{AUTHORITIES}", config=config)
exec(code)
"""

# Prints which of these a user may do; the others have to be refused.
EVERYTHING = """
from botocore.exceptions import ClientError
for name, call in {
    "get": lambda: s3.get_object(Bucket=words[0], Key=words[1]),
    "put": lambda: s3.put_object(Bucket=words[0], Key=words[1], Body=b"x"),
    "settings": lambda: s3.delete_bucket_policy(Bucket=words[0]),
    "bucket": lambda: s3.create_bucket(Bucket="rubinobs-own"),
}.items():
    try:
        call()
        print(name)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error
"""


@dataclass
class Store:
    """A store as a client on ``host`` sees it. ``users``: name -> secret."""

    host: object
    endpoint: str
    users: dict[str, str]

    def rclone(self, user: str, words: str):
        """``rclone WORDS`` by ``user``; a remote is :s3:BUCKET/KEY."""
        options = {"provider": "Other", "endpoint": self.endpoint, "access-key-id": user, "secret-access-key": self.users[user]}
        given = "--s3-no-check-bucket " + " ".join(f"--s3-{key} {shlex.quote(value)}" for key, value in options.items())
        return self.host.run(f"timeout 60 rclone --config '' --retries 1 --low-level-retries 1 --contimeout 5s {given} {words}")

    def boto(self, user: str, code: str, *words: str):
        arguments = [BOTO, code, self.endpoint, user, self.users[user], *words]
        return self.host.run(f"AWS_MAX_ATTEMPTS=1 timeout 60 python3 -c {shlex.join(arguments)}")

    def s3cmd(self, user: str, words: str):
        host = self.endpoint.removeprefix("https://")
        keys = f"--access_key={user} --secret_key={self.users[user]} --host={host} --host-bucket={host} --ca-certs={AUTHORITIES}"
        return self.host.run(f"timeout 20 s3cmd --config=/dev/null --quiet {keys} {words}")

    def anonymous(self, path: str) -> str:
        """HTTP status for nobody in particular."""
        ask = f"curl --silent --output /dev/null --max-time 8 --write-out '%{{http_code}}' {self.endpoint}/{path}"
        return self.host.run(ask).stdout

    def put(self, user: str, bucket: str) -> str:
        """The key of a new object, which the fixture removes."""
        key = f"lsst-test/{uuid.uuid4().hex}.fits"
        done = self.rclone(user, f"copyto /etc/hostname :s3:{bucket}/{key}")
        assert done.rc == 0, done.stderr
        return key


@pytest.fixture
def store(machine, settings) -> Iterator[Store]:
    """The machine's own gateway, called from the machine itself; users and secrets as the gateway has them."""
    text = machine.host.check_output("cat /etc/lsst/object-store/iam/users.json")
    users = {name: entry["secret"] for name, entry in json.loads(text)["accessAccounts"].items()}
    yield Store(machine.host, f"https://{settings['object_store_address']}:{settings['object_store_port']}", users)
    for bucket in settings["object_store_buckets"]:
        machine.host.run(f"rm --force --recursive {settings['object_store_root']}/buckets/{bucket['name']}/lsst-test")
        if settings["object_store_replica_endpoint"] and "replicate_to" in bucket:
            jobs(machine.host, f"delete there:{bucket['replicate_to']}/lsst-test")


def jobs(host, command: str):
    """An rclone command with the keys and remotes (here:, there:) of the gateway's own jobs; a store that is down is not waited for."""
    keys = "systemd-run --quiet --pipe --wait --property EnvironmentFile=/etc/lsst/object-store/jobs.env"
    return host.run(f"{keys} timeout 20 rclone --retries 1 --low-level-retries 1 --contimeout 5s {command}")


@pytest.fixture
def bucket(settings) -> dict:
    """The first bucket of the table."""
    return settings["object_store_buckets"][0]


@pytest.mark.writes
def test_what_the_owner_puts_the_owner_gets(host, store, bucket):
    key = store.put(bucket["owner"], bucket["name"])
    assert store.rclone(bucket["owner"], f"cat :s3:{bucket['name']}/{key}").stdout == host.run("cat /etc/hostname").stdout


@paired
@pytest.mark.writes
def test_both_gateways_serve_one_tree(store, settings, bucket):
    key = store.put(bucket["owner"], bucket["name"])
    other = Store(store.host, f"https://{settings['object_store_peers'][0]}", store.users)
    assert other.rclone(bucket["owner"], f"lsf :s3:{bucket['name']}/{key}").stdout.strip() == Path(key).name


@pytest.mark.reads
def test_nobody_gets_in_without_a_key(store, bucket):
    """Nor with a key and another secret, nor with a key that nobody has; the right one shows that it is the keys."""
    assert store.anonymous(bucket["name"]) == "403"
    listing, owner = f"lsf --max-depth 1 :s3:{bucket['name']}", bucket["owner"]
    wrong = Store(store.host, store.endpoint, {owner: "wrong-0123456789abcdef", "nobody": "nobody-0123456789abcdef"})
    assert "SignatureDoesNotMatch" in wrong.rclone(owner, listing).stderr
    assert "InvalidAccessKeyId" in wrong.rclone("nobody", listing).stderr
    assert store.rclone(owner, listing).rc == 0


@in_molecule
@paired
@pytest.mark.once
@pytest.mark.writes
def test_a_policy_lets_its_users_in_and_nobody_else(store):
    """A reader reads, another user does not even that, and the owner has the objects but not the settings."""
    key = store.put("latiss", RAW)
    allowed = {"s3lhn": ["get"], "saluser": [], "latiss": ["get", "put"]}
    for user, expected in allowed.items():
        assert store.boto(user, EVERYTHING, RAW, key).stdout.split() == expected, user


@in_molecule
@paired
@pytest.mark.once
@pytest.mark.writes
def test_anybody_reads_a_public_bucket_by_key_but_does_not_list_it(store):
    key = store.put("saluser", PUBLIC)
    assert (store.anonymous(f"{PUBLIC}/{key}"), store.anonymous(PUBLIC)) == ("200", "403")


@in_molecule
@paired
@pytest.mark.once
@pytest.mark.writes
def test_clients_agree(host, store):
    """s3cmd, the SDK and rclone read what the others wrote."""
    host.check_output("head -c 3000000 /dev/urandom >/tmp/lsst-test-a; rm -f /tmp/lsst-test-b /tmp/lsst-test-c")
    assert store.s3cmd("latiss", f"put /tmp/lsst-test-a s3://{RAW}/lsst-test/a").rc == 0
    move = "s3.download_file(words[0], words[1], words[3]); s3.upload_file(words[3], words[0], words[2])"
    assert store.boto("latiss", move, RAW, "lsst-test/a", "lsst-test/b", "/tmp/lsst-test-b").rc == 0
    assert store.rclone("latiss", f"copyto :s3:{RAW}/lsst-test/b /tmp/lsst-test-c").rc == 0
    assert len({line.split()[0] for line in host.check_output("sha256sum /tmp/lsst-test-?").splitlines()}) == 1
    host.check_output("rm /tmp/lsst-test-?")


@in_molecule
@paired
@pytest.mark.once
@pytest.mark.writes
def test_older_versions_are_kept_where_asked_for(store):
    code = """
for body in (b"old", b"new"):
    s3.put_object(Bucket=words[0], Key="lsst-test/v", Body=body)
found = s3.list_object_versions(Bucket=words[0], Prefix="lsst-test/v")["Versions"]
print([s3.get_object(Bucket=words[0], Key="lsst-test/v", VersionId=each["VersionId"])["Body"].read() for each in found][:2])
for each in found:
    s3.delete_object(Bucket=words[0], Key="lsst-test/v", VersionId=each["VersionId"])
"""
    done = store.boto("latiss", code, VERSIONED)
    assert done.stdout.strip() == "[b'new', b'old']", done.stderr


@in_molecule
@paired
@pytest.mark.once
@pytest.mark.disturbs
def test_a_user_who_is_taken_out_is_out(host, store):
    """With the next request, and without a restart."""
    users = "/etc/lsst/object-store/iam/users.json"
    assert store.rclone("latiss", f"lsf :s3:{RAW}").rc == 0
    host.check_output(f"cp -a {users} /root/kept; sed -i '/\"latiss\"/d' {users}")
    done = store.rclone("latiss", f"lsf :s3:{RAW}")
    host.check_output(f"mv /root/kept {users}")
    assert done.rc and "InvalidAccessKeyId" in done.stderr
    assert store.rclone("latiss", f"lsf :s3:{RAW}").rc == 0


@pytest.mark.reads
def test_can_do_nothing_but_its_work(host):
    """The gateway runs as a user of its own that may bind a low port; it shows neither its keys nor its tree."""
    process = host.check_output("systemctl show --property MainPID --value object-store")
    status = dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{process}/status").splitlines() if ":\t" in line)
    assert status["Uid"].split() == [host.check_output("id --user object-store")] * 4
    assert (int(status["CapBnd"], 16), status["NoNewPrivs"], status["Seccomp"]) == (1 << 10, "1", "2")
    for path in ("/etc/lsst/object-store/iam/users.json", "/etc/lsst/object-store/gateway.env", "/srv/object-store/buckets"):
        assert host.run(f"runuser -u nobody -- test -r {path}").rc == 1


@pytest.mark.reads
def test_the_life_cycle_is_due_within_a_day(host):
    due = "systemctl show --property NextElapseUSecRealtime --value object-store-tidy.timer"
    seconds = int(host.check_output(f'echo $(($(date --date "$({due})" +%s) - $(date +%s)))'))
    assert 0 < seconds < 86400 + 600


@in_molecule
@paired
@pytest.mark.once
@pytest.mark.disturbs
def test_what_has_expired_goes(host, settings, store):
    """An object and an unfinished upload of long ago; younger ones stay. A bucket that grew too large is named."""
    tree = f"{settings['object_store_root']}/buckets/{PUBLIC}"
    old, young = store.put("saluser", PUBLIC), store.put("saluser", PUBLIC)
    begin = "print(s3.create_multipart_upload(Bucket=words[0], Key=words[1])['UploadId'])"
    uploads = [store.boto("saluser", begin, PUBLIC, f"lsst-test/{name}").stdout.strip() for name in ("old", "young")]
    host.check_output(f"touch --date '31 days ago' {tree}/{old}; find {tree} -path '*{uploads[0]}' -exec touch --date '2 days ago' {{}} +")
    host.check_output(f"runuser -u object-store -- fallocate -l {1100 * MIB} {tree}/lsst-test/ballast")
    host.check_output("systemctl start object-store-tidy; rm " + f"{tree}/lsst-test/ballast")
    assert store.anonymous(f"{PUBLIC}/{young}") == "200" and store.anonymous(f"{PUBLIC}/{old}") == "404"
    left = store.boto("saluser", "print([u['UploadId'] for u in s3.list_multipart_uploads(Bucket=words[0])['Uploads']])", PUBLIC)
    assert uploads[1] in left.stdout and uploads[0] not in left.stdout
    store.boto("saluser", "s3.abort_multipart_upload(Bucket=words[0], Key='lsst-test/young', UploadId=words[1])", PUBLIC, uploads[1])
    said = host.check_output("journalctl --sync; journalctl --unit object-store-tidy --priority warning --output cat --since -1min")
    assert f"{PUBLIC} holds 11" in said and "its quota_gib is 1" in said


@in_molecule
@alone
@pytest.mark.disturbs
def test_a_quota_of_the_file_system_stops_a_client(host, settings, store, bucket):
    """What does not fit into a bucket is refused and leaves nothing of itself there; what fits goes in."""
    tree, disk = f"{settings['object_store_root']}/buckets/{bucket['name']}", "/mnt/lsst-test"
    owned = f":s3:{bucket['name']}/lsst-test"
    make = (
        f"mkdir -p /etc/lab {disk} && echo lsst-test 256M >/etc/lab/disks && systemctl restart lab-disks"
        f" && mkfs.btrfs --quiet /run/lab-disks/lsst-test && mount /run/lab-disks/lsst-test {disk} && btrfs quota enable {disk}"
        f" && btrfs subvolume create {disk}/bucket && btrfs qgroup limit 16M {disk}/bucket"
        # A container's mounts do not come to services that run already.
        f" && cp --archive {tree}/. {disk}/bucket && mount --bind {disk}/bucket {tree} && systemctl restart object-store"
        f" && head -c {4 * MIB} /dev/urandom >/tmp/lsst-test-small && head -c {24 * MIB} /dev/urandom >/tmp/lsst-test-large"
    )
    try:
        host.check_output(make)
        refused = store.rclone(bucket["owner"], f"copyto /tmp/lsst-test-large {owned}/large")
        assert refused.rc and "QuotaExceeded" in refused.stderr, refused.stderr
        fits = store.rclone(bucket["owner"], f"copyto /tmp/lsst-test-small {owned}/small")
        assert fits.rc == 0, fits.stderr
        assert store.rclone(bucket["owner"], f"lsf {owned}").stdout.split() == ["small"]
        assert int(host.check_output(f"du --summarize --block-size=1M {tree}").split()[0]) < 8
    finally:
        host.run(f"systemctl stop object-store; umount {tree}; umount {disk}; systemctl stop lab-disks; systemctl start object-store")
        host.run("rm --force /etc/lab/disks /var/lib/lab-disks/* /tmp/lsst-test-*")


# The lab's other site need not be there.
@in_molecule
@copies
@pytest.mark.writes
def test_objects_reach_the_other_site(host, settings, store):
    bucket = next(each for each in settings["object_store_buckets"] if "replicate_to" in each)
    key = store.put(bucket["owner"], bucket["name"])
    there = f"lsf there:{bucket['replicate_to']}/{key}"
    wait_for(lambda: jobs(host, there).stdout.strip() == Path(key).name, 15 + settings["object_store_replica_seconds"], "the copy is there")


@contextmanager
def cut(host, address: str) -> Iterator[None]:
    """Nothing of the host reaches ``address``."""
    rule = f"ip daddr {address} tcp dport 443 drop"
    host.check_output(f"nft 'table inet lsst_test {{ chain out {{ type filter hook output priority 0; {rule}; }}; }}'")
    try:
        yield
    finally:
        host.check_output("nft delete table inet lsst_test")


@in_molecule
@copies
@pytest.mark.once
@pytest.mark.disturbs
def test_a_cut_line_loses_nothing(request, machine, host, store):
    """What is written meanwhile is at the other site soon after; so is what was on its way."""
    senders = [m for m in under_test(request.config) if m.settings["object_store"]["object_store_replica_endpoint"]]
    far = host.check_output("getent ahostsv4 s3.far.test").split()[0]
    there = f"lsf there:{RAW}/lsst-test/"
    store.put("latiss", RAW)
    wait_for(lambda: jobs(host, there).stdout.count(".fits") == 1, 30, "the first one is there")
    with ExitStack() as cuts:
        for each in senders:
            cuts.enter_context(cut(each.host, far))
        keys = [store.put("latiss", RAW) for _ in range(3)]
        time.sleep(60 if LONG else 6)
    wait_for(lambda: {Path(key).name for key in keys} <= set(jobs(host, there).stdout.split()), 60, "all are there")


@contextmanager
def slow(host, rate: str) -> Iterator[None]:
    """The host's card sends at ``rate`` only."""
    host.check_output(f"tc qdisc add dev eth0 root tbf rate {rate} burst 256kb latency 50ms")
    try:
        yield
    finally:
        host.run("tc qdisc del dev eth0 root")


@in_molecule
@paired
@pytest.mark.once
@pytest.mark.disturbs
def test_a_large_upload_survives_the_death_of_a_gateway(request, machine, host, settings, store):
    """From another site, by the name that both gateways have: one is killed in the middle, and the upload goes on by the other one."""
    far = next(m.host for m in under_test(request.config) if not m.settings["object_store"]["object_store_peers"])
    client = Store(far, "https://s3.near.test", store.users)
    far.check_output(f"head -c {(1024 if LONG else 64) * MIB} /dev/urandom >/tmp/lsst-test-large")
    upload = "from boto3.s3.transfer import TransferConfig\n"
    upload += f"parts = TransferConfig(multipart_chunksize={8 * MIB}, max_concurrency=2)\n"
    upload += "s3.upload_file('/tmp/lsst-test-large', words[0], 'lsst-test/large', Config=parts)"
    command = shlex.join(["python3", "-c", BOTO, upload, client.endpoint, "latiss", client.users["latiss"], RAW])
    parts = f"find {settings['object_store_root']}/buckets/{RAW} -path '*sgwtmp*' -size +7M | wc -l"
    with slow(far, "160mbit"):
        far.check_output(f"systemd-run --quiet --unit lsst-test-upload --property RemainAfterExit=yes {command}")
        wait_for(lambda: int(host.check_output(parts)) >= 2, 30, "two parts arrive")
        host.check_output("systemctl kill --signal KILL object-store; systemctl stop object-store")
        try:
            ended = "systemctl show --property SubState --value lsst-test-upload"
            wait_for(lambda: far.check_output(ended) != "running", 300 if LONG else 40, "the upload ends")
        finally:
            host.check_output("systemctl start object-store")
    result = far.check_output("systemctl show --property Result --value lsst-test-upload; systemctl stop lsst-test-upload")
    assert result == "success", far.run("journalctl --unit lsst-test-upload --output cat").stdout
    assert client.rclone("latiss", f"copyto :s3:{RAW}/lsst-test/large /tmp/lsst-test-back").rc == 0
    far.check_output("cmp /tmp/lsst-test-large /tmp/lsst-test-back; rm /tmp/lsst-test-*")


@in_molecule
@paired
@pytest.mark.once
@pytest.mark.disturbs
def test_the_last_gateway_is_not_restarted(request, machine, host, apply):
    """While its peer is down a restart that is due is refused, and done when the peer is back."""
    peer = next(m.host for m in under_test(request.config) if m is not machine and m.settings["object_store"]["object_store_peers"])
    process = "systemctl show --property MainPID --value object-store"
    before = host.check_output(process)
    host.check_output("touch /etc/lsst/object-store/gateway.env")
    peer.check_output("systemctl stop object-store")
    refused = apply()
    peer.check_output("systemctl start object-store")
    assert refused.returncode != 0 and "only 0 of its peers" in refused.stdout, refused.stdout
    assert host.check_output(process) == before
    assert changed(apply()) and host.check_output(process) != before


@in_molecule
@pytest.mark.once
@pytest.mark.disturbs
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"name": "rubinobs-LFA-ls", "owner": "latiss"},
            "object_store_buckets has rubinobs-LFA-ls. Allowed: rubinobs-<category>-<instance>",
        ),
        ({"name": "rubinobs-lfa-ls", "owner": "root"}, "object_store_buckets names the users root. Allowed: latiss, saluser, s3lhn. Edit"),
    ],
)
def test_what_no_bucket_can_be_is_refused(host, apply, options, words):
    host.check_output("systemctl is-active object-store")
    done = apply(object_store_buckets=[options])
    assert done.returncode != 0 and words in " ".join(done.stdout.split()), done.stdout
