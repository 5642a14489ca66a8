"""Writing a part's predictions: whole, durably, or not at all."""

from __future__ import annotations

import fcntl
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DataError
from pipelines.sink import rejects_path, remove_leftovers, remove_part, stage_part

TABLE = pa.table({"id": [1, 2], "prediction": ["a", "b"]})
REJECTS = pa.table({"id": [3], "reason": ["nan"]})
DEAD = ".a-0-0.parquet.batchgauge-0123456789abcdef.tmp"


def write_part(table: pa.Table, path: Path, **options: Any) -> None:
    stage_part(table, path, **options).publish()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "none"])
def test_predictions_and_rejects_appear_in_their_places(tmp_path: Path, compression: str) -> None:
    """Folders are made as needed, nothing else is left, and the tables come back as they were."""
    path = tmp_path / "scored" / "sub" / "a-0-0.parquet"
    rejects = rejects_path(path, tmp_path / "scored")
    write_part(TABLE, path, compression=compression, rejects=REJECTS, rejects_path=rejects)
    assert names(tmp_path) == ["scored/_rejects/sub/a-0-0.parquet", "scored/sub/a-0-0.parquet"]
    assert pq.read_table(path).equals(TABLE)
    assert pq.read_table(rejects).equals(REJECTS)


def test_writing_again_replaces_and_removes_old_rejects(tmp_path: Path) -> None:
    """What is there belongs to the last writing, rejects too."""
    path = tmp_path / "a-0-0.parquet"
    rejects = rejects_path(path, tmp_path)
    write_part(TABLE, path, compression="zstd", rejects=REJECTS, rejects_path=rejects)
    write_part(TABLE.slice(1), path, compression="zstd", rejects=REJECTS.slice(1), rejects_path=rejects)
    assert names(tmp_path) == ["a-0-0.parquet"]
    assert pq.read_table(path).num_rows == 1


def test_a_part_without_rows_still_has_its_schema(tmp_path: Path) -> None:
    """All rows rejected is an empty file, which readers of the folder can take."""
    write_part(TABLE.slice(2), tmp_path / "a.parquet", compression="zstd")
    assert pq.read_table(tmp_path / "a.parquet").schema == TABLE.schema


def test_integers_of_any_width_and_distance_come_back(tmp_path: Path) -> None:
    """They are stored as differences, which overflow between the ends of their range, and wrap around."""
    kinds = (pa.int8(), pa.uint8(), pa.int16(), pa.uint32(), pa.int64(), pa.uint64())
    limits = {kind: np.iinfo(kind.to_pandas_dtype()) for kind in kinds}
    table = pa.table(
        {
            f"{kind}.{nothing}": pa.array([most.max, most.min, nothing, most.max], kind)
            for kind, most in limits.items()
            for nothing in (None, 7)
        }
    )
    write_part(table, tmp_path / "a.parquet", compression="zstd")
    assert pq.read_table(tmp_path / "a.parquet").equals(table)
    (column,) = {pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0).encodings}
    assert "DELTA_BINARY_PACKED" in column


@pytest.fixture
def _full_disk() -> Iterator[None]:
    """No file may grow past 64 KiB: the kernel refuses as a full disk does, in the middle of a write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("_full_disk")
def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path: Path) -> None:
    """The error names the file; the old predictions and their rejects stay, and no temporary file does."""
    path = tmp_path / "a-0-0.parquet"
    rejects = rejects_path(path, tmp_path)
    write_part(TABLE, path, compression="zstd", rejects=REJECTS, rejects_path=rejects)
    large = pa.table({"x": np.random.default_rng(0).random(100_000)})
    with pytest.raises(DataError, match=r"output .*a-0-0\.parquet: File too large; check the folder"):
        write_part(large, path, compression="none", rejects=REJECTS, rejects_path=rejects)
    with pytest.raises(DataError, match=r"output .*_rejects/a-0-0\.parquet: File too large"):
        write_part(TABLE, path, compression="none", rejects=large, rejects_path=rejects)
    assert names(tmp_path) == ["_rejects/a-0-0.parquet", "a-0-0.parquet"]
    assert pq.read_table(path).equals(TABLE)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where the folder should be, and a name that is too long."""
    (tmp_path / "scored").write_text("a file")
    with pytest.raises(DataError, match=r"output .*scored/a\.parquet: "):
        write_part(TABLE, tmp_path / "scored" / "a.parquet", compression="zstd")
    with pytest.raises(DataError, match="File name too long"):
        write_part(TABLE, tmp_path / ("a" * 250 + ".parquet"), compression="zstd")


def test_a_folder_in_the_file_s_place_is_named(tmp_path: Path) -> None:
    """The rename fails, and the temporary file goes."""
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(DataError, match=r"a\.parquet: Is a directory"):
        write_part(TABLE, tmp_path / "a.parquet", compression="zstd")
    assert names(tmp_path) == []


def test_leftovers_of_dead_runs_go_and_nothing_else_does(tmp_path: Path) -> None:
    """Only our own pattern, in every folder below; a file that a live run has locked stays."""
    (tmp_path / "_rejects").mkdir()
    others = ["a-0-0.parquet", ".a.tmp", ".hidden.parquet", "x.batchgauge-0123456789abcdef.tmp"]
    live = DEAD.replace("0123", "4567")
    for name in (*others, DEAD, f"_rejects/{DEAD}", live):
        (tmp_path / name).write_bytes(b"x")
    with (tmp_path / live).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
        assert names(tmp_path) == sorted([*others, live])
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(others)
    remove_leftovers(tmp_path / "absent")


def test_a_part_is_removed_with_its_rejects(tmp_path: Path) -> None:
    """Both files go; it may be done again."""
    path = tmp_path / "sub" / "a-0-0.parquet"
    write_part(TABLE, path, compression="zstd", rejects=REJECTS, rejects_path=rejects_path(path, tmp_path))
    for _ in range(2):
        remove_part(path, folder=tmp_path)
        assert names(tmp_path) == []


def test_what_is_staged_is_seen_by_nobody_before_it_is_published(tmp_path: Path) -> None:
    """And leaves nothing when it is forgotten."""
    path, rejects = tmp_path / "a.parquet", tmp_path / "_rejects" / "a.parquet"
    staged = stage_part(TABLE, path, compression="zstd", rejects=REJECTS, rejects_path=rejects)
    assert not path.exists()
    assert not rejects.exists()
    del staged
    assert names(tmp_path) == []
