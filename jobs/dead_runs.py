"""Runs (and retrainings) whose process died: whoever looks next says so."""

from __future__ import annotations

import signal
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
    return ledger.state(job) if settle(ledger, job, reason=DEAD) else state


def settled_states(ledger: Ledger) -> list[JobState]:
    """The same of every job, sorted. Raises `LedgerError` as `Ledger.states` does."""
    retraining = {record.job for record in ledger.unfinished_retrains()}
    return [
        settled_state(ledger, state.definition.job) if state.running or state.definition.job in retraining else state
        for state in ledger.states()
    ]


def settle(ledger: Ledger, job: str, *, reason: str, wait_seconds: float = 0.0) -> bool:
    """Fail what is marked as in progress, though nobody works on it, for that reason. False when somebody does: it lives.

    Raises `LedgerError` as `Ledger.fail_dead_runs` does.
    """
    try:
        with ledger.lock("run", job, wait_seconds=wait_seconds):
            ledger.fail_dead_runs(job, now=time(), reason=reason)
    except LockHeld:
        return False
    return True


def killed_by(number: int) -> str:
    """The reason of a run whose process was ended by this signal."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    memory = " (out of memory, or by hand)" if number == signal.SIGKILL else ""
    return f"its process was killed by {name}{memory}"
