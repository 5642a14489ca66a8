"""The workers of one trial: each prepares and infers batches of rows held in memory, all at once, for the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import NamedTuple

from pipelines.batches import Batch
from pipelines.cancellation import Cancellation, Cancelled
from pipelines.errors import DataError
from pipelines.measuring import Trial


class Span(NamedTuple):
    """One batch's rows, from `first` up to, and without, `last`, of a part that is held in memory."""

    infer: Callable[[int, int], Batch]
    first: int
    last: int


class Stint:
    """What one worker did, added up batch by batch: predictions are not kept."""

    def __init__(self) -> None:
        self.rows = 0
        self.scored = 0
        self.seconds = 0.0
        self.prepare_seconds = 0.0
        self.latencies: list[float] = []

    def add(self, rows: int, batch: Batch) -> None:
        """Count a batch of so many rows, valid or not."""
        self.rows += rows
        self.prepare_seconds += batch.prepare_seconds
        if batch.predictions is not None:
            self.scored += len(batch.predictions.index)
            self.latencies.append(batch.latency_seconds)


class Crew:
    """The workers of one trial. Each is warm, and all are at work, before any of them is timed."""

    def __init__(
        self,
        spans: Sequence[Span],
        workers: int,
        seconds: float,
        cancellation: Cancellation,
        clock: Callable[[], float],
    ) -> None:
        self._spans = spans
        self._workers = workers
        self._seconds = seconds
        self._cancellation = cancellation
        self._clock = clock
        self._warm: list[int] = []
        self._failed = False

    def work(self, number: int) -> Stint:
        """The stint of the worker with this number, from 0."""
        try:
            return self._work(number)
        except BaseException:
            self._failed = True  # the others must not wait for this one
            raise

    def _work(self, number: int) -> Stint:
        ahead = len(self._spans) * number // self._workers  # each begins with rows of its own
        batches = self._batches(islice(cycle(self._spans), ahead, None))
        next(batches)
        self._warm.append(number)
        while len(self._warm) < self._workers:
            next(batches)
        return self._timed(batches)

    def _timed(self, batches: Iterator[tuple[int, Batch]]) -> Stint:
        stint, began = Stint(), self._clock()
        while not stint.rows or stint.seconds < self._seconds:
            stint.add(*next(batches))
            stint.seconds = self._clock() - began
        return stint

    def _batches(self, spans: Iterator[Span]) -> Iterator[tuple[int, Batch]]:
        """Batches without end, each with its number of rows."""
        for span in spans:
            stop_if_asked(self._cancellation)
            if self._failed:
                raise Cancelled("another worker failed")
            yield span.last - span.first, span.infer(span.first, span.last)


def together(stints: Sequence[Stint]) -> Trial:
    """The workers' stints as one trial. Raises `DataError` when no row in them was valid."""
    scored = sum(stint.scored for stint in stints)
    if not scored:
        raise DataError("none of the rows that were tried is valid; check the feature columns")
    return Trial(
        rows_per_second=sum(stint.rows / stint.seconds for stint in stints),
        rows=scored,
        prepare_seconds=sum(stint.prepare_seconds for stint in stints),
        infer_seconds=sum(sum(stint.latencies) for stint in stints),
        latencies=tuple(latency for stint in stints for latency in stint.latencies),
    )


def stop_if_asked(cancellation: Cancellation) -> None:
    """At once: there is no part in hand whose loss would matter."""
    if cancellation.requested:
        raise Cancelled(cancellation.reason or "cancelled")
