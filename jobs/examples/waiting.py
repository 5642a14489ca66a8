"""Waiting for what servers come to by themselves, and no longer than is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
_LOOK_SECONDS = 0.1


def until(look: Callable[[], Found], *, timeout_seconds: float) -> Found:
    """What `look` returns once that is true; when the time is over, what it returned last. It looks once at least."""
    deadline = time.monotonic() + timeout_seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return found
