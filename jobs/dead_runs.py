"""Runs whose process died: whoever looks next says so."""

from __future__ import annotations

from time import time

from monitoring.ledger import Ledger, LockHeld
from monitoring.state import JobState

DEAD = "the process died before it could finish the run (killed, out of memory, power lost, or no way to write the ledger)"


def settled_state(ledger: Ledger, job: str) -> JobState:
    """The job's state; a run that is marked as in progress, but whose lock nobody holds, has failed first.

    Raises `LedgerError` as `Ledger.state` does.
    """
    state = ledger.state(job)
    if state.running is None:
        return state
    try:
        with ledger.lock("run", job):
            ledger.fail_dead_runs(job, now=time(), reason=DEAD)
    except LockHeld:
        return state  # it lives
    return ledger.state(job)
