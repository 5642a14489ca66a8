"""What the batches of one run took, thinned out to what a figure can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import DataError

MOST = 200
_COLUMNS = ("latency_seconds", "throughput_rows_per_second")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive batches `first` to `last` (from 1), with their lowest, middle and highest latency and throughput."""

    first: int
    last: int
    latency_seconds: tuple[float, float, float]
    rows_per_second: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class BatchTrace:
    """A run's batches in the order in which their parts were committed, in at most `MOST` stretches."""

    batches: int
    stretches: tuple[Stretch, ...]

    @property
    def thinned(self) -> bool:
        """Whether a stretch stands for more than one batch."""
        return self.batches > len(self.stretches)


def read(path: Path) -> BatchTrace | None:
    """The trace of the run whose records lie at `path`; None when there are none.

    Raises:
        DataError: the file can't be read, or isn't what a run leaves there.

    """
    try:
        if not path.exists():
            return None
        with pq.ParquetFile(path) as file:
            table = file.read(columns=list(_COLUMNS))
        # As lists: arrays of numpy would bring in pandas.
        latency, speed = (list(map(float, table[name].to_pylist())) for name in _COLUMNS)
        return BatchTrace(len(latency), tuple(_stretches(latency, speed)))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:  # no Parquet, no such column, no numbers
        raise DataError(f"batch records {path}: can't be read: {error}; delete the file to report without it") from error


def _stretches(latency: list[float], speed: list[float]) -> Iterator[Stretch]:
    count = min(len(latency), MOST)
    edges = [number * len(latency) // count for number in range(count + 1)] if count else []
    for start, end in pairwise(edges):
        yield Stretch(start + 1, end, _spread(latency[start:end]), _spread(speed[start:end]))


def _spread(values: list[float]) -> tuple[float, float, float]:
    return min(values), median(values), max(values)
