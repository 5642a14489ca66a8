"""The Python files of a job's entrypoints, as they travel to machines that may not have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pipelines.errors import SpecError

_MOST_BYTES = 2**24


class PythonFile(NamedTuple):
    """A file by its absolute path, and what is in it."""

    path: str
    content: bytes


def collected(references: Iterable[str | None], folder: Path) -> tuple[PythonFile, ...]:
    """All that the entrypoints may import from beside them: the Python files in their folders, and the packages there.

    `folder` is the job file's, where modules that are named as such are looked for. Raises `SpecError` when a file can't be
    read, or there is too much.
    """
    folders = {_folder(reference, folder) for reference in references if reference is not None}
    try:
        files = tuple(PythonFile(str(path), path.read_bytes()) for one in sorted(folders) for path in sorted(set(_python(one))))
    except OSError as error:
        raise SpecError(f"{error.filename}: can't be read, so it can't be sent to the workers: {error.strerror}") from error
    size = sum(len(file.content) for file in files)
    if size > _MOST_BYTES:
        listed = ", ".join(map(str, sorted(folders)))
        raise SpecError(
            f"{listed}: {size:,} bytes of Python are too much to send to workers; put entrypoints in a folder of their own"
        )
    return files


@lru_cache(maxsize=1)
def placed(files: tuple[PythonFile, ...], folder: Path) -> Path:
    """The folder to load entrypoints from in place of `folder`: itself where the files are there, else one with copies of them.

    Copies are gone when this process ends.
    """
    if all(_is_there(file) for file in files):
        return folder
    root = Path(_copies().name)
    for file in files:
        path = root / Path(file.path).relative_to("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    return root / folder.relative_to("/")


@lru_cache(maxsize=1)
def _copies() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="batchgauge-")


def _is_there(file: PythonFile) -> bool:
    try:
        return Path(file.path).read_bytes() == file.content
    except OSError:
        return False


def _folder(reference: str, folder: Path) -> Path:
    target = reference.rpartition(":")[0]
    return (folder / target).parent if target.endswith(".py") else folder


def _python(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*.py")
    for package in folder.glob("*/__init__.py"):
        yield from package.parent.rglob("*.py")
