"""What `auto` stands for in one run: rows to a batch, and workers, measured on the job's own model and first part.

Takes less than a second, and less for few rows; what was found is kept by whoever called, for the next run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, time
from typing import TypeVar

from pipelines.batches import Batch
from pipelines.cancellation import Cancellation
from pipelines.crew import Span, trial
from pipelines.engines.local import LocalEngine, local_engine
from pipelines.errors import OutOfMemoryError
from pipelines.measuring import splits
from pipelines.planning import Part
from pipelines.report import BatchTrial, TuningReport, WorkersTrial
from pipelines.scoring import Scorer
from pipelines.settings import BatchSettings
from pipelines.tuning import WORTH_WHILE, fastest

_SECONDS = 0.3
"""For the number of workers, and for the number of rows with all of them at it, each on top of what the rows took alone."""
_WORTH_MEASURING_SECONDS = 4.0
"""Of inferring: in a shorter run, measuring the workers would cost more than it finds."""
_WORTH_TRYING_SECONDS = 0.1
"""Of inferring: what is found about rows is kept for the next runs, and counts for more than the number of workers."""
_ROUNDS = 3
_GROWN = 4
_LONGEST_AGE_SECONDS = 30 * 86_400.0

Choice = TypeVar("Choice")
Way = tuple[int, int]
"""So many workers, with so many kernel threads each."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be settled, for a run of so many parts and rows.

    `limit_seconds` is what a batch may take, where the number of its rows is to be measured. `elsewhere` tells workers of
    other machines apart.
    """

    settings: BatchSettings
    parts: int
    rows: int
    cores: int
    limit_seconds: float | None = None
    elsewhere: tuple[str | float, ...] = ()

    def key(self, scorer: Scorer) -> str:
        """What an answer is good for, on a machine like this: the same model and features, asked the same."""
        workers = min(self.parts, self.cores)
        asked = ["together", self.settings.rows, self.settings.workers, workers, self.limit_seconds, *self.elsewhere]
        return hashlib.sha256(json.dumps([scorer.fingerprint, scorer.model.device, *asked]).encode()).hexdigest()

    def answered_by(self, known: TuningReport) -> bool:
        """Whether it will do: not for a run of many times the rows, which has more time to measure, nor for ever."""
        return self.rows <= _GROWN * known.rows and abs(time() - known.measured_at) < _LONGEST_AGE_SECONDS


def settle(scorer: Scorer, part: Part, asked: Question, known: TuningReport | None, cancellation: Cancellation) -> TuningReport:
    """Warm the scorer up on the part, and settle its `batch_rows` and the number of workers. `known` is an earlier answer.

    Raises:
        DataError: the part can't be read, or none of its first rows is valid; another part may do.
        ModelError: the model doesn't fit the data.
        Cancelled: between two batches.

    """
    usual = local_engine(asked.settings.workers, device=scorer.model.device, cores=asked.cores, parts=asked.parts)
    if known is not None and asked.answered_by(known):
        scorer.warm_up(part, cancellation, kernel_threads=usual.threads_per_worker, batch_rows=known.batch_rows)
        return known
    batches = scorer.warm_up(
        part, cancellation, kernel_threads=usual.threads_per_worker, rows=asked.rows, limit_seconds=asked.limit_seconds
    )
    each = min(trial.seconds / trial.rows for trial in batches)
    seconds = asked.rows * each / usual.workers
    found: tuple[WorkersTrial, ...] = ()
    if asked.settings.workers == "auto" and seconds > _WORTH_MEASURING_SECONDS:
        ways = splits(asked.cores, asked.parts)
        found = _workers(scorer, part, usual, ways, each=each, cancellation=cancellation) if len(ways) > 1 else ()
    way = (found[0].workers, found[0].kernel_threads) if found else (usual.workers, usual.threads_per_worker)
    together: tuple[BatchTrial, ...] = ()
    if asked.settings.rows == "auto" and seconds > _WORTH_TRYING_SECONDS:
        within = [one for one in batches if asked.limit_seconds is None or one.seconds <= asked.limit_seconds]
        together = _together(scorer, part, way, within, cancellation)
        if together:
            scorer.batch_rows = fastest(together, asked.limit_seconds)
    return TuningReport(scorer.batch_rows, way[0], asked.rows, time(), batches, found, together)


def _together(
    scorer: Scorer, part: Part, way: Way, alone: Sequence[BatchTrial], cancellation: Cancellation
) -> tuple[BatchTrial, ...]:
    """What batches take with all workers at it: of sizes from a quarter of the one that was the best alone upwards.

    Workers share memory, caches and the interpreter, and small batches suffer most from that. Nothing where a worker is alone.
    """
    workers, _ = way
    sizes = [one.rows for one in alone if scorer.batch_rows // 4 <= one.rows <= part.rows // workers]
    if workers == 1 or len(sizes) < 2:  # noqa: PLR2004  a choice
        return ()
    infer = scorer.held(part)

    def speed(size: int, warm: bool) -> float:  # noqa: FBT001  as `_in_turns` calls it
        return _speed(_spans(infer, part.rows, size), way, _slot(sizes), 0.0, cancellation, warm=warm)

    speeds = _in_turns(sizes, speed)
    return tuple(BatchTrial(size, workers * size / median(found)) for size, found in speeds.items() if median(found))


def _workers(
    scorer: Scorer, part: Part, usual: LocalEngine, ways: Sequence[Way], *, each: float, cancellation: Cancellation
) -> tuple[WorkersTrial, ...]:
    """The ways to share out the cores, the one to use first. `each` is how many seconds a row takes, about.

    Preparing and inferring are measured, with all workers at it; reading, which each does on one core, comes on top as it was
    for this part. Another way than the usual one must be faster in every round, and by enough.
    """
    began = perf_counter()
    infer = scorer.held(part)
    reading = (perf_counter() - began) / part.rows
    first = (usual.workers, usual.threads_per_worker)
    ways = list(dict.fromkeys([first, *ways]))
    slot = _slot(ways)
    size = max(1, min(scorer.batch_rows, part.rows, int(slot / each)))
    spans = _spans(infer, part.rows, size)
    speeds = _in_turns(ways, lambda way, warm: _speed(spans, way, slot, reading, cancellation, warm=warm))
    surely = [way for way in ways if all(map(_beats, speeds[way], speeds[first]))]
    best = max(surely, key=lambda way: median(speeds[way]), default=first)
    ordered = sorted(ways, key=lambda way: (way != best, -median(speeds[way])))
    return tuple(WorkersTrial(*way, median(speeds[way])) for way in ordered)


def _slot(choices: Sequence[object]) -> float:
    """Seconds for each of the choices in each round."""
    return _SECONDS / (_ROUNDS * len(choices))


def _spans(infer: Callable[[int, int], Batch], rows: int, size: int) -> list[Span]:
    """Full batches of so many rows."""
    return [Span(infer, row, row + size) for row in range(0, rows - size + 1, size)]


def _in_turns(choices: Sequence[Choice], speed: Callable[[Choice, bool], float]) -> dict[Choice, list[float]]:
    """The speed of each choice in each round, every second one backwards. `speed` is told whether it was tried before."""
    speeds: dict[Choice, list[float]] = {choice: [] for choice in choices}
    for number in range(_ROUNDS):
        for choice in choices if number % 2 else reversed(choices):
            speeds[choice].append(speed(choice, bool(number)))
    return speeds


def _beats(speed: float, usual: float) -> bool:
    return speed * WORTH_WHILE > usual


def _speed(spans: Sequence[Span], way: Way, seconds: float, reading: float, cancellation: Cancellation, *, warm: bool) -> float:
    """Rows a second with so many workers of so many kernel threads, of which each reads at `reading` seconds a row.

    0 where the batches of so many don't fit into memory.
    """
    workers, kernel_threads = way
    try:
        found = trial(
            spans,
            seconds,
            workers=workers,
            kernel_threads=kernel_threads,
            cancellation=cancellation,
            clock=perf_counter,
            warm=warm,
        )
    except OutOfMemoryError:
        return 0.0  # so many batches at once don't fit: this is no way to go
    return workers / (workers / found.rows_per_second + reading)
