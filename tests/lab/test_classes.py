"""Classes of traffic on the long-haul link: whoever else fills it, the prompt class has its share, because its packets say who they are."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from driving import on_network

from plan import DSCP, class_in
from runs import PLAN, TOP, on, until

LINK = next(link for link in PLAN["links"] if link["name"] == "base-ncsa")["rate_mbit"] * 1e6 / 8
PROMPT, BULK = (class_in(name, PLAN) for name in ("prompt", "bulk"))
BUDGET = LINK * PROMPT["share"] / 100
SECONDS = 4
PORT = {"prompt": 47001, "bulk": 47002}
# Whatever is started on a host ends with its standard input.
WATCH = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
"""
# The senders are started with: the far address, a port, a DSCP, bytes a second, seconds.
SEND = """
import contextlib, socket, sys, time
address, port, dscp, rate, seconds = sys.argv[1], *map(float, sys.argv[2:])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, int(dscp) << 2)
    sender.setsockopt(socket.SOL_SOCKET, 32, 1 << 22)
    sender.connect((address, int(port)))
    packet, count, began = bytes(8900), 0, time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        if count * len(packet) > elapsed * rate:
            time.sleep(0.001)
            continue
        # The far end may answer that nobody listens.
        with contextlib.suppress(ConnectionRefusedError):
            sender.send(packet)
            count += 1
print(count)
"""
STREAM = """
import contextlib, socket, sys, time
address, port, dscp, _, seconds = sys.argv[1], *map(float, sys.argv[2:])
with socket.socket() as sender, contextlib.suppress(TimeoutError):
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, int(dscp) << 2)
    sender.settimeout(5)
    sender.connect((address, int(port)))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sender.send(bytes(1 << 16))
"""
# Prints how many datagrams came to the port, and their bytes a second from the first to the last.
COUNT = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
    receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)
    receiver.bind((sys.argv[1], int(sys.argv[2])))
    print("ready", flush=True)
    receiver.settimeout(20)
    count = total = 0
    try:
        while True:
            total += receiver.recv_into(bytearray(9000))
            last = time.monotonic()
            first = first if count else last
            count += 1
            receiver.settimeout(2)
    except TimeoutError:
        print(count, total / (last - first))
"""
SWALLOW = """
import os, socket, sys, threading
def swallow(connection):
    while connection.recv(1 << 20):
        pass
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("ready", flush=True)
    while True:
        threading.Thread(target=swallow, args=(server.accept()[0],), daemon=True).start()
"""


def start(host: str, program: str, *arguments: object) -> subprocess.Popen:
    """``program`` on ``host``, running; ended by ``stop``."""
    command = [str(TOP / "lab/podman"), "exec", "--interactive", host, "python3", "-c", WATCH + program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def stop(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@pytest.fixture(scope="module")
def target(far) -> Iterator[str]:
    """The far host's address on the long-haul network; a converged one takes the tests' ports in for the time being."""
    if firewall := on(far, "nft list table inet lsst 2>/dev/null", check=False):
        on(far, f"nft insert rule inet lsst input meta l4proto {{ tcp, udp }} th dport {{ {', '.join(map(str, PORT.values()))} }} accept")
    yield on_network(far, "lhn")
    if firewall:
        on(far, "systemctl reload nftables")


def rate_of_the_link(seconds: float = 1.0) -> float:
    """Bytes a second that Base's gateway has sent into the link's line meanwhile."""
    count = "cat /sys/class/net/w-ncsa/statistics/tx_bytes"
    before, began = int(on("lab-gw-base", count)), time.monotonic()
    time.sleep(seconds)
    return (int(on("lab-gw-base", count)) - before) / (time.monotonic() - began)


@contextmanager
def filled(how: str, near: str, far: str, target: str) -> Iterator[None]:
    """The link full of bulk traffic: twice what it carries in datagrams, or eight TCP streams that take what they get."""
    program, arguments = (SEND, (2 * LINK, 60)) if how == "datagrams" else (STREAM, (0, 60))
    running = [start(far, SWALLOW, target, PORT["bulk"])]
    try:
        assert running[0].stdout.readline() == "ready\n"
        for _ in range(1 if how == "datagrams" else 8):
            running.append(start(near, program, target, PORT["bulk"], DSCP[BULK["dscp"]], *arguments))
        # A class that is alone has the whole link.
        until(lambda: rate_of_the_link() > 0.9 * LINK, 20, "the link is full")
        yield
        assert rate_of_the_link() > 0.8 * LINK
    finally:
        for process in reversed(running):
            stop(process)


def prompt(near: str, far: str, target: str, mark: int) -> tuple[float, float]:
    """Send prompt images at their class's share of the link: which part of the datagrams arrives, and bytes a second there."""
    receiver = start(far, COUNT, target, PORT["prompt"])
    sender = None
    try:
        assert receiver.stdout.readline() == "ready\n"
        sender = start(near, SEND, target, PORT["prompt"], mark, 0.97 * BUDGET, SECONDS)
        sent = int(sender.stdout.read())
        count, rate = map(float, receiver.stdout.read().split())
        return count / sent, rate
    finally:
        for process in filter(None, (sender, receiver)):
            stop(process)


@pytest.mark.parametrize("how", ["datagrams", "streams"])
def test_prompt_images_keep_their_share_of_a_full_link(near, far, target, how):
    """With their mark all of them arrive, at their rate; without it they get what is left over."""
    with filled(how, near, far, target):
        part, rate = prompt(near, far, target, DSCP[PROMPT["dscp"]])
        unmarked_part, unmarked_rate = prompt(near, far, target, 0)
    print(f"{how}: with mark {part:.3f} at {rate / 1e6:.1f} MB/s, without {unmarked_part:.3f} at {unmarked_rate / 1e6:.1f} MB/s")
    assert part > 0.99
    assert rate > 0.9 * BUDGET
    assert max(unmarked_part, unmarked_rate / BUDGET) < 0.6
