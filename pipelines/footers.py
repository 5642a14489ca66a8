"""The footer of a Parquet file: what tells this content from any other, without reading the data."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import UnreadableError
from pipelines.objects import ObjectPath, Place, insist

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_REQUEST_BYTES = 2**16
"""What is read at once from an object store, where a request takes longer than its bytes: most footers are shorter."""


def version_and_metadata(path: Place) -> tuple[str, Any]:
    """The file's version, and its metadata."""
    if not printable(path).isprintable() or printable(path) != str(path):
        raise UnreadableError(f"{printable(path)!r}: a name that is not printable UTF-8 can't be recorded; rename the file")
    try:
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError(f"{path}: is not a regular file")
        version, footer = insist(path, lambda: identified(path))
        return version, pq.read_metadata(pa.BufferReader(footer))
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(f"{printable(path)}: can't be read as Parquet: {cause(error)}") from error


def identified(path: Place) -> tuple[str, bytes]:
    """What tells the file's content from any other, the SHA-256 over its size, time and footer; and the footer."""
    if isinstance(path, ObjectPath):
        size, written_ns = path.state()
        with path.open() as file:
            footer = _read_footer(file, path, size, at_once=_REQUEST_BYTES)
    else:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            size, written_ns = found.st_size, found.st_mtime_ns
            footer = _read_footer(file, path, size, at_once=_TAIL_BYTES)
    return hashlib.sha256(b"%d %d " % (size, written_ns) + footer).hexdigest(), footer


def _read_footer(file: BinaryIO, path: Place, size: int, *, at_once: int) -> bytes:
    """The file's last bytes, from its footer on. `at_once` of them are read before it is known how many that are."""
    file.seek(max(0, size - at_once))
    tail = file.read(at_once)
    footer_bytes = int.from_bytes(tail[-_TAIL_BYTES:-4], "little") + _TAIL_BYTES
    if tail[-4:] != _MAGIC or footer_bytes > size:
        raise UnreadableError(f"{printable(path)}: is not Parquet, is encrypted, or was cut short ({size} bytes)")
    if footer_bytes > len(tail):
        file.seek(size - footer_bytes)
        tail = file.read(footer_bytes)
    return tail[-footer_bytes:]


def state(path: Place) -> tuple[int, ...]:
    """What the system (or the store) says of a file: another one, or a change, shows here. The last two are times, in ns."""
    if isinstance(path, ObjectPath):
        size, written_ns = path.state()
        return size, written_ns, written_ns
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def cause(error: BaseException) -> str:
    """What went wrong, in a line: the system's words, or Arrow's first ones."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0] or type(error).__name__


def printable(path: Place) -> str:
    """The path as text that can be shown and stored: bytes that are no UTF-8 are written out."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")
