"""Finding files, planning parts, reading them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError, UnreadableError
from pipelines.finding import InputFile, find_files
from pipelines.planning import Part, plan
from pipelines.reading import Reader, read


def write(path: Path, rows: int, *, groups: list[int] | None = None, start: int = 0) -> Path:
    """`rows` rows of x = 0, 1, 2, …, cut into row groups of the sizes given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"x": np.arange(start, start + rows, dtype=np.int64), "y": np.arange(rows) * 0.5})
    with pq.ParquetWriter(path, table.schema) as writer:
        offset = 0
        for size in groups or [rows]:
            writer.write_table(table.slice(offset, size))
            offset += size
    return path


def any_schema(_schema: pa.Schema) -> None:
    """Whatever it is, it will do."""


def only_part(path: Path) -> Part:
    (part,) = plan(find_files(str(path)), check_schema=any_schema, part_rows=1_000).parts
    return part


def relatives(path: Path | str) -> list[str]:
    return [file.relative for file in find_files(str(path))]


def test_a_folder_is_searched_recursively_and_what_is_hidden_is_ignored(tmp_path: Path) -> None:
    """Parquet files of all three suffixes are found; names that begin with _ or . and other files are not."""
    for name in ("b.parquet", "a/z.pq", "a/y.parq", "_temporary/no.parquet", ".git/no.parquet", "_SUCCESS", "a/.no.parquet"):
        write(tmp_path / name, 1)
    (tmp_path / "notes.txt").write_text("no")
    assert relatives(tmp_path) == ["a/y.parq", "a/z.pq", "b.parquet"]


def test_a_file_is_found_by_its_own_name_whatever_that_is(tmp_path: Path) -> None:
    """A file that is named outright is taken as it is, and its relative path is its name."""
    path = write(tmp_path / "_odd[1].data", 1)
    assert find_files(str(path)) == (InputFile(path, "_odd[1].data"),)


def test_a_glob_is_relative_to_its_constant_prefix(tmp_path: Path) -> None:
    """`**` and globs that match folders work, and no file is found twice."""
    write(tmp_path / "date=1" / "a.parquet", 1)
    write(tmp_path / "date=2" / "deep" / "a.parquet", 1)
    write(tmp_path / "date=2" / "_rejects" / "a.parquet", 1)
    assert relatives(tmp_path / "date=*") == ["date=1/a.parquet", "date=2/deep/a.parquet"]
    assert relatives(tmp_path / "**" / "*.parquet") == ["date=1/a.parquet", "date=2/deep/a.parquet"]
    assert relatives(tmp_path / "**") == ["date=1/a.parquet", "date=2/deep/a.parquet"]


def test_a_folder_above_that_is_hidden_does_not_matter(tmp_path: Path) -> None:
    """Only names below the path are looked at: data may live in ~/.cache."""
    write(tmp_path / ".cache" / "_data" / "a.parquet", 1)
    assert relatives(tmp_path / ".cache" / "_data") == ["a.parquet"]
    assert relatives(tmp_path / ".cache" / "_data" / "*.parquet") == ["a.parquet"]


