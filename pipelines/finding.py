"""Which Parquet files an input is: a file, a folder, or a glob of either, on a disk or in an object store."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from pipelines.errors import DataError
from pipelines.objects import ObjectPath, Place, place
from pipelines.uris import SUFFIXES, finds, is_uri, matches


class InputFile(NamedTuple):
    """A file, and its posix path relative to the folder (or the glob's constant prefix) that it was found in."""

    path: Place
    relative: str


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


def relative_if_found(path: str, source: str) -> str | None:
    """The `InputFile.relative` of the file if `find_files(path)` found it; None if it would not. Both are absolute."""
    steps, pattern = PurePosixPath(source).parts, PurePosixPath(path).parts
    if not finds(pattern, steps):
        return None
    literal = len(pattern) - 1 if pattern == steps else len(pattern)
    constant = next((index for index, step in enumerate(pattern) if glob.has_magic(step)), literal)
    return "/".join(steps[constant:])


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
