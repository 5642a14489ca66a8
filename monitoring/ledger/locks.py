"""Locks that one process at a time holds for a job or a ledger, freed by the kernel when the holder dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from monitoring.filenames import of_job
from pipelines.errors import LedgerError

Kind = Literal["run", "push", "retrain"]


class LockHeld(LedgerError):  # noqa: N818  it reports a state, not a failure
    """Another process (or thread) holds the lock."""


def hold(folder: Path, kind: Kind, job: str, *, wait_seconds: float) -> AbstractContextManager[None]:
    """Hold the lock `kind` of the job. Raises `LockHeld` when it isn't free within `wait_seconds`."""
    held = f"a {kind} is in progress in another process"
    return _hold(folder / f"{kind}-{of_job(job)}.lock", f"job {job!r}", held, "wait for it to end", wait_seconds)


def hold_scheduler(folder: Path, location: str) -> AbstractContextManager[None]:
    """Hold the lock of the one scheduler that a ledger can have. Raises `LockHeld` when there is another."""
    path = folder / f"scheduler-{of_job(Path(location).name)}.lock"
    return _hold(path, f"ledger {location}", "another scheduler is at work on it", "end that one first", 0.0)


@contextmanager
def _hold(path: Path, subject: str, held: str, advice: str, wait_seconds: float) -> Iterator[None]:
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock outlives a holder that dies
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=max(0.0, wait_seconds), poll_interval=0.02)
    except Timeout as error:
        raise LockHeld(f"{subject}: {held} (lock {path}); {advice}") from error
    except OSError as error:
        message = f"{subject}: lock {path} can't be taken ({error.strerror}); check that this user may write there"
        raise LedgerError(message) from error
    try:
        yield
    finally:
        lock.release()
