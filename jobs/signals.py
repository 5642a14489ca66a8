"""SIGTERM and SIGINT ask a run to stop; the first lets the parts in hand finish if they are quick, a second doesn't.

A third ends the process at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipelines.cancellation import Cancellation

GRACE_SECONDS = 5.0
EXIT_BASE = 128
_PATIENCE = 2


class Stop:
    """The first signal that came, if any."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.count = 0

    @property
    def exit_code(self) -> int | None:
        """128 + the signal's number, as a shell would say; None when none came."""
        return None if self.signal is None else EXIT_BASE + self.signal


@contextmanager
def stopping(cancellation: Cancellation) -> Iterator[Stop]:
    """While inside, signals request the cancellation. The handlers from before are put back at the end."""
    stop = Stop()

    def request(number: int, _frame: FrameType | None) -> None:
        stop.count += 1
        if stop.count > _PATIENCE:
            # A batch that never ends can't be stopped between two batches. Nothing is lost: parts are committed whole,
            # and whoever looks next settles the run.
            os._exit(EXIT_BASE + number)
        grace = GRACE_SECONDS if stop.signal is None else 0.0
        stop.signal = stop.signal or signal.Signals(number)
        cancellation.request(f"stopped by {stop.signal.name}", grace_seconds=grace)

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
