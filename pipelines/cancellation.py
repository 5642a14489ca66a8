"""Stopping a run: asked for by a signal or a timeout, obeyed between batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from pipelines.errors import BatchgaugeError


class Cancelled(BatchgaugeError):  # noqa: N818  it reports an intention, not an error
    """The part in hand was dropped: nothing of it is visible, the next run does it again."""


class Cancellation:
    """Shared by a run and its workers. Thread-safe, and safe to request from a signal handler.

    Once requested, no new part is taken. Parts in hand may finish within the grace; after that `check`
    raises, between two batches, and the part is dropped.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._requested = threading.Event()
        self._drop_at = float("inf")
        self.reason: str | None = None

    def request(self, reason: str, *, grace_seconds: float) -> None:
        """Ask to stop. A second request keeps the first reason and can only shorten the grace."""
        self.reason = self.reason or reason
        self._drop_at = min(self._drop_at, self._clock() + grace_seconds)
        self._requested.set()

    @property
    def requested(self) -> bool:
        """Whether no new part may be taken."""
        return self._requested.is_set()

    @property
    def grace_seconds(self) -> float:
        """How long parts in hand may still take; infinite while nobody has asked to stop."""
        return max(0.0, self._drop_at - self._clock())

    def stop_if_requested(self) -> None:
        """Raise `Cancelled` once it is requested: between two pieces of work, when no part is in hand."""
        if self._requested.is_set():
            raise Cancelled(self.reason or "cancelled")

    def check(self) -> None:
        """Raise `Cancelled` when the part in hand must be dropped."""
        if self._requested.is_set() and self._clock() >= self._drop_at:
            raise Cancelled(self.reason or "cancelled")
