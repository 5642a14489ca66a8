"""One run of one job. Cron, the scheduler and a hand all come through `run`.

register → lock → settle dead runs → start → pipeline (one transaction a part) → finish → deliver
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from os import getpid
from time import monotonic
from uuid import uuid4

from jobs import lost_ledger
from jobs.dead_runs import DEAD
from jobs.environment import Environment
from jobs.journal import LedgerJournal
from jobs.paths import dated
from jobs.request import RunRequest, RunResult
from jobs.time_limit import time_limit
from monitoring.ledger import Ledger, LockHeld, RunStart
from monitoring.push import Pusher, deliver
from monitoring.resources import ResourceMeter, available_cores
from pipelines.cancellation import Cancellation
from pipelines.errors import BatchgaugeError, LedgerError, PushError, storable
from pipelines.pipeline import Observer, Pipeline
from pipelines.report import Outcome, ResourceReport, RunReport

RUNNING = "the job is already running"
ACCOUNTED = "the scheduled time that it was for is accounted for already: it was run, skipped or counted as missed"


def run(request: RunRequest, *, observer: Observer, cancellation: Cancellation) -> RunResult:
    """Run the job once and leave the truth in the ledger, whatever happens.

    An error in the job's data, model or entrypoint makes the outcome `failed`, with its words as the reason;
    a job that is already running makes it `skipped`. Raises `LedgerError` when the truth can't be recorded.
    """
    spec, environment = request.spec, request.environment
    now = datetime.now(UTC)
    start = RunStart(
        run_id=uuid4().hex,
        job=spec.job.name,
        trigger=request.trigger,
        logical_date=request.logical_date or spec.logical_date(now),
        host=socket.gethostname(),
        pid=getpid(),
        started_at=now.timestamp(),
    )
    with environment.open_ledger() as ledger:
        ledger.register(spec.definition(environment), now=start.started_at, next_expected_at=spec.next_expected(now))
        due_at = _due_at(request, start, now)
        try:
            with ledger.lock("run", spec.job.name):
                ledger.fail_dead_runs(start.job, now=start.started_at, reason=DEAD)
                if _accounted(ledger, request):
                    report = _skip(ledger, start, due_at, reason=ACCOUNTED)
                else:
                    next_expected_at = None if due_at is None else spec.next_expected(datetime.fromtimestamp(due_at, UTC))
                    ledger.start_run(start, next_expected_at=next_expected_at, due_at=due_at)
                    report = _attempt(request, ledger, start, observer=observer, cancellation=cancellation)
                    ledger.finish_run(report)
        except LockHeld:
            report = _skip(ledger, start, due_at, reason=RUNNING)
        ledger.prune_runs(start.job, keep=spec.job.keep_runs)
        observer.phase("pushing")
        return _deliver(ledger, report, environment)


def _accounted(ledger: Ledger, request: RunRequest) -> bool:
    until = ledger.accounted_until(request.spec.job.name)
    return request.due_at is not None and until is not None and until >= request.due_at


def _due_at(request: RunRequest, start: RunStart, now: datetime) -> float | None:
    """The scheduled time that the run stands for; None for a run of another day than the one that is due."""
    if request.due_at is not None:
        return request.due_at
    spec = request.spec
    return spec.latest_due(now) if start.logical_date == spec.logical_date(now) else None


def _skip(ledger: Ledger, start: RunStart, due_at: float | None, *, reason: str) -> RunReport:
    report = _report(start, None, Outcome.SKIPPED, reason=reason)
    ledger.skip_run(report, due_at=due_at)
    return report


def _attempt(
    request: RunRequest, ledger: Ledger, start: RunStart, *, observer: Observer, cancellation: Cancellation
) -> RunReport:
    """Run the pipeline and put what came of it, good or bad, into a report."""
    spec = request.spec
    lost = lost_ledger.warnings(ledger, spec)
    meter, began = ResourceMeter(), monotonic()
    journal = LedgerJournal(ledger, start, keep_runs=spec.batch.keep_runs)
    pipeline = Pipeline(
        spec.for_date(start.logical_date),
        folder=spec.folder,
        journal=journal,
        observer=observer,
        cancellation=cancellation,
        cores=available_cores(),
        latency_limit_seconds=spec.thresholds.latency_seconds,
        rescore=request.rescore,
        whole_drop=dated(spec.input.path),
    )
    limit = spec.job.timeout
    late = f"timeout: the run took longer than job.timeout ({limit:g} s)" if limit else ""
    with time_limit(limit, cancellation, reason=late), _pushing(request):
        reason = _execute(pipeline)
        elapsed_seconds = monotonic() - began  # a push that hangs is waited for a little, which is no part of the run
    return _report(
        start,
        pipeline,
        Outcome.FAILED if reason else _outcome(pipeline),
        reason=reason,
        elapsed_seconds=elapsed_seconds,
        resources=meter.stop(accelerator_memory_peak_bytes=pipeline.accelerator_memory_peak_bytes, others=pipeline.expense),
        warnings=(
            *lost,
            *pipeline.warnings,
            *journal.close(),
            *(holdout.error for holdout in pipeline.holdouts if holdout.error),
        ),
    )


def _execute(pipeline: Pipeline) -> str | None:
    """Why the run failed; None when it didn't."""
    try:
        pipeline.execute()
    except LedgerError:
        raise  # there is nowhere to record a failure
    except BatchgaugeError as error:
        return str(error)
    except SystemExit as error:
        return f"an entrypoint called sys.exit({error.code!r}); it must return, or raise an error that says why"
    except MemoryError:
        return "out of memory; lower input.part_rows or batch.workers"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  an entrypoint may raise anything, and the run must still be recorded
        words = traceback.TracebackException.from_exception(error, limit=0)  # which survives an error that can't say what it is
        return f"unexpected error: {type(error).__name__}: {words}\n{traceback.format_exc()}"
    return None


