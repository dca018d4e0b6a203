"""delay.py FILE: hold every packet that enters a tun device for a while, then give it back on the same device.

FILE has one line a device: name and seconds. A gateway of the lab routes what is bound for a link into the link's device; what comes
back out of it, later, is routed onto the link's wire. No kernel module is needed for that (netem is not everywhere).
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
LARGEST_PACKET = 9216
BATCH = 256
# The shaper before the device bounds what is under way; this only keeps a mistake from eating the machine's memory.
MOST_PACKETS = 100_000


@dataclass
class Line:
    """One direction of one link. Times are seconds of the monotonic clock."""

    device: int
    seconds: float
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)

    def take(self, now: float) -> None:
        """Read what waits in the device, at most one batch."""
        due = now + self.seconds
        for _ in range(BATCH):
            try:
                packet = os.read(self.device, LARGEST_PACKET)
            except BlockingIOError:
                return
            if len(self.under_way) < MOST_PACKETS:
                self.under_way.append((due, packet))

    def give(self, now: float) -> None:
        """Write what has travelled long enough. A packet that the kernel refuses is lost, as on any line."""
        while self.under_way and self.under_way[0][0] <= now:
            try:
                os.write(self.device, self.under_way.popleft()[1])
            except OSError:
                continue

    def wait(self, now: float) -> float | None:
        """Seconds until the next packet is due; None when nothing is under way."""
        return max(0.0, self.under_way[0][0] - now) if self.under_way else None


def attach(name: str) -> int:
    """A descriptor of the tun device ``name``, which lab-net has made."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_NO_PI))
    return device


def main() -> None:
    pairs = [line.split() for line in Path(sys.argv[1]).read_text().splitlines()]
    lines = {line.device: line for line in (Line(attach(name), float(seconds)) for name, seconds in pairs)}
    while True:
        now = time.monotonic()
        waits = [wait for line in lines.values() if (wait := line.wait(now)) is not None]
        readable, _, _ = select.select(list(lines), [], [], min(waits, default=None))
        now = time.monotonic()
        for device in readable:
            lines[device].take(now)
        for line in lines.values():
            line.give(now)


if __name__ == "__main__":
    main()
