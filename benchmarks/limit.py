"""The limit: how fast this machine would be if nothing but decoding, forward and encoding took time.

cores ÷ (one thread's seconds for each row of decode + forward at the best batch size + encode). No stacking, no
softmax, no flushing, no waiting, and every core as fast as one alone: nobody gets there; the share says how near.
"""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from statistics import mean
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.rounds import Contender, Timing
from benchmarks.workload import SEED, Workload
from monitoring.resources import available_cores
from pipelines import tuning

LIMIT, TOGETHER = "limit", "limit of busy cores"
BATCH_SIZES = (512, 1024, 2048, 4096, 8192, 16_384)
_DIFFERENCES = dict.fromkeys(("id", "prediction"), "DELTA_BINARY_PACKED")
_PART_ROWS = 131_072
_FORWARD_ROWS = 262_144
"""Rows inferred at each batch size; an eighth of the rows, where that is less."""
_barrier: Barrier | None = None


def limit(workload: Workload, name: str = LIMIT) -> Contender:
    """The seconds that all rows would take at the limit: its parts are measured, and added up."""
    sizes = ", ".join(f"{rows:,}" for rows in BATCH_SIZES)
    settings = f"{available_cores()} cores ÷ one thread's decode + forward at the best of {sizes} rows + encode"
    return Contender(name, settings, lambda: _seconds(workload))


def together(workload: Workload) -> Contender:
    """The same parts, measured in a process for each core at once: what is left of the limit when all cores are busy."""
    settings = f"the limit's parts, but in {available_cores()} processes at once, which share nothing but the machine"
    return Contender(TOGETHER, settings, lambda: _together(workload))


def _together(workload: Workload) -> Timing:
    context, cores = get_context("spawn"), available_cores()
    with context.Pool(cores, _meet_at, (context.Barrier(cores),)) as pool:
        found = pool.map(_each_at_once, [workload] * cores, chunksize=1)
    seconds = mean(each for each, _ in found) * workload.rows / cores
    return Timing(seconds, seconds, found[0][1])


def _meet_at(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603  it comes with the process, and can't come with the work
    _barrier = barrier


def _each_at_once(workload: Workload) -> tuple[float, int]:
    assert _barrier is not None  # the pool has seen to it
    _barrier.wait()
    return _each(workload)


def _seconds(workload: Workload) -> Timing:
    each, batch_rows = _each(workload)
    seconds = each * workload.rows / available_cores()
    return Timing(seconds, seconds, batch_rows)


def _each(workload: Workload) -> tuple[float, int]:
    """One thread's seconds for each row, and the batch size that was best."""
    model = workload.model()
    with tuning.kernel_threads(1):
        sizes = [rows for rows in BATCH_SIZES if rows <= workload.rows] or [workload.rows]
        forward, batch_rows = min((_forward_seconds(workload, model, rows), rows) for rows in sizes)
        return _decode_seconds(workload) + forward + _encode_seconds(workload), batch_rows


def _decode_seconds(workload: Workload) -> float:
    """For each row: one part after the other, each forgotten before the next."""
    started = perf_counter()
    for path in workload.inputs:
        with pq.ParquetFile(path) as file:
            for groups in _parts(file.num_row_groups, workload.group_rows):
                file.read_row_groups(groups, use_threads=False)
    return (perf_counter() - started) / workload.rows


def _parts(groups: int, group_rows: int) -> Iterator[range]:
    """Row groups that make a part of the usual size."""
    size = max(1, _PART_ROWS // group_rows)
    return (range(first, min(first + size, groups)) for first in range(0, groups, size))


def _forward_seconds(workload: Workload, model: torch.nn.Module, batch_rows: int) -> float:
    """For each row: the same batch again and again, ready in memory, in the layout that is cheapest to fill."""
    rows = workload.batch(batch_rows)
    batches = max(1, min(_FORWARD_ROWS, workload.rows // 8) // batch_rows)
    with torch.inference_mode():
        model(rows)
        started = perf_counter()
        for _ in range(batches):
            model(rows)
    return (perf_counter() - started) / (batches * batch_rows)


def _encode_seconds(workload: Workload) -> float:
    """For each row: id, prediction and score as zstd Parquet, in memory, in the encodings that were found fastest."""
    scores = np.random.default_rng(SEED).random(_PART_ROWS, dtype=np.float32)
    started = perf_counter()
    part_rows = min(_PART_ROWS, workload.rows // workload.shape.files)
    for first in range(0, workload.rows, part_rows):
        rows = min(part_rows, workload.rows - first)
        predictions = (scores[:rows] >= 0.5).astype(np.int64)  # noqa: PLR2004  as the job decides
        table = pa.table({"id": np.arange(first, first + rows), "prediction": predictions, "score": scores[:rows]})
        pq.write_table(table, pa.BufferOutputStream(), compression="zstd", use_dictionary=False, column_encoding=_DIFFERENCES)
    return (perf_counter() - started) / workload.rows
