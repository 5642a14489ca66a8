"""Parts of Parquet files, read as they were planned, or not at all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import footers
from pipelines.errors import UnreadableError
from pipelines.objects import Place, StoreError, insist, parquet_file, place
from pipelines.planning import Part, fingerprint

_COARSEST_CLOCK_NS = 2 * 10**9
"""FAT's: no file system's clock ticks more slowly."""


class Reader(threading.local):
    """Reads parts. Each thread keeps the file that it read last open, for its next part: a footer is parsed once."""

    def __init__(self) -> None:
        self._file: _OpenFile | None = None

    def read(self, part: Part, columns: Sequence[str], *, repeating: Sequence[str] = ()) -> pa.Table:
        """The part's rows, with these columns in this order; text of the `repeating` ones comes as dictionaries.

        Raises:
            UnreadableError: the file is gone, damaged, or not the one that was planned.
            StoreError: the object store that it is in can't be asked.

        """
        where = f"{part.source}, row groups {part.first_group} to {part.last_group}"
        path = place(part.source)
        try:
            table = insist(path, lambda: self._table(path, part, columns, tuple(repeating)))
        except (UnreadableError, StoreError):
            raise
        except (pa.ArrowException, OSError) as error:
            raise UnreadableError(f"{where}: can't be read: {footers.cause(error)}; write the file again") from error
        if table.num_rows != part.rows:
            raise UnreadableError(f"{where}: {table.num_rows} rows instead of {part.rows}; write the file again")
        return table

    def _table(self, path: Place, part: Part, columns: Sequence[str], repeating: tuple[str, ...]) -> pa.Table:
        file, self._file = self._file, None  # whatever goes wrong, the next part opens its file anew
        if file is None or (file.path, file.repeating) != (path, repeating) or file.changed():
            file = _OpenFile(path, repeating)
        table = file.read(part, columns)
        self._file = file
        return table


class _OpenFile:
    """One file, opened and identified. Closed when it is forgotten."""

    def __init__(self, path: Place, repeating: tuple[str, ...]) -> None:
        self.path = path
        self.repeating = repeating
        self._state = footers.state(path)
        self._young = self._was_changed_just_now()
        self._version = self._read_version()
        # Not memory-mapped: a file that is cut short under a map kills the process with SIGBUS. From a store, what lies near
        # each other is fetched at once.
        remote = not isinstance(path, Path)
        self._parquet = pq.ParquetFile(
            parquet_file(path), page_checksum_verification=True, pre_buffer=remote, read_dictionary=list(repeating)
        )
        self._names = Counter(self._parquet.schema_arrow.names)

    def changed(self) -> bool:
        """Whether the path leads to something else than what was opened."""
        if footers.state(self.path) != self._state:
            return True
        if not self._young:
            return False
        # A clock that ticks once a second shows no second change in that second: the footer is looked at until it's over.
        self._young = self._was_changed_just_now()
        return self._read_version() != self._version

    def read(self, part: Part, columns: Sequence[str]) -> pa.Table:
        """As `Reader.read`, with the errors of Arrow and of the operating system."""
        groups = range(part.first_group, part.last_group + 1)
        self._check_planned(part)
        for column in columns:
            if self._names[column] != 1:
                times = self._names[column]
                raise UnreadableError(f"{part.source}: has {times or 'no'} column{'s'[:times]} {column!r}")
        table = self._parquet.read_row_groups(list(groups), columns=list(columns), use_threads=False).select(list(columns))
        self._check_planned(part)
        return _without_views(table)

    def _check_planned(self, part: Part) -> None:
        if self.changed() or fingerprint(self._version, (part.first_group, part.last_group)) != part.fingerprint:
            raise UnreadableError(f"{part.source}: was changed while the run was reading it; run again when it is complete")

    def _was_changed_just_now(self) -> bool:
        return time.time_ns() - max(self._state[-2:]) < _COARSEST_CLOCK_NS

    def _read_version(self) -> str:
        return footers.identified(self.path)[0]


_PLAIN = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def _without_views(table: pa.Table) -> pa.Table:
    """The table with text as Arrow always had it: pyarrow can't choose rows of the newer kind, nor make arrays of them."""
    if not any(kind in _PLAIN for kind in table.schema.types):
        return table
    return table.cast(pa.schema([field.with_type(_PLAIN.get(field.type, field.type)) for field in table.schema]))


def read(part: Part, columns: Sequence[str]) -> pa.Table:
    """One part's rows, by a reader of its own."""
    return Reader().read(part, columns)
