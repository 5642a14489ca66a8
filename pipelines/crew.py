"""The workers of one trial: each prepares and infers batches of rows held in memory, all at once, for the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle
from typing import NamedTuple

from pipelines.batches import Batch
from pipelines.cancellation import Cancellation, Cancelled
from pipelines.engines.local import LocalEngine
from pipelines.errors import DataError
from pipelines.measuring import Trial


class Span(NamedTuple):
    """One batch's rows, from `first` up to, and without, `last`, of a part that is held in memory."""

    infer: Callable[[int, int], Batch]
    first: int
    last: int

    @property
    def rows(self) -> int:
        """How many they are, valid or not."""
        return self.last - self.first


class Stint:
    """What one worker did with batches of one kind, added up: predictions are not kept."""

    def __init__(self) -> None:
        self.batches = 0
        self.rows = 0
        self.scored = 0
        self.seconds = 0.0
        self.prepare_seconds = 0.0
        self.latencies: list[float] = []

    def add(self, rows: int, batch: Batch, seconds: float) -> None:
        """Count a batch of so many rows, valid or not, that took so long altogether."""
        self.batches += 1
        self.rows += rows
        self.seconds += seconds
        self.prepare_seconds += batch.prepare_seconds
        if batch.valid:
            self.scored += batch.valid
            self.latencies.append(batch.latency_seconds)


class Crew:
    """The workers of one trial. Each is warm, and all are at work, before any of them is timed (unless `warm` says they are).

    A part ends in a batch with the rows that are left over. Each worker infers one of the full batches and one of those at
    least; whatever the time allows it, they count as often as a run meets them.
    """

    def __init__(
        self,
        spans: Sequence[Span],
        workers: int,
        seconds: float,
        cancellation: Cancellation,
        clock: Callable[[], float],
        *,
        warm: bool = False,
    ) -> None:
        size = max(span.rows for span in spans)
        self._full = [span for span in spans if span.rows == size]
        self._rest = [span for span in spans if span.rows < size]
        self._workers = workers
        self._seconds = seconds
        self._cancellation = cancellation
        self._clock = clock
        self._is_warm = warm
        self._warm: list[int] = []
        self._failed = False

    def work(self, number: int) -> Trial:
        """What the worker with this number, from 0, did."""
        try:
            return self._work(number)
        except BaseException:
            self._failed = True  # the others must not wait for this one
            raise

    def _work(self, number: int) -> Trial:
        batches = self._batches(cycle(self._in_turns(number)))
        if not self._is_warm:
            next(batches)
            self._warm.append(number)
            while len(self._warm) < self._workers:
                next(batches)
        return self._timed(batches)

    def _timed(self, batches: Iterator[tuple[int, Batch]]) -> Trial:
        full, rest = Stint(), Stint()
        size = self._full[0].rows
        began = before = self._clock()
        while not full.batches or (self._rest and not rest.batches) or before - began < self._seconds:
            rows, batch = next(batches)
            now = self._clock()
            (full if rows == size else rest).add(rows, batch, now - before)
            before = now
        return _as_in_a_run(((full, len(self._full)), (rest, len(self._rest))))

    def _in_turns(self, number: int) -> list[Span]:
        """All spans, those of left-over rows shared out among the full ones; each worker begins with rows of its own."""
        full, rest = (_rotated(spans, len(spans) * number // self._workers) for spans in (self._full, self._rest))
        places = [(position, 0, span) for position, span in enumerate(full)]
        places += [(position * len(full) // len(rest), 1, span) for position, span in enumerate(rest)]
        return [span for _, _, span in sorted(places, key=lambda place: place[:2])]

    def _batches(self, spans: Iterator[Span]) -> Iterator[tuple[int, Batch]]:
        """Batches without end, each with its number of rows."""
        for span in spans:
            self._cancellation.stop_if_requested()
            if self._failed:
                raise Cancelled("another worker failed")
            yield span.rows, span.infer(span.first, span.last)


def trial(
    spans: Sequence[Span],
    seconds: float,
    *,
    workers: int,
    kernel_threads: int,
    cancellation: Cancellation,
    clock: Callable[[], float],
    warm: bool = False,
) -> Trial:
    """What so many workers, with so many kernel threads each, do in so long (see `Crew`).

    Raises `ModelError` when the model can't run so, `DataError` when no row is valid, `Cancelled`.
    """
    crew = Crew(spans, workers, seconds, cancellation, clock, warm=warm)
    engine = LocalEngine(workers, kernel_threads)
    trials = tuple(chain.from_iterable(engine.map(lambda number, _: crew.work(number), range(workers), cancellation)))
    cancellation.stop_if_requested()
    return _together(trials)


def _together(trials: Sequence[Trial]) -> Trial:
    """The workers' trials as one. Raises `DataError` when no row in them was valid."""
    scored = sum(trial.rows for trial in trials)
    if not scored:
        raise DataError("none of the rows that were tried is valid; check the feature columns")
    return Trial(
        rows_per_second=sum(trial.rows_per_second for trial in trials),
        rows=scored,
        prepare_seconds=sum(trial.prepare_seconds for trial in trials),
        infer_seconds=sum(trial.infer_seconds for trial in trials),
        latencies=tuple(latency for trial in trials for latency in trial.latencies),
    )


def _as_in_a_run(stints: Sequence[tuple[Stint, int]]) -> Trial:
    """One worker's stints as a trial; each comes with how often a run has a batch of its kind, and counts so much."""
    weighted = [(stint, count / stint.batches) for stint, count in stints if stint.batches]

    def total(of: Callable[[Stint], float]) -> float:
        return sum(weight * of(stint) for stint, weight in weighted)

    scored = sum(stint.scored for stint, _ in weighted)
    share = scored / (total(lambda stint: stint.scored) or 1)
    return Trial(
        rows_per_second=total(lambda stint: stint.rows) / total(lambda stint: stint.seconds),
        rows=scored,
        prepare_seconds=share * total(lambda stint: stint.prepare_seconds),
        infer_seconds=share * total(lambda stint: sum(stint.latencies)),
        latencies=tuple(latency for stint, _ in weighted for latency in stint.latencies),
    )


def _rotated(spans: list[Span], ahead: int) -> list[Span]:
    return spans[ahead:] + spans[:ahead]