def test_nothing_there_is_no_files(tmp_path: Path) -> None:
    """Nothing that matches is an empty tuple: whether that is an error is not decided here."""
    assert find_files(str(tmp_path / "missing")) == ()
    assert find_files(str(tmp_path / "missing" / "*.parquet")) == ()
    assert find_files(str(tmp_path)) == ()


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe would block for ever, so it is refused by name."""
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(DataError, match=r"pipe\.parquet: is neither a file nor a folder"):
        find_files(str(tmp_path / "pipe.parquet"))
    (rejection,) = plan(find_files(str(tmp_path)), check_schema=any_schema, part_rows=1).rejections
    assert "is not a regular file" in rejection.error


def test_a_folder_linked_into_itself_is_read_once(tmp_path: Path) -> None:
    """A loop of links neither hangs nor counts rows twice."""
    write(tmp_path / "a.parquet", 1)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert relatives(tmp_path) == ["a.parquet"]


@settings(deadline=None)
@given(groups=st.lists(st.integers(0, 40), max_size=8), part_rows=st.integers(1, 100))
def test_parts_cover_every_row_once(tmp_path_factory: pytest.TempPathFactory, groups: list[int], part_rows: int) -> None:
    """However a file is cut, its parts give all rows in order, none has none, and none is too large to avoid."""
    path = write(tmp_path_factory.mktemp("cut") / "a.parquet", sum(groups), groups=groups)
    parts = plan(find_files(str(path)), check_schema=any_schema, part_rows=part_rows).parts
    rows = [value for part in parts for value in read(part, ["x"])["x"].to_pylist()]
    assert rows == list(range(sum(groups)))
    assert [part.first_row for part in parts] == list(np.cumsum([0, *(part.rows for part in parts)])[:-1][: len(parts)])
    assert all(part.rows > 0 for part in parts)
    assert all(part.rows <= max(part_rows, max(groups, default=0)) for part in parts)


def test_parts_are_named_after_folder_file_and_row_groups(tmp_path: Path) -> None:
    """Sub-folders are mirrored, so equal stems in different folders don't collide."""
    write(tmp_path / "a.parquet", 30, groups=[10, 10, 10])
    write(tmp_path / "sub" / "a.parquet", 5)
    parts = plan(find_files(str(tmp_path)), check_schema=any_schema, part_rows=20).parts
    assert [part.name for part in parts] == ["a-0-1.parquet", "a-2-2.parquet", "sub/a-0-0.parquet"]


def test_two_files_with_one_output_are_refused(tmp_path: Path) -> None:
    """`a.parquet` and `a.pq` would overwrite each other: both are named."""
    write(tmp_path / "a.parquet", 1)
    write(tmp_path / "a.pq", 1)
    with pytest.raises(DataError, match=r"a\.pq and .*a\.parquet"):
        plan(find_files(str(tmp_path)), check_schema=any_schema, part_rows=1)


def test_damaged_and_unfit_files_are_rejected_by_name_and_the_rest_is_planned(tmp_path: Path) -> None:
    """A truncated, an empty and a foreign file, and one with the wrong schema, are rejections; a good one is planned."""
    good = write(tmp_path / "good.parquet", 3)
    (tmp_path / "cut.parquet").write_bytes(good.read_bytes()[:-20])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "foreign.parquet").write_bytes(b"id,x\n1,2\n" * 9)
    (tmp_path / "footer.parquet").write_bytes(b"PAR1" + b"\xff" * 60 + (50).to_bytes(4, "little") + b"PAR1")
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    pq.write_table(pa.table({"z": [1]}), tmp_path / "unfit.parquet")

    def check(schema: pa.Schema) -> None:
        if "x" not in schema.names:
            raise DataError("no column 'x'")

    found = plan(find_files(str(tmp_path)), check_schema=check, part_rows=10)
    assert [part.source for part in found.parts] == [str(good)]
    names = [Path(rejection.source).name for rejection in found.rejections]
    assert names == ["cut.parquet", "empty.parquet", "footer.parquet", "foreign.parquet", "gone.parquet", "unfit.parquet"]
    assert all(Path(rejection.source).name in rejection.error or "'x'" in rejection.error for rejection in found.rejections)


def test_a_name_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    """It could be written into no report and no metric; what is said of it can."""
    write(tmp_path / "a.parquet", 1).rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.parquet")))
    (rejection,) = plan(find_files(str(tmp_path)), check_schema=any_schema, part_rows=1).rejections
    assert rejection.source == f"{tmp_path}/\\xff.parquet"
    assert "rename the file" in rejection.error
    assert rejection.error.encode()


def test_a_file_without_rows_is_neither_part_nor_rejection(tmp_path: Path) -> None:
    """An empty file's schema doesn't matter: writers lose types where there are no values."""

    def refuse(_schema: pa.Schema) -> None:
        raise DataError("never asked")

    write(tmp_path / "a.parquet", 0)
    assert plan(find_files(str(tmp_path)), check_schema=refuse, part_rows=10) == ((), ())


