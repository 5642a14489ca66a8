"""Predictions out: a part's files appear whole, durably, or not at all."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.durable import flush, flush_folder, make_folder
from pipelines.errors import DataError
from pipelines.objects import ObjectPath, Place, parquet_file

REJECTS_FOLDER = "_rejects"
_SOURCE = b"batchgauge.source"
_REPEATED = ("prediction", "reason", "source")
_TEMPORARY = re.compile(r"\..+\.batchgauge-[0-9a-f]{16}\.tmp")


class StagedPart:
    """A part's files, written beside their places where nobody sees them. They are gone unless `publish` is called."""

    def __init__(self, first: Callable[[], None], then: Callable[[], None], files: ExitStack) -> None:
        self._first = first
        self._then = then
        self._files = files

    def publish(self) -> None:
        """Put the files in their places, durably, rejects first: where there are predictions, there are their rejects.

        Raises:
            DataError: the disk is full, or the folder or bucket can't be written.

        """
        with self._files:
            self._first()
            self._then()


def stage_part(
    table: pa.Table, path: Place, *, compression: str, rejects: pa.Table | None = None, rejects_path: Place | None = None
) -> StagedPart:
    """Write a part's predictions, to be put at `path`, and its rejected rows, for `rejects_path`, replacing what is there.

    What then waits for the disk is left to `publish`: flushing, and renaming. For an object store both are whole in memory
    before the first is put in its place, so no half of one can appear. Without rejects (or with none in the table) an old
    rejects file is removed.

    Raises:
        DataError: the disk is full, the folder can't be written, or the table can't be stored as Parquet.

    """
    keep = rejects is not None and rejects.num_rows > 0 and rejects_path is not None
    with ExitStack() as files:
        then = files.enter_context(_staged(table, path, compression))
        first: Callable[[], None] = _nothing
        if keep and rejects_path is not None:
            first = files.enter_context(_staged(rejects, rejects_path, compression))
        elif rejects_path is not None:
            first = partial(_remove, rejects_path)
        return StagedPart(first, then, files.pop_all())


def _nothing() -> None:
    pass


def signed(table: pa.Table, source: str) -> pa.Table:
    """The table with a mark inside that says which input file it stands for, so that nobody else's is ever removed.

    What the input says of its own columns (pandas' index, say) goes: here there are others.
    """
    return table.replace_schema_metadata({_SOURCE: source.encode(errors="surrogateescape")})


def source_of(path: Place) -> str | None:
    """The input file that a predictions file stands for; None when it isn't ours, or can't be read.

    Raises `StoreError` when the object store that it is in can't be asked.
    """
    try:
        metadata = pq.read_metadata(parquet_file(path)).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    source: bytes | None = metadata.get(_SOURCE)
    return None if source is None else source.decode(errors="surrogateescape")


def rejects_path(path: Place, folder: Place) -> Place:
    """Where the rejected rows of the part at `path` go, in the output folder."""
    return folder / REJECTS_FOLDER / path.relative_to(folder)  # type: ignore[arg-type]  # both are of one kind


def presence(folder: Place) -> Callable[[Place], bool]:
    """Whether a file is there, of those in the output folder. An object store is asked once, for all of them."""
    if isinstance(folder, Path):
        return lambda path: path.exists()
    return frozenset[Place](folder.files()).__contains__


def files_in(folder: Place) -> Iterable[Place]:
    """The Parquet files in the folder, not below; none if it isn't there."""
    if isinstance(folder, Path):
        return folder.glob("*.parquet") if folder.is_dir() else ()
    return (file for file in folder.files(recursive=False) if file.suffix == ".parquet")


def files_below(folder: Place) -> Iterable[Place]:
    """The Parquet files in the folder and below, but for what readers of it don't see."""
    found = folder.rglob("*.parquet") if isinstance(folder, Path) else folder.files()
    return (
        path
        for path in found
        if path.suffix == ".parquet" and not any(step.startswith(("_", ".")) for step in path.relative_to(folder).parts)  # type: ignore[arg-type]  # both are of one kind
    )


def remove_part(path: Place, *, folder: Place) -> None:
    """Remove a part's predictions and rejects from the output folder, durably. It may be gone already."""
    _remove(path)
    _remove(rejects_path(path, folder))


def remove_leftovers(folder: Place) -> None:
    """Remove the temporary files of dead runs from the folder and below; those of live runs are locked and stay.

    An object store has none: what a dead run had not finished to send is not there.
    """
    if isinstance(folder, ObjectPath):
        return
    for parent, _, names in os.walk(folder):
        for name in filter(_TEMPORARY.fullmatch, names):
            path = Path(parent, name)
            with _reported(path), suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


@contextmanager
def _staged(table: pa.Table, path: Place, compression: str) -> Iterator[Callable[[], None]]:
    """The table as Parquet, whole; what is called puts it at `path`.

    On a disk it is a temporary file beside `path`, locked while it is there, and gone at the end unless it was renamed.
    """
    if isinstance(path, ObjectPath):
        with _reported(path):
            content = pa.BufferOutputStream()
            _write(table, content, compression)
            yield partial(path.write_bytes, content.getvalue())
        return
    temporary = path.with_name(f".{path.name}.batchgauge-{secrets.token_hex(8)}.tmp")
    with _reported(path):
        make_folder(path.parent)
        try:
            # Closing is inside too: after a failed write it tries again to write what is buffered.
            with temporary.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _write(table, file, compression)
                yield partial(_publish, file, temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _write(table: pa.Table, file: Any, compression: str) -> None:
    # Numbers of rows and of classes lie near each other: their differences take half the time and half the room of the
    # values. Other ids and scores hardly repeat, so a dictionary costs both; names of classes, reasons and files do.
    integers = {field.name: "DELTA_BINARY_PACKED" for field in table.schema if pa.types.is_integer(field.type)}
    repeated = [name for name in _REPEATED if name in table.column_names and name not in integers]
    pq.write_table(table, file, compression=compression, use_dictionary=repeated or False, column_encoding=integers or None)


def _publish(file: IO[bytes], temporary: Path, path: Path) -> None:
    with _reported(path):
        flush(file)
        temporary.replace(path)
        flush_folder(path.parent)


def _remove(path: Place) -> None:
    with _reported(path):
        if isinstance(path, ObjectPath):
            path.unlink()
        elif path.exists():
            path.unlink(missing_ok=True)
            flush_folder(path.parent)


@contextmanager
def _reported(path: Place) -> Iterator[None]:
    """Errors of the operating system and of Arrow, as DataError that names the path."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise DataError(f"output {path}: {cause}; check the folder, its permissions and the space on its disk") from error
    except pa.ArrowException as error:
        raise DataError(f"output {path}: can't be stored as Parquet: {error}; choose other id columns") from error
