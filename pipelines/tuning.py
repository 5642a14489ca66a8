"""How many rows to a batch, measured on the real model and data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

import torch

from pipelines.planning import Part
from pipelines.report import BatchTrial

SIZES = (256, 1024, 2048, 4096, 8192, 16_384)
"""The sizes tried, in rows. Where the first is the best and slow, or above a limit on latency, smaller ones follow."""

ENOUGH_ROWS = 4 * max(SIZES)
"""More of a part are not at hand to be tried."""

_LEAST_SECONDS, _MOST_SECONDS = 0.05, 0.35
_SHARE = 0.1
"""Of the time that inferring all rows will take: more is not won back."""
_SLOW_SECONDS = 0.01
"""What a batch has worked on for so long may have left the caches, and what each batch costs beside it no longer counts."""
WORTH_WHILE = 0.95
"""Another way to go must take less than this share of the usual one's time: less can't be told from noise."""
_WORTH_ITS_MEMORY = 0.98
"""The same of a larger batch, for each row: a small one only takes less memory."""


Infer = Callable[[int], float]
"""Infers a batch of so many rows, the next ones; returns which share of them was valid, and so had to be inferred."""


def measured(
    infer: Infer,
    *,
    available: int,
    clock: Callable[[], float] = perf_counter,
    budget_seconds: float = _MOST_SECONDS,
    limit_seconds: float | None = None,
) -> tuple[BatchTrial, ...]:
    """What a batch takes with the numbers of rows of `SIZES` up to `available`. None where no valid row was met.

    Takes about `budget_seconds`: a size that would take longer is not tried. A quarter of the smallest is tried where that is
    the best and its batch takes long. `clock` counts seconds. `limit_seconds` is what a batch may take: the first that takes
    longer is the last, and where that is the smallest, smaller ones follow.
    """
    sizes = [size for size in SIZES if size <= available] or [available]
    deadline = clock() + budget_seconds
    trials: list[BatchTrial] = []

    def attempt(size: int, share: float) -> BatchTrial | None:
        seconds = _seconds(infer, size, clock() + share, clock)
        if seconds is None:
            return None
        trials.append(BatchTrial(size, seconds))
        return trials[-1]

    for position, size in enumerate(sizes):
        left = deadline - clock()
        if trials and (_late(trials[-1].seconds, limit_seconds) or min(map(_each, trials)) * size > left):
            break
        if position and not trials and left < 0:
            break
        attempt(size, left / (len(sizes) - position) if len(sizes) > 1 else 0.0)  # of one, once is enough
    if not trials:
        return ()
    first = trials[0]
    fewer = first.rows // 4
    slow = first.seconds >= _SLOW_SECONDS and not _late(first.seconds, limit_seconds)
    if fewer and slow and fastest(trials) == first.rows and fewer * _each(first) < deadline - clock():
        attempt(fewer, deadline - clock())
    while limit_seconds is not None and _late(first.seconds, limit_seconds) and first.rows > 1:
        fitting = max(1, min(int(first.rows * limit_seconds / first.seconds), first.rows // 2))
        smaller = attempt(2 ** (fitting.bit_length() - 1), 0.0)
        if smaller is None:
            break
        first = smaller
    return tuple(trials)


def fastest(trials: Sequence[BatchTrial], limit_seconds: float | None = None) -> int:
    """The number of rows that takes the least time for each row, of those whose batch is within the limit.

    A larger one must be worth its memory. Where none keeps the limit, it is the one whose batch is the quickest.
    """
    allowed = [trial for trial in trials if not _late(trial.seconds, limit_seconds)]
    if not allowed:
        return min(trials, key=lambda trial: trial.seconds).rows
    smallest, *larger = sorted(allowed, key=lambda trial: trial.rows)
    best = smallest
    for trial in larger:
        if _each(trial) < _each(best) * _WORTH_ITS_MEMORY:
            best = trial
    return best.rows


def budget_seconds(rows: int, seconds_for_each_row: float) -> float:
    """How long to measure for a run that will infer so many rows: a tenth of the time, within bounds."""
    return min(_MOST_SECONDS, max(_LEAST_SECONDS, _SHARE * rows * seconds_for_each_row))


def to_measure_on(parts: Iterable[Part]) -> list[Part]:
    """The parts, those first that have rows for all sizes, then the larger ones: few rows leave little to choose from."""
    return sorted(parts, key=lambda part: -min(part.rows, ENOUGH_ROWS))


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """Run kernels of this thread with so many threads; it is a setting of each thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _each(trial: BatchTrial) -> float:
    return trial.seconds / trial.rows


def _late(seconds: float, limit_seconds: float | None) -> bool:
    return limit_seconds is not None and seconds > limit_seconds


def _seconds(infer: Infer, size: int, until: float, clock: Callable[[], float]) -> float | None:
    """The best of several tries, as if all rows were valid; the first doesn't count unless there is no time for another.

    None where no row was valid.
    """
    found: list[float] = []
    for _ in range(1_000):
        started = clock()
        share = infer(size)
        ended = clock()
        if share:
            found.append((ended - started) / share)
        if ended + (ended - started) > until:
            break
    return min(found[1:] or found, default=None)
