"""Locks that one process at a time holds for a job, across processes, freed by the kernel when the holder dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from monitoring.filenames import of_job
from pipelines.errors import LedgerError

Kind = Literal["run", "push", "retrain"]


class LockHeld(LedgerError):  # noqa: N818  it reports a state, not a failure
    """Another process (or thread) holds the lock."""


@contextmanager
def hold(folder: Path, kind: Kind, job: str, *, wait_seconds: float) -> Iterator[None]:
    """Hold the lock `kind` of the job. Raises `LockHeld` when it isn't free within `wait_seconds`."""
    path = folder / f"{kind}-{of_job(job)}.lock"
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock outlives a holder that dies
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=max(0.0, wait_seconds), poll_interval=0.02)
    except Timeout as error:
        message = f"job {job!r}: a {kind} is in progress in another process (lock {path}); wait for it to end"
        raise LockHeld(message) from error
    except OSError as error:
        message = f"job {job!r}: lock {path} can't be taken ({error.strerror}); check that this user may write there"
        raise LedgerError(message) from error
    try:
        yield
    finally:
        lock.release()