def test_the_fingerprint_tells_versions_and_row_groups_apart(tmp_path: Path) -> None:
    """The same file twice gives the same fingerprint; another content, time or range of row groups does not."""
    path = write(tmp_path / "a.parquet", 20, groups=[10, 10])
    first, second = plan(find_files(str(path)), check_schema=any_schema, part_rows=10).parts
    again, _ = plan(find_files(str(path)), check_schema=any_schema, part_rows=10).parts
    assert first.fingerprint == again.fingerprint != second.fingerprint
    times = path.stat()
    write(path, 20, groups=[10, 10], start=1)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed, _ = plan(find_files(str(path)), check_schema=any_schema, part_rows=10).parts
    assert changed.fingerprint != first.fingerprint


def test_columns_come_in_the_order_asked_and_a_missing_one_is_named(tmp_path: Path) -> None:
    """`a` and `a.b` are two columns, although Parquet's paths make one look like part of the other."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1], "a.b": [2], "c": [3]}), path)
    part = only_part(path)
    assert read(part, ["c", "a"]).to_pylist() == [{"c": 3, "a": 1}]
    with pytest.raises(UnreadableError, match=r"a\.parquet: has no column 'label'"):
        read(part, ["label"])


def test_a_file_that_changes_after_planning_is_not_read(tmp_path: Path) -> None:
    """Rows of another version would be committed under the wrong fingerprint."""
    path = write(tmp_path / "a.parquet", 5)
    part = only_part(path)
    write(path, 5, start=100)
    with pytest.raises(UnreadableError, match=r"a\.parquet: was changed while the run was reading it"):
        read(part, ["x"])
    path.unlink()
    with pytest.raises(UnreadableError, match=r"a\.parquet, row groups 0 to 0: can't be read: No such file"):
        read(part, ["x"])


def test_damaged_pages_are_named(tmp_path: Path) -> None:
    """A file whose footer is whole and whose data is not fails when read, naming file and row groups."""
    path = write(tmp_path / "a.parquet", 1_000)
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"a\.parquet, row groups 0 to 0: can't be read"):
        read(only_part(path), ["x", "y"])


def test_a_flipped_bit_is_found_where_the_writer_left_checksums(tmp_path: Path) -> None:
    """Pages with a checksum are checked, so a wrong number is never scored."""
    path = tmp_path / "a.parquet"
    table = pa.table({"x": np.arange(1_000.0)})
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[2_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"(?i)crc|checksum"):
        read(only_part(path), ["x"])


def test_a_reader_opens_a_file_once_for_all_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many parts has a large footer: parsing it for each of them would make it cost the square."""
    path = write(tmp_path / "a.parquet", 40, groups=[10] * 4)
    other = write(tmp_path / "b.parquet", 5)
    parts = plan(find_files(str(tmp_path)), check_schema=any_schema, part_rows=10).parts
    opened: list[Path] = []
    parquet_file = pq.ParquetFile

    def opening(path: Path, **options: bool) -> pq.ParquetFile:
        opened.append(path)
        return parquet_file(path, **options)

    monkeypatch.setattr(pq, "ParquetFile", opening)
    reader = Reader()
    assert [len(reader.read(part, ["x"])) for part in parts] == [10, 10, 10, 10, 5]
    assert opened == [path, other]


@pytest.mark.parametrize("age_seconds", [0, 3_600])
def test_a_file_that_changes_between_two_parts_is_not_read_on(tmp_path: Path, age_seconds: int) -> None:
    """Written over, or replaced, by one of the same size and time; what comes next is read as if nothing had been."""
    path = write(tmp_path / "a.parquet", 20, groups=[10, 10])
    then = path.stat().st_mtime_ns - age_seconds * 10**9
    os.utime(path, ns=(then, then))
    first, second = plan(find_files(str(path)), check_schema=any_schema, part_rows=10).parts
    other = write(tmp_path / "other" / "b.parquet", 5)
    reader = Reader()
    for replace in (lambda fresh: path.write_bytes(fresh.read_bytes()), lambda fresh: fresh.replace(path)):
        before = path.read_bytes()
        assert len(reader.read(first, ["x"])) == 10
        replace(write(tmp_path / "other" / "fresh.parquet", 20, groups=[10, 10], start=100))
        os.utime(path, ns=(then, then))
        with pytest.raises(UnreadableError, match=r"a\.parquet: was changed while the run was reading it"):
            reader.read(second, ["x"])
        assert len(reader.read(only_part(other), ["x"])) == 5
        path.write_bytes(before)
        os.utime(path, ns=(then, then))
