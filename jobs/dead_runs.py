"""Runs (and retrainings) whose process died: whoever looks next says so."""

from __future__ import annotations

from time import time

from jobs.retrain.settling import settle_retrains
from monitoring.ledger import Ledger, LockHeld
from monitoring.state import JobState

DEAD = "the process died before it could finish the run (killed, out of memory, power lost, or no way to write the ledger)"


def settled_state(ledger: Ledger, job: str) -> JobState:
    """The job's state; a run or retraining that is marked as in progress, but whose lock nobody holds, has ended first.

    Raises `LedgerError` as `Ledger.state` does.
    """
    settle_retrains(ledger, job)
    state = ledger.state(job)
    if state.running is None:
        return state
    try:
        with ledger.lock("run", job):
            ledger.fail_dead_runs(job, now=time(), reason=DEAD)
    except LockHeld:
        return state  # it lives
    return ledger.state(job)
