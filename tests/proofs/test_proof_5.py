"""All hosts are killed and started at once, in random orders, without Ansible: the site comes up by itself."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from runs import answers, podman, run, until

pytestmark = pytest.mark.disturbs


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cold_start(base, seed):
    order = random.Random(seed).sample(base, len(base))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: podman("kill", host), order))
        list(pool.map(lambda host: podman("start", host), order))
    for host in base:
        until(lambda host=host: answers(host), 60, f"{host} answers")
    done = run("--limit=" + ",".join(base), playbook="playbooks/verify.yml")
    assert done.rc == 0, done.text[-8000:]
