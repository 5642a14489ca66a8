"""Parts: what a run reads, infers and writes at once. Files are cut into them by their footers alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines import footers
from pipelines.errors import DataError
from pipelines.finding import InputFile
from pipelines.objects import Place, StoreError
from pipelines.report import Rejection


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive row groups of one file, `first_group` to `last_group` inclusive.

    `name` is the output's posix path relative to the output folder, `source` the absolute path, or the URI, of the
    file, `first_row` the number of the part's first row in it (from 0).

    `fingerprint` is the SHA-256 over the range of row groups and the SHA-256 over the file's size, modification time
    (ns) and footer. The footer has the schema, and of every column chunk its place, sizes and (with most writers) its
    statistics: a file that was rewritten differs in it or in its time, and the data need not be read to know.
    """

    name: str
    source: str
    first_group: int
    last_group: int
    rows: int
    fingerprint: str
    first_row: int = 0


class Plan(NamedTuple):
    """Parts in a fixed order, and the files that can't be used."""

    parts: tuple[Part, ...]
    rejections: tuple[Rejection, ...]


def plan(files: Sequence[InputFile], *, check_schema: Callable[[pa.Schema], None], part_rows: int) -> Plan:
    """Cut files into parts of up to `part_rows` rows, but at least one row group. A file without rows gives none.

    `check_schema` raises DataError for a schema that can't be scored; such a file, like one whose footer can't be
    read, is a rejection (and its schema doesn't matter when it has no rows).

    Raises:
        DataError: two files would be written to the same output; `StoreError` when an object store can't be asked.

    """
    _check_names(files)
    parts: list[Part] = []
    rejections: list[Rejection] = []
    for file in files:
        rows = 0
        try:
            version, metadata = footers.version_and_metadata(file.path)
            rows = metadata.num_rows
            if rows:
                _check_schema(file.path, metadata.schema.to_arrow_schema(), check_schema)
            parts += _cut(file, version, metadata, part_rows)
        except StoreError:
            raise
        except (DataError, pa.ArrowException, OSError) as error:
            rejections.append(Rejection(footers.printable(file.path), str(error), rows))
    return Plan(tuple(parts), tuple(rejections))


def _check_schema(path: Place, schema: pa.Schema, check_schema: Callable[[pa.Schema], None]) -> None:
    try:
        check_schema(schema)
    except DataError as error:
        raise DataError(f"{footers.printable(path)}: {error}") from error


def _check_names(files: Sequence[InputFile]) -> None:
    seen: dict[str, Place] = {}
    for file in files:
        stem = Path(file.relative).with_suffix("").as_posix()
        if stem in seen:
            raise DataError(f"{file.path} and {seen[stem]}: would be written to the same output; rename one of them")
        seen[stem] = file.path


def _cut(file: InputFile, version: str, metadata: Any, part_rows: int) -> Iterator[Part]:
    first, rows, first_row = 0, 0, 0
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    for group, size in enumerate(sizes):
        if rows and rows + size > part_rows:
            yield _part(file, version, (first, group - 1), rows, first_row)
            first, rows, first_row = group, 0, first_row + rows
        rows += size
    if rows:
        yield _part(file, version, (first, len(sizes) - 1), rows, first_row)


def _part(file: InputFile, version: str, groups: tuple[int, int], rows: int, first_row: int) -> Part:
    first, last = groups
    relative = Path(file.relative)
    name = (relative.parent / f"{relative.stem}-{first}-{last}.parquet").as_posix()
    return Part(name, str(file.path), first, last, rows, fingerprint(version, groups), first_row)


def fingerprint(version: str, groups: tuple[int, int]) -> str:
    """Of a part: its range of row groups, in this version of its file."""
    return hashlib.sha256(b"%d %d " % groups + version.encode()).hexdigest()
