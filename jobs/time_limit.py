"""A limit on how long something may take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.cancellation import Cancellation


@contextmanager
def time_limit(seconds: float | None, cancellation: Cancellation, *, reason: str) -> Iterator[None]:
    """Ask what goes on inside to stop when its time is over; None: never."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, lambda: cancellation.request(reason, grace_seconds=0.0))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
