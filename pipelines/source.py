"""Parquet in: which files, which parts, and their rows."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import DataError
from pipelines.objects import ObjectPath, Place, StoreError, insist, parquet_file, place
from pipelines.report import Rejection
from pipelines.uris import is_uri, matches

SUFFIXES = (".parquet", ".pq", ".parq")
_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_REQUEST_BYTES = 2**16
"""What is read at once from an object store, where a request takes longer than its bytes: most footers are shorter."""
_COARSEST_CLOCK_NS = 2 * 10**9
"""FAT's: no file system's clock ticks more slowly."""


class UnreadableError(DataError):
    """A file or part can't be used as it is; the others of the run can."""


class InputFile(NamedTuple):
    """A file, and its posix path relative to the folder (or the glob's constant prefix) that it was found in."""

    path: Place
    relative: str


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


def find_files(path: str) -> tuple[InputFile, ...]:
    """The input's files, sorted by relative path; none if nothing is there.

    `path` is a file, a folder (searched recursively for `.parquet`, `.pq` and `.parq`) or a glob of either, on a disk or in an
    object store. Names that begin with `_` or `.` are ignored, unless `path` itself says them. A folder that is linked to
    twice is read once.

    Raises:
        DataError: the file or folder is there, but can't be read; or there is no such bucket.

    """
    if is_uri(path):
        return tuple(sorted(_objects(place(path)), key=lambda file: file.relative))
    found: dict[Path, InputFile] = {}
    base, matches = _matches(path)
    for match in matches:
        for file in _files(match):
            found.setdefault(file, InputFile(file, file.relative_to(base).as_posix()))
    return tuple(sorted(found.values(), key=lambda file: file.relative))


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
            version, metadata = _footer(file.path)
            rows = metadata.num_rows
            if rows:
                _check_schema(file.path, metadata.schema.to_arrow_schema(), check_schema)
            parts += _cut(file, version, metadata, part_rows)
        except StoreError:
            raise
        except (DataError, pa.ArrowException, OSError) as error:
            rejections.append(Rejection(_printable(file.path), str(error), rows))
    return Plan(tuple(parts), tuple(rejections))


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
            raise UnreadableError(f"{where}: can't be read: {_cause(error)}; write the file again") from error
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
        self._state = _state(path)
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
        if _state(self.path) != self._state:
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
        return table

    def _check_planned(self, part: Part) -> None:
        if self.changed() or _fingerprint(self._version, (part.first_group, part.last_group)) != part.fingerprint:
            raise UnreadableError(f"{part.source}: was changed while the run was reading it; run again when it is complete")

    def _was_changed_just_now(self) -> bool:
        return time.time_ns() - max(self._state[-2:]) < _COARSEST_CLOCK_NS

    def _read_version(self) -> str:
        return _identified(self.path)[0]


def read(part: Part, columns: Sequence[str]) -> pa.Table:
    """One part's rows, by a reader of its own."""
    return Reader().read(part, columns)


def _objects(path: Place) -> Iterator[InputFile]:
    """As the three functions below, in an object store: one listing of all that begins like the path."""
    assert isinstance(path, ObjectPath)  # the caller asked
    steps = PurePosixPath(path.key).parts
    constant = next((index for index, step in enumerate(steps) if glob.has_magic(step)), len(steps))
    pattern = steps[constant:]
    if not pattern and path.key and path.exists():
        yield InputFile(path, path.name)
        return
    folder = ObjectPath(path.root, "/".join(steps[:constant]))
    for file in folder.files():
        relative = file.relative_to(folder)
        below = range(len(relative.parts)) if file.suffix.lower() in SUFFIXES else ()
        wanted = matches(relative.parts, pattern) or any(matches(relative.parts[:depth], pattern) for depth in below)
        if wanted and not _hidden(relative):
            yield InputFile(file, relative.as_posix())


