"""What people write by hand, with settings that were tried out and found best for it.

Both write what batchgauge writes (id, prediction, score; zstd) and flush it to disk. Both take batches of 4,096
rows and come with one kernel thread and with one for each core: cores win while the machine is quiet, one when
it isn't, and batchgauge is compared with whichever did better.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]  # it publishes no types
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.rounds import Contender, Timing
from benchmarks.workload import FEATURES, Workload
from monitoring.resources import available_cores
from pipelines import tuning

BATCH_ROWS = 4096
PANDAS_LOOP, DATA_LOADER = "pandas loop", "DataLoader"

Batch = tuple[torch.Tensor, torch.Tensor]
Scored = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
Score = Callable[[Path, torch.nn.Module], Scored]


def pandas_loops(workload: Workload) -> tuple[Contender, ...]:
    """All rows in one DataFrame, a loop over slices of it."""
    settings = "pd.read_parquet (all cores), the frame's own block without a copy, batches of 4,096"
    return _by_kernel_threads(workload, PANDAS_LOOP, settings, score_frame)


def data_loaders(workload: Workload) -> tuple[Contender, ...]:
    """An `IterableDataset` that yields whole batches. Worker processes were tried: one or two take about twice as long."""
    settings = "row groups read on all cores, batches of 4,096 stacked row-major, batch_size=None, num_workers=0"
    return _by_kernel_threads(workload, DATA_LOADER, settings, score_loaded)


def _by_kernel_threads(workload: Workload, name: str, settings: str, score: Score) -> tuple[Contender, ...]:
    return tuple(_contender(workload, name, settings, score, threads) for threads in sorted({1, available_cores()}))


def _contender(workload: Workload, name: str, settings: str, score: Score, kernel_threads: int) -> Contender:
    variant = f"{kernel_threads} kernel thread{'s'[: kernel_threads - 1]}"

    def run() -> Timing:
        started = perf_counter()
        model = workload.model()
        loaded = perf_counter()
        with tuning.kernel_threads(kernel_threads), torch.inference_mode():
            identifiers, scores = score(workload.input, model)
        _write(workload.output(f"{name}, {variant}"), identifiers, scores)
        ended = perf_counter()
        return Timing(ended - loaded, ended - started, BATCH_ROWS)

    return Contender(name, settings, run, variant)


def score_frame(path: Path, model: torch.nn.Module) -> Scored:
    """The pandas loop."""
    frame = pd.read_parquet(path)
    values = frame[list(FEATURES)].to_numpy()
    values.flags.writeable = True  # pandas says no, torch then warns, and nothing here writes
    rows = torch.from_numpy(values)
    scores = [_score(model(rows[first : first + BATCH_ROWS])) for first in range(0, len(rows), BATCH_ROWS)]
    return frame["id"].to_numpy(), torch.cat(scores).numpy()


class ParquetBatches(IterableDataset[Batch]):
    """Batches of (ids `[N]`, features `[N, 32]`), one row group in memory at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Batch]:
        """Yield them in the order of the file."""
        with pq.ParquetFile(self._path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                identifiers = table["id"].to_numpy()
                columns = [table[name].to_numpy() for name in FEATURES]
                for first in range(0, len(identifiers), BATCH_ROWS):
                    batch = slice(first, first + BATCH_ROWS)
                    features = np.stack([column[batch] for column in columns], axis=1)
                    yield torch.tensor(identifiers[batch]), torch.from_numpy(features)


def score_loaded(path: Path, model: torch.nn.Module) -> Scored:
    """The DataLoader's loop."""
    loader: DataLoader[Any] = DataLoader(ParquetBatches(path), batch_size=None, num_workers=0)
    scored = [(identifiers, _score(model(features))) for identifiers, features in loader]
    identifiers, scores = zip(*scored, strict=True)
    return torch.cat(identifiers).numpy(), torch.cat(scores).numpy()


def _score(logits: torch.Tensor) -> torch.Tensor:
    """The probability of the positive class, float32 `[N]`."""
    return torch.softmax(logits, dim=1)[:, 1]


def _write(folder: Path, identifiers: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> None:
    predictions = (scores >= 0.5).astype(np.int64)  # noqa: PLR2004  the job's decision threshold
    frame = pd.DataFrame({"id": identifiers, "prediction": predictions, "score": scores})
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "predictions.parquet").open("wb") as file:
        frame.to_parquet(file, compression="zstd", index=False)
        file.flush()
        os.fsync(file.fileno())
