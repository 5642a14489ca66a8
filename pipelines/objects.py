"""Where files are: on a disk, by `pathlib.Path`; or in an object store, by the few of its methods that are needed here.

All that is relied on is what every store promises: an object appears whole or not at all, and then everybody sees it. There
are no folders, no renames and no locks. Credentials, region and endpoint are the provider's own business: its libraries find
them in the environment, a profile, or the machine's role, in each process when it first needs them.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from time import sleep
from typing import Any, TypeVar

import pyarrow as pa

from pipelines.errors import DataError
from pipelines.uris import is_uri

PAUSES_SECONDS = (2.0, 8.0)
"""Between our tries. Each of them is many of the library's, in a few seconds; together they outlast half a minute."""
_OF_THE_STORE = re.compile("AWS Error|google::cloud|Azure Error|azure-storage")
_PASSES = re.compile(r"NETWORK_CONNECTION|SLOW_DOWN|THROTTL|INTERNAL_FAILURE|REQUEST_TIME|HTTP status 5|UNAVAILABLE")
_WAITED = re.compile("Timeout was reached")
_ADVICE = (
    (
        "NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|Bucket '.*' not found",
        "there is no such bucket; check the name, and the endpoint",
    ),
    (
        "ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY|SIGNATURE|PERMISSION_DENIED|UNAUTHENTICATED|Auth|EXPIRED",
        "check the credentials that this process finds (environment, profile or role), and what they may do there",
    ),
    (
        "NETWORK_CONNECTION|Could not resolve",
        "check the endpoint (AWS_ENDPOINT_URL, where it isn't the provider's) and the network",
    ),
)

Result = TypeVar("Result")


class StoreError(DataError):
    """An object store can't be reached, or refuses: that says nothing of the file, and the same may work later."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectPath:
    """An object, or all whose names begin with this one and a slash. `root` is like `s3://bucket`, `key` like `a/b`, or empty.

    Every method but the pure ones raises `StoreError` when the store can't be asked, after trying for a while.
    """

    root: str
    key: str

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: str | PurePath) -> ObjectPath:
        return ObjectPath(self.root, str(PurePosixPath(self.key, name)) if self.key else str(name))

    @property
    def name(self) -> str:
        """Its last step."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """The ending of its name, with the dot."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> ObjectPath:
        """One step less."""
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    def relative_to(self, folder: ObjectPath) -> PurePosixPath:
        """Its steps below `folder`. Raises `ValueError` when it isn't there."""
        if folder.root != self.root:
            raise ValueError(f"{self} is not below {folder}")
        return PurePosixPath(self.key).relative_to(folder.key)

    def exists(self) -> bool:
        """Whether there is an object of this name."""
        return self._info() is not None

    def state(self) -> tuple[int, int]:
        """Its size in bytes, and when it was written, in ns. Raises `FileNotFoundError`."""
        info = self._info()
        if info is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return info.size, info.mtime_ns

    def open(self) -> Any:
        """A `pyarrow.NativeFile` to read from, anywhere in it. Raises `FileNotFoundError`."""
        return self._ask(lambda store, path: store.open_input_file(path))

    def read_bytes(self) -> bytes:
        """All of it. Raises `FileNotFoundError`."""

        def read(store: Any, path: str) -> bytes:
            with store.open_input_file(path) as file:
                content: bytes = file.read()
                return content

        return self._ask(read)

    def write_bytes(self, content: pa.Buffer | bytes) -> None:
        """Put it there, in the place of what there was, at once."""

        def put(store: Any, path: str) -> None:
            # No `with`: what closes after an error would complete an object that is not whole.
            file = store.open_output_stream(path)
            file.write(content)
            file.close()

        self._ask(put)

    def unlink(self) -> None:
        """Remove it. It may be gone already."""
        try:
            self._ask(lambda store, path: store.delete_file(path))
        except FileNotFoundError:
            return

    def files(self, *, recursive: bool = True) -> tuple[ObjectPath, ...]:
        """The objects below, sorted; none where nothing is."""
        from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415  as in `_store`

        try:
            found = self._ask(lambda store, path: store.get_file_info(FileSelector(path, recursive=recursive)))
        except FileNotFoundError:
            return ()
        keys = (info.path.partition("/")[2] for info in found if info.type == FileType.File)
        return tuple(sorted(ObjectPath(self.root, key) for key in keys))

    def _info(self) -> Any:
        from pyarrow.fs import FileType  # noqa: PLC0415  as in `_store`

        info = self._ask(lambda store, path: store.get_file_info(path))
        return info if info.type == FileType.File else None

    def _ask(self, question: Callable[[Any, str], Result]) -> Result:
        def ask() -> Result:
            store, bucket = _store(self.root)
            return question(store, f"{bucket}/{self.key}" if self.key else bucket)

        try:
            return insist(self, ask)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self)) from error
        except (OSError, pa.ArrowException) as error:
            raise _explained(self, error) from error


Place = Path | ObjectPath


def place(path: str) -> Place:
    """What a path of a job file, checked and absolute, leads to."""
    if not is_uri(path):
        return Path(path)
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    return ObjectPath(f"{scheme}://{bucket}", key)


def parquet_file(path: Place) -> Any:
    """What functions of `pyarrow.parquet` take as a file."""
    return path if isinstance(path, Path) else path.open()


def insist(path: Place, operation: Callable[[], Result]) -> Result:
    """What the operation on that file returns; in an object store it is tried again when what it ran into may pass.

    Raises `StoreError` when the store can't be asked, and whatever else the operation raises, as what a disk or the file says.
    """
    if isinstance(path, Path):
        return operation()
    pauses = iter(PAUSES_SECONDS)
    while True:
        try:
            return operation()
        except OSError as error:
            pause = next(pauses, None) if _may_pass(str(error)) else None
            if pause is None and _OF_THE_STORE.search(str(error)):
                raise _explained(path, error) from error
            if pause is None:
                raise
        sleep(pause)


def _may_pass(said: str) -> bool:
    """Not a store that says nothing at all: the library has waited for minutes already."""
    return bool(_PASSES.search(said)) and not _WAITED.search(said)


def _explained(path: ObjectPath, error: Exception) -> StoreError:
    said = str(error).strip().split("\n")[0]
    advice = next((words for pattern, words in _ADVICE if re.search(pattern, said)), "try again when the store is well")
    return StoreError(f"{path}: {said}; {advice}")


@lru_cache
def _store(root: str) -> tuple[Any, str]:
    """The file system of a bucket, for this process, and the bucket's name in it."""
    from pyarrow.fs import FileSystem  # noqa: PLC0415  heavy, and a job on a disk needs none of it

    scheme, _, bucket = root.partition("://")
    uri = {
        "s3": f"s3://{bucket}?allow_delayed_open=true",  # what fits into one request is one request
        "gs": f"gs://{bucket}?retry_limit_seconds=60",
        "az": f"abfss://{bucket}",
    }[scheme]
    system, path = FileSystem.from_uri(uri)
    return system, path.rstrip("/")
