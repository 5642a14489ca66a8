"""How many rows to a batch, measured on the real model and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

SIZES = (256, 1024, 2048, 4096, 16_384)
"""The sizes tried, in rows."""

_LEAST_SECONDS, _MOST_SECONDS = 0.05, 0.5
_SHARE = 0.1
"""Of the time that inferring all rows will take: more is not won back."""
WORTH_WHILE = 0.95
"""A larger batch must take less than this share of the time for each row: small ones take less memory."""


def fastest(
    infer: Callable[[int], object],
    *,
    available: int,
    clock: Callable[[], float] = perf_counter,
    budget_seconds: float = _MOST_SECONDS,
) -> int:
    """The number of rows that `infer` is fastest with, for each row, of `SIZES` up to `available`.

    Takes about `budget_seconds`: a size that would take longer is not tried. `clock` counts seconds.
    """
    sizes = [size for size in SIZES if size <= available] or [available]
    deadline = clock() + budget_seconds
    best, best_seconds = sizes[0], float("inf")
    for position, size in enumerate(sizes):
        if position and best_seconds * size > deadline - clock():
            break
        share = (deadline - clock()) / (len(sizes) - position)
        seconds = _seconds_for_each_row(infer, size, clock() + share, clock)
        if seconds < best_seconds * WORTH_WHILE:
            best, best_seconds = size, seconds
    return best


def budget_seconds(rows: int, seconds_for_each_row: float) -> float:
    """How long to measure for a run that will infer so many rows: a tenth of the time, within bounds."""
    return min(_MOST_SECONDS, max(_LEAST_SECONDS, _SHARE * rows * seconds_for_each_row))


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """Run kernels of this thread with so many threads; it is a setting of each thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds_for_each_row(infer: Callable[[int], object], size: int, until: float, clock: Callable[[], float]) -> float:
    """The best of several tries, after one that doesn't count unless there is no time for another."""
    seconds = float("inf")
    for attempt in range(1_000):
        started = clock()
        infer(size)
        ended = clock()
        if attempt == 1:
            seconds = float("inf")
        seconds = min(seconds, (ended - started) / size)
        if ended + (ended - started) > until:
            break
    return seconds
