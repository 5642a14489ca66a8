"""Per-batch records: one Parquet file a run, the newest kept."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.errors import DataError
from pipelines.records import SCHEMA, RecordWriter, prune
from pipelines.report import BatchRecord


def batch(number: int) -> BatchRecord:
    return BatchRecord("a-0-0.parquet", number, 100, 0.25, 0.5, 0.125, 0.125)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_batch_is_a_row(tmp_path: Path) -> None:
    """Columns, types and values; the throughput is rows over all the seconds spent on them."""
    writer = RecordWriter(tmp_path / "runs", "run-1")
    writer.add([batch(0), batch(1)])
    writer.add([])
    assert not writer.path.exists()
    writer.close()
    table = pq.read_table(tmp_path / "runs" / "run-1.parquet")
    assert table.schema == SCHEMA
    assert table.to_pylist()[1] == {
        "run": "run-1",
        "part": "a-0-0.parquet",
        "batch": 1,
        "rows": 100,
        "latency_seconds": 0.25,
        "throughput_rows_per_second": 100.0,
        "read_seconds": 0.5,
        "prepare_seconds": 0.125,
        "infer_seconds": 0.25,
        "write_seconds": 0.125,
    }
    assert names(tmp_path / "runs") == ["run-1.parquet"]


def test_many_batches_are_written_as_they_come(tmp_path: Path) -> None:
    """Memory is bounded; order is kept."""
    writer = RecordWriter(tmp_path, "run")
    for start in range(0, 25_000, 1_000):
        writer.add(batch(number) for number in range(start, start + 1_000))
        assert len(writer._waiting) < 10_000
    writer.close()
    assert pq.read_table(writer.path)["batch"].to_pylist() == list(range(25_000))


def test_a_run_without_batches_leaves_no_file(tmp_path: Path) -> None:
    """Nothing was inferred, so there is nothing to say, and no folder is made."""
    RecordWriter(tmp_path / "runs", "run").close()
    assert not (tmp_path / "runs").exists()


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """The caller decides what a DataError is worth."""
    (tmp_path / "runs").write_text("a file")
    writer = RecordWriter(tmp_path / "runs", "run")
    writer.add([batch(0)])
    with pytest.raises(DataError, match=r"batch records .*runs/run\.parquet: can't be written"):
        writer.close()
    (tmp_path / "taken.parquet").mkdir()
    writer = RecordWriter(tmp_path, "taken")
    writer.add([batch(0)])
    with pytest.raises(DataError, match=r"taken\.parquet: can't be written"):
        writer.close()
    assert names(tmp_path) == ["runs", "taken.parquet"]


def test_only_the_newest_runs_are_kept(tmp_path: Path) -> None:
    """By the time of writing, not by name; what a dead run left goes too, and foreign files stay."""
    for age, name in enumerate(["b", "d", "a", "c"]):
        (tmp_path / f"{name}.parquet").write_bytes(b"")
        os.utime(tmp_path / f"{name}.parquet", (1_000 - age, 1_000 - age))
    (tmp_path / ".dead.tmp").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    prune(tmp_path, 2)
    assert names(tmp_path) == ["b.parquet", "d.parquet", "notes.txt"]
    prune(tmp_path, 0)
    assert names(tmp_path) == ["notes.txt"]
    prune(tmp_path / "absent", 2)
