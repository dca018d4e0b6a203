"""Waiting for something that comes by itself."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def poll(ready: Callable[[], Any], timeout: float, every: float = 1.0) -> Any:
    """What ``ready`` returns as soon as it is something, or after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not (found := ready()) and time.monotonic() < end:
        time.sleep(every)
    return found