def _matches(path: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the files and folders that the path stands for."""
    literal = Path(path)
    if not os.path.lexists(literal) and glob.has_magic(path):
        parts = literal.parts
        constant = next(index for index, part in enumerate(parts) if glob.has_magic(part))
        base = Path(*parts[:constant])
        # Path.glob knows neither `**` that follows links nor hidden names.
        names = sorted(glob.glob(str(Path(*parts[constant:])), root_dir=base, recursive=True))  # noqa: PTH207
        return base, [base / name for name in names if not _hidden(Path(name))]
    if not literal.exists():
        return literal, []
    if literal.is_dir():
        return literal, [literal]
    if not literal.is_file():
        raise DataError(f"{path}: is neither a file nor a folder; give Parquet files")
    return literal.parent, [literal]


def _files(path: Path) -> Iterator[Path]:
    """The path itself, or the Parquet files in the folder."""
    if not path.is_dir():
        yield path
        return
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not _hidden(Path(name)))
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in sorted(names) if name.lower().endswith(SUFFIXES) and not _hidden(Path(name)))


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: can't be read: {error.strerror}; check its permissions") from error


def _hidden(relative: PurePath) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.parts)


def _check_schema(path: Place, schema: pa.Schema, check_schema: Callable[[pa.Schema], None]) -> None:
    try:
        check_schema(schema)
    except DataError as error:
        raise DataError(f"{_printable(path)}: {error}") from error


def _check_names(files: Sequence[InputFile]) -> None:
    seen: dict[str, Place] = {}
    for file in files:
        stem = Path(file.relative).with_suffix("").as_posix()
        if stem in seen:
            raise DataError(f"{file.path} and {seen[stem]}: would be written to the same output; rename one of them")
        seen[stem] = file.path


def _footer(path: Place) -> tuple[str, Any]:
    """The file's version, and its metadata."""
    if not _printable(path).isprintable() or _printable(path) != str(path):
        raise UnreadableError(f"{_printable(path)!r}: a name that is not printable UTF-8 can't be recorded; rename the file")
    try:
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError(f"{path}: is not a regular file")
        version, footer = insist(path, lambda: _identified(path))
        return version, pq.read_metadata(pa.BufferReader(footer))
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(f"{_printable(path)}: can't be read as Parquet: {_cause(error)}") from error


def _identified(path: Place) -> tuple[str, bytes]:
    """What tells the file's content from any other, the SHA-256 over its size, time and footer; and the footer."""
    if isinstance(path, ObjectPath):
        size, written_ns = path.state()
        with path.open() as file:
            footer = _read_footer(file, path, size, at_once=_REQUEST_BYTES)
    else:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            size, written_ns = state.st_size, state.st_mtime_ns
            footer = _read_footer(file, path, size, at_once=_TAIL_BYTES)
    return hashlib.sha256(b"%d %d " % (size, written_ns) + footer).hexdigest(), footer


def _read_footer(file: BinaryIO, path: Place, size: int, *, at_once: int) -> bytes:
    """The file's last bytes, from its footer on. `at_once` of them are read before it is known how many that are."""
    file.seek(max(0, size - at_once))
    tail = file.read(at_once)
    footer_bytes = int.from_bytes(tail[-_TAIL_BYTES:-4], "little") + _TAIL_BYTES
    if tail[-4:] != _MAGIC or footer_bytes > size:
        raise UnreadableError(f"{_printable(path)}: is not Parquet, is encrypted, or was cut short ({size} bytes)")
    if footer_bytes > len(tail):
        file.seek(size - footer_bytes)
        tail = file.read(footer_bytes)
    return tail[-footer_bytes:]


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
    return Part(name, str(file.path), first, last, rows, _fingerprint(version, groups), first_row)


def _fingerprint(version: str, groups: tuple[int, int]) -> str:
    return hashlib.sha256(b"%d %d " % groups + version.encode()).hexdigest()


def _state(path: Place) -> tuple[int, ...]:
    """What the system (or the store) says of a file: another one, or a change, shows here. The last two are times, in ns."""
    if isinstance(path, ObjectPath):
        size, written_ns = path.state()
        return size, written_ns, written_ns
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _cause(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0] or type(error).__name__


def _printable(path: Place) -> str:
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")
