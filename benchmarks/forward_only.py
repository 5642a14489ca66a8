"""The model alone, on rows that are ready in memory: what a compute-bound job is held against."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import NamedTuple

import torch

from benchmarks.rounds import Contender, Timing
from benchmarks.workload import Workload
from monitoring.resources import available_cores
from pipelines import tuning

FORWARD_ONLY = "forward only"
BATCH_SIZES = (64, 256, 1024, 4096)
_TIMED, _TRIED = 4, 32
"""Of so many rows one is inferred: it is the same batch again and again, so more would say no more."""


class _Way(NamedTuple):
    threads: int
    kernel_threads: int


def forward_only(workload: Workload, name: str) -> tuple[Contender, ...]:
    """Forward on all cores, and what all rows would take: one thread with a kernel thread for each, or a thread for each."""
    cores = available_cores()
    settings = f"forward of a quarter of the rows, the best of batches of {', '.join(map(str, BATCH_SIZES))}, ready in memory"
    ways = {f"{cores} kernel threads": _Way(1, cores), f"{cores} threads of one kernel thread": _Way(cores, 1)}
    return tuple(Contender(name, settings, partial(_best, workload, way), words) for words, way in ways.items())


def _best(workload: Workload, way: _Way) -> Timing:
    """The best batch size is looked for with some rows, then more are timed: the seconds that all of them would take."""
    model = workload.model()
    sizes = [size for size in BATCH_SIZES if size * way.threads <= workload.rows] or [1]
    tried, timed = (max(1, workload.rows // share) for share in (_TRIED, _TIMED))
    size = min(sizes, key=lambda size: _seconds(workload, model, way, size, tried))
    seconds = _seconds(workload, model, way, size, timed) * workload.rows / timed
    return Timing(seconds, seconds, size)


def _seconds(workload: Workload, model: torch.nn.Module, way: _Way, size: int, rows: int) -> float:
    """What `rows` rows take in batches of `size`, shared out among the threads, each warm before the clock starts."""
    batches = max(1, round(rows / size / way.threads))

    def infer(count: int) -> None:
        batch = workload.batch(size)
        with tuning.kernel_threads(way.kernel_threads), torch.inference_mode():
            for _ in range(count):
                model(batch)

    with ThreadPoolExecutor(way.threads) as pool:
        list(pool.map(infer, [1] * way.threads))
        started = perf_counter()
        list(pool.map(infer, [batches] * way.threads))
        return (perf_counter() - started) * rows / (batches * size * way.threads)
