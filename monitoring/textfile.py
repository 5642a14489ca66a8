"""The textfile sink: a job's state as a file for node_exporter's textfile collector, on hosts without a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import fsync
from pathlib import Path
from tempfile import NamedTemporaryFile

from monitoring.filenames import of_job
from pipelines.errors import PushError

_MODE = 0o644  # the collector runs as another user


def path(folder: str | Path, job: str) -> Path:
    """The job's file in the folder: `batchgauge_<percent-encoded job>.prom`."""
    return Path(folder) / f"batchgauge_{of_job(job)}.prom"


def write(folder: str | Path, job: str, body: bytes) -> Path:
    """Replace the job's file in one step: the collector sees the old one or the new one, whole.

    Raises `PushError` naming the file when it can't be written.
    """
    target = path(folder, job)
    # The temporary file's name doesn't end in .prom, so the collector never reads it.
    with _explained(target), NamedTemporaryFile(dir=folder, prefix=".batchgauge_", suffix=".tmp", delete=False) as temporary:
        unfinished = Path(temporary.name)
        try:
            temporary.write(body)
            temporary.flush()
            fsync(temporary.fileno())
            unfinished.chmod(_MODE)
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    return target


def remove(folder: str | Path, job: str) -> None:
    """Delete the job's file, if there is one. Raises `PushError` when it can't be deleted."""
    target = path(folder, job)
    with _explained(target):
        target.unlink(missing_ok=True)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"textfile {target}: {error.strerror or error}; the folder must exist, be writable by this user and have room"
        raise PushError(message, permanent=False) from error
