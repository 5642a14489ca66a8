"""What the scheduler writes into the ledger, and reads from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from uuid import uuid4

from jobs import dead_runs
from jobs.environment import Environment
from jobs.scheduler.catch_up import Schedule, missed_report
from jobs.scheduler.processes import Run, adoptable
from jobs.spec import JobSpec
from monitoring.ledger import Ledger, LockHeld, RunRecord
from pipelines.report import Outcome, RunReport, Trigger

_AT_ONCE = 1000
"""Missed runs that are put down in one transaction."""
_LOCK_SECONDS = 5.0
_LATEST = 50
_WORDS = {0: "success", 1: "failed", 2: "failed", 3: "partial", 5: "skipped"}


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended, in a word, and why if it isn't plain. `recorded`: the scheduler had to write it down itself."""

    word: str
    reason: str | None
    recorded: bool


def register(ledger: Ledger, spec: JobSpec, environment: Environment, *, now: float) -> None:
    """Make the job known as its file has it."""
    expected = spec.next_expected(datetime.fromtimestamp(now, UTC))
    ledger.register(spec.definition(environment), now=now, next_expected_at=expected)


def old_schedule(ledger: Ledger, spec: JobSpec, environment: Environment) -> Schedule | None:
    """The schedule that the ledger has for the job, if it isn't the one that its file has now."""
    if ledger.accounted_until(spec.job.name) is None:
        return None
    old, new = ledger.definition(spec.job.name), spec.definition(environment)
    return None if (old.schedule, old.timezone) == (new.schedule, new.timezone) else Schedule.of(old)


def miss(ledger: Ledger, spec: JobSpec, schedule: Schedule, times: Sequence[float], reasons: Sequence[str]) -> int:
    """Put down scheduled times that nobody ran, each with its reason. Returns how many weren't accounted for before."""
    count = 0
    for start in range(0, len(times), _AT_ONCE):
        reports = [
            missed_report(
                spec.job.name,
                due_at,
                logical_date=datetime.fromtimestamp(due_at, schedule.zone).date() - timedelta(days=spec.input.lag_days),
                reason=reason,
            )
            for due_at, reason in zip(times[start : start + _AT_ONCE], reasons[start : start + _AT_ONCE], strict=True)
        ]
        count += ledger.miss_runs(spec.job.name, reports)
        ledger.prune_runs(spec.job.name, keep=spec.job.keep_runs)
    return count


def orphan(ledger: Ledger, job: str, log: Path) -> Run | None:
    """The job's run that a scheduler on this machine has started and not outlived; None when there is none."""
    running = ledger.latest_runs(limit=1, job=job, outcome="running")  # there may be any number of missed ones since
    if not running or running[0].trigger is not Trigger.SCHEDULER or running[0].host != gethostname():
        return None
    record = running[0]
    child = None if record.pid is None or _idle(ledger, job) else adoptable(record.pid, started_at=record.started_at)
    if child is None:
        return None
    due_at = ledger.accounted_until(job) or record.started_at
    return Run(job=job, due_at=due_at, started_at=record.started_at, child=child, log=log)


def settle(ledger: Ledger, run: Run, code: int | None, *, spec: JobSpec | None, leave_unstarted: bool) -> End:
    """Have the ledger say how a run ended whose process is gone. Doing it twice does no harm.

    A process that ended before it told the ledger of its run is a run that failed; `leave_unstarted` leaves its
    scheduled time for the next scheduler instead.
    """
    known = _own(ledger, run)
    in_progress = known is not None and known.outcome is None
    if in_progress:
        dead_runs.settle(ledger, run.job, reason=_why(run, code), wait_seconds=_LOCK_SECONDS)
    accounted = ledger.accounted_until(run.job)
    if accounted is not None and accounted < run.due_at:
        if leave_unstarted:
            return End("stopped before it began", "its time is left for the next start", recorded=False)
        reason = f"the run never began: {run.stopping or _how(run, code)}"
        expected = spec.next_expected(datetime.fromtimestamp(run.due_at, UTC)) if spec else None
        ledger.fail_unstarted_run(_unstarted(run, spec, reason), next_expected_at=expected, due_at=run.due_at)
        if spec:
            ledger.prune_runs(run.job, keep=spec.job.keep_runs)
        return End("failed", reason, recorded=True)
    record = _own(ledger, run)
    if record is None or record.outcome is None:
        return End(_WORDS.get(code, f"exit code {code}") if code is not None else "over", None, recorded=in_progress)
    return End(record.outcome, record.report.reason if record.report else None, recorded=in_progress)


def _own(ledger: Ledger, run: Run) -> RunRecord | None:
    """What the ledger has of this run, found by its process id: the newest, since ids come again."""
    if ledger.accounted_until(run.job) is None:
        return None  # it was forgotten
    records = (*ledger.latest_runs(limit=1, job=run.job, outcome="running"), *ledger.runs(run.job, limit=_LATEST))
    return next((record for record in records if record.pid == run.child.pid), None)


def _idle(ledger: Ledger, job: str) -> bool:
    try:
        with ledger.lock("run", job):
            return True
    except LockHeld:
        return False


def _why(run: Run, code: int | None) -> str:
    """Why a run that is still marked as in progress has failed."""
    if run.stopping is not None:
        return run.stopping
    return dead_runs.DEAD if code is None else f"the run was not finished: {_how(run, code)}"


def _how(run: Run, code: int | None) -> str:
    """How its process ended."""
    if code is not None and code < 0:
        return dead_runs.killed_by(-code)
    words = run.last_words()
    return f"its process ended (exit code {code}); see {run.log}" + (f": {words}" if words else "")


def _unstarted(run: Run, spec: JobSpec | None, reason: str) -> RunReport:
    due = datetime.fromtimestamp(run.due_at, UTC)
    return RunReport(
        run_id=uuid4().hex,
        job=run.job,
        trigger=Trigger.SCHEDULER,
        logical_date=spec.logical_date(due) if spec else due.date(),
        host=gethostname(),
        started_at=run.started_at,
        finished_at=run.started_at,
        elapsed_seconds=0.0,
        scoring_seconds=0.0,
        outcome=Outcome.FAILED,
        reason=reason,
    )
