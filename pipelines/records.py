"""What every batch of a run took, kept as one Parquet file for each run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import DataError
from pipelines.report import BatchRecord

SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("part", pa.string()),
        ("batch", pa.int64()),
        ("rows", pa.int64()),
        ("latency_seconds", pa.float64()),
        ("throughput_rows_per_second", pa.float64()),
        ("read_seconds", pa.float64()),
        ("prepare_seconds", pa.float64()),
        ("infer_seconds", pa.float64()),
        ("write_seconds", pa.float64()),
    ]
)
_ROWS_IN_MEMORY = 10_000


class RecordWriter:
    """Collects a run's batch records in `<folder>/.<run_id>.tmp`, which `close` makes `<folder>/<run_id>.parquet`.

    Raises:
        DataError: from any method, when the file can't be written. The records of the run are then incomplete,
            and the run itself need not care.

    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self.path = folder / f"{run_id}.parquet"
        self._temporary = folder / f".{run_id}.tmp"
        self._run_id = run_id
        self._waiting: list[BatchRecord] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, batches: Iterable[BatchRecord]) -> None:
        """Keep these records, in order. Every now and then they are written."""
        self._waiting += batches
        if len(self._waiting) >= _ROWS_IN_MEMORY:
            self._write()

    def close(self) -> None:
        """Write what is left and put the file in its place. A run without batches leaves no file."""
        if self._writer is None and not self._waiting:
            return
        self._write()
        try:
            if self._writer is not None:
                self._writer.close()
            self._temporary.replace(self.path)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            if self._writer is None:
                self._temporary.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(self._temporary, SCHEMA, compression="zstd")
            self._writer.write_table(self._table(waiting))
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error

    def _table(self, batches: list[BatchRecord]) -> pa.Table:
        columns = {name: [getattr(batch, name) for batch in batches] for name in BatchRecord._fields}
        columns["throughput_rows_per_second"] = [batch.throughput_rows_per_second for batch in batches]
        columns["infer_seconds"] = columns["latency_seconds"]
        columns["run"] = [self._run_id] * len(batches)
        return pa.table(columns).select(SCHEMA.names).cast(SCHEMA)

    def _failed(self, error: Exception) -> DataError:
        with contextlib.suppress(OSError):  # the first failure is the one to tell
            self._temporary.unlink(missing_ok=True)
        return DataError(f"batch records {self.path}: can't be written: {error}; check the folder and the space on its disk")


def prune(folder: Path, keep_runs: int) -> None:
    """Keep the records of the newest runs (by time of writing), and remove the others and what dead runs left.

    Raises:
        DataError: a file can't be removed.

    """
    try:
        files = sorted(folder.glob("*.parquet"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
        for path in [*files[keep_runs:], *folder.glob(".*.tmp")]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"batch records in {folder}: can't be removed: {error}") from error
