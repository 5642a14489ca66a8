"""Locks that one holder at a time has for a job or a ledger, freed when the holder dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Literal, get_args

from monitoring.ledger.store import Hold, Store
from pipelines.errors import LedgerError

Kind = Literal["run", "push", "retrain"]
KINDS: tuple[Kind, ...] = get_args(Kind)
StillHeld = Callable[[], Hold]


class LockHeld(LedgerError):  # noqa: N818  it reports a state, not a failure
    """Another process (or thread) holds the lock."""


def hold(store: Store, kind: Kind, job: str, *, wait_seconds: float) -> AbstractContextManager[StillHeld]:
    """Hold the lock `kind` of the job. Raises `LockHeld` when it isn't free within `wait_seconds`."""
    held = f"a {kind} is in progress in another process"
    return _hold(store, f"{kind}:{job}", wait_seconds, subject=f"job {job!r}", held=held, advice="wait for it to end")


def hold_scheduler(store: Store) -> AbstractContextManager[StillHeld]:
    """Hold the lock of the one scheduler at work on a ledger. Raises `LockHeld` when there is another."""
    key, subject = f"scheduler:{Path(store.location).name}", f"ledger {store.location}"
    return _hold(store, key, 0.0, subject=subject, held="another scheduler is at work on it", advice="end that one first")


@contextmanager
def _hold(store: Store, key: str, wait_seconds: float, *, subject: str, held: str, advice: str) -> Iterator[StillHeld]:
    with ExitStack() as stack:
        try:
            still_held = stack.enter_context(store.lock(key, wait_seconds=wait_seconds))
        except TimeoutError as error:
            raise LockHeld(f"{subject}: {held} (lock {error}); {advice}") from error
        except LedgerError as error:
            raise LedgerError(f"{subject}: {error}") from error
        yield still_held
