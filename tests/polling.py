"""Waiting for what comes true by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def poll(condition: Callable[[], T], *, deadline_seconds: float = 60.0) -> T:
    """What `condition` returns once that is true. Fails when it isn't within the deadline."""
    end = time.monotonic() + deadline_seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not true within {deadline_seconds:g} s; last: {result!r}"
        time.sleep(0.02)
    return result
