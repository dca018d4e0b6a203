"""The roles' own tests, over the whole lab."""

from runs import run


def test_verify_is_green(base):
    done = run("--limit=" + ",".join(base), playbook="playbooks/verify.yml")
    assert done.rc == 0, done.text[-8000:]
