"""All that a page is made from, read once."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.dead_runs import settled_state
from jobs.report import batches
from jobs.report.batches import BatchTrace
from jobs.report.words import Clock
from monitoring.ledger import Ledger, RetrainRecord, RunRecord
from monitoring.state import JobState
from pipelines.errors import DataError

MOST_RUNS = 400
"""A year of nights, or two weeks of hours: more than this can't be told apart on a page."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A job at one instant: its state, its newest runs (newest first), the batches of its last finished run.

    `older_runs` says that the ledger has more runs than are here. `batches` is None where no records are kept;
    `batches_error` says why records that are there can't be shown. `failed_retrain` is the latest retraining, if that failed.
    """

    state: JobState
    runs: tuple[RunRecord, ...]
    older_runs: bool
    batches: BatchTrace | None
    batches_error: str | None
    clock: Clock
    failed_retrain: RetrainRecord | None = None


def gather(ledger: Ledger, job: str, *, now: float, settle: bool = True) -> Facts:
    """Read everything about a job. A run that died is settled first, unless `settle` says to read only.

    Raises `LedgerError` for a job that isn't there.
    """
    state = settled_state(ledger, job) if settle else ledger.state(job)
    runs = ledger.runs(job, limit=MOST_RUNS + 1)
    trace, error = _trace(ledger, state)
    return Facts(
        state=state,
        runs=runs[:MOST_RUNS],
        older_runs=len(runs) > MOST_RUNS,
        batches=trace,
        batches_error=error,
        failed_retrain=ledger.failed_retrain(job) if state.definition.retrains else None,
        clock=Clock(now, state.definition.timezone),
    )


def _trace(ledger: Ledger, state: JobState) -> tuple[BatchTrace | None, str | None]:
    """A page without its batches is better than none, so what is wrong with them is a part of it."""
    if state.latest is None:
        return None, None
    path = ledger.batch_folder(state.definition.job) / f"{state.latest.run_id}.parquet"
    try:
        return batches.read(path), None
    except DataError as error:
        return None, str(error)