def _outcome(pipeline: Pipeline) -> Outcome:
    tally = pipeline.tally
    lost = tally.rows_rejected or tally.rejections or any(holdout.error for holdout in pipeline.holdouts)
    return Outcome.PARTIAL if lost else Outcome.SUCCESS


def _report(
    start: RunStart,
    pipeline: Pipeline | None,
    outcome: Outcome,
    *,
    reason: str | None,
    elapsed_seconds: float = 0.0,
    resources: ResourceReport | None = None,
    warnings: tuple[str, ...] = (),
) -> RunReport:
    report = RunReport(
        run_id=start.run_id,
        job=start.job,
        trigger=start.trigger,
        logical_date=start.logical_date,
        host=start.host,
        started_at=start.started_at,
        # Not the wall clock: it may have stepped back since the start.
        finished_at=start.started_at + elapsed_seconds,
        elapsed_seconds=elapsed_seconds,
        scoring_seconds=pipeline.scoring_seconds if pipeline else 0.0,
        outcome=outcome,
        reason=None if reason is None else storable(reason),
        resources=resources or ResourceReport(),
        warnings=tuple(map(storable, warnings)),
    )
    return report if pipeline is None else pipeline.filled_in(report)


@contextmanager
def _pushing(request: RunRequest) -> Iterator[None]:
    """Push the state every now and then, from a side thread, while the run goes on."""
    destination = request.spec.destination(request.environment)
    if not (destination.gateway or destination.textfile):
        yield
        return
    job, credentials = request.spec.job.name, request.environment.credentials
    pusher = Pusher(request.environment.ledger, job, every_seconds=destination.every_seconds, credentials=credentials)
    pusher.start()
    try:
        yield
    finally:
        pusher.stop()


def _deliver(ledger: Ledger, report: RunReport, environment: Environment) -> RunResult:
    try:
        return RunResult(report, deliver(ledger, report.job, credentials=environment.credentials), None)
    except (PushError, LedgerError) as error:  # a ledger that can't note the push either: it is owed all the same
        return RunResult(report, None, str(error))
