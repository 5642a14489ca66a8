"""Jobs in a ledger, made by hand, for reports to be written about: one of each kind that a page must cope with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

from jobs.report.facts import MOST_RUNS
from monitoring.ledger import Cause, Ledger, RetrainOutcome, RetrainRecord
from monitoring.state import Destination, JobDefinition, Thresholds
from pipelines.records import RecordWriter
from pipelines.report import (
    BatchRecord,
    ClassReport,
    Estimate,
    HoldoutReport,
    Outcome,
    PartReport,
    Reason,
    Rejection,
    RunReport,
    SliceReport,
)
from tests.reports import MODEL, definition, finished, holdout, part, run_start

TONIGHT = date(2026, 11, 22)
NIGHTS = 12
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC).timestamp()
HOSTILE = (
    "\"'><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "{{ 7 * 7 }}\\\n\x00\x1b[31m/../🙂 数字 \u202eabc"
)


def night_start(day: date, hour: float = 2.25) -> float:
    """When a night's run starts, as a Unix timestamp."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + hour * 3600


def register(
    ledger: Ledger, job: JobDefinition, *, next_expected_at: float | None = night_start(TONIGHT + timedelta(days=1))
) -> None:
    ledger.register(job, now=NOW - 30 * 86_400, next_expected_at=next_expected_at)


def batch_records(ledger: Ledger, job: str, run_id: str, batches: int) -> None:
    """Leave the records of a run's batches beside the ledger; latencies rise from 10 ms to 20 ms."""
    writer = RecordWriter(ledger.batch_folder(job), run_id)
    writer.add(
        BatchRecord("a-0-0.parquet", one, 256, 0.01 + 0.01 * one / batches, 0.001, 0.002, 0.003) for one in range(batches)
    )
    writer.close()


def run_of_night(
    ledger: Ledger,
    job: str,
    day: date,
    run_id: str,
    *,
    parts: tuple[PartReport, ...] = (),
    change: Callable[[RunReport], RunReport] = lambda report: report,
) -> RunReport:
    """Take one run through the ledger; `change` has the last word on its report."""
    report = change(replace(finished(run_id, job, parts=parts, started_at=night_start(day)), logical_date=day))
    ledger.start_run(replace(run_start(run_id, job, report.started_at), logical_date=day), next_expected_at=None)
    for one in parts:
        ledger.add_parts(run_id, job, [one])
    ledger.finish_run(report)
    return report


def busy(ledger: Ledger, job: str = "digits") -> None:
    """A month with everything: good nights, a failed and a partial one, a new model, two holdouts, a bad end."""
    base = definition(job, holdouts=("labelled", "fresh"), destination=Destination(gateway="http://127.0.0.1:9091"))
    register(ledger, base)
    for age in range(NIGHTS, 0, -1):
        day = TONIGHT - timedelta(days=age - 1)
        night(ledger, job, day, age)
    ledger.mark_push_failed(job, error="connection refused by http://127.0.0.1:9091", at=NOW)
    batch_records(ledger, job, f"run-{1:02}", 40)


def night(ledger: Ledger, job: str, day: date, age: int) -> None:
    rejected = {Reason.NAN: 3, Reason.NULL: 20} if age in {1, 6} else {}
    parts = (
        part("a-0-0.parquet", rows=1000 + 10 * age, rejected=rejected, latencies=tuple(0.01 + age / 1000 for _ in range(8))),
    )
    judged = (shifted(holdout("labelled"), 0.012 * max(0, 8 - age)), holdout("fresh"))

    def changed(report: RunReport) -> RunReport:
        report = replace(report, holdouts=judged, model=replace(MODEL, version="cnn-1" if age > 5 else "cnn-2"))
        if age == 4:
            return replace(
                report, outcome=Outcome.FAILED, reason="model /models/cnn.safetensors: no such file", holdouts=(), model=None
            )
        if rejected:
            lost = Rejection(f"/data/{day}/bad.parquet", "not a Parquet file", 77)
            return replace(report, outcome=Outcome.PARTIAL, rejections=(lost,))
        return report

    run_of_night(ledger, job, day, f"run-{age:02}", parts=parts, change=changed)
    if age == 9:
        ledger.skip_run(
            replace(
                finished(f"again-{age}", job, outcome=Outcome.SKIPPED, started_at=night_start(day, 3)),
                logical_date=day,
                elapsed_seconds=0.0,
                scoring_seconds=0.0,
                model=None,
                reason="the job is already running",
            )
        )


def shifted(report: HoldoutReport, down: float) -> HoldoutReport:
    """The same holdout, judged worse by `down`."""

    def lower(value: Estimate | None) -> Estimate | None:
        return None if value is None else Estimate(*(one - down for one in value))

    return replace(report, accuracy=lower(report.accuracy), recall=lower(report.recall))


def idle(ledger: Ledger, job: str = "idle") -> None:
    """Registered, never ran, and late."""
    register(ledger, definition(job), next_expected_at=night_start(TONIGHT))


def failed(ledger: Ledger, job: str = "broken") -> None:
    """Its only run failed before it read anything."""
    register(ledger, definition(job))

    def changed(report: RunReport) -> RunReport:
        reason = "unexpected error:\nTraceback …\nZeroDivisionError"
        report = replace(report, scoring_seconds=0.0, batch_rows=None, workers=None, model=None, stage_seconds={})
        return replace(report, outcome=Outcome.FAILED, reason=reason)

    run_of_night(ledger, job, TONIGHT, "run-1", change=changed)


RETRAINING = RetrainRecord("r1", "retrained", Cause.ALERT, TONIGHT, "/models/digits.pt2", NOW - 3700.0)


def failed_to_retrain(ledger: Ledger, job: str = "retrained") -> None:
    """Good runs, and a training that ended badly an hour ago."""
    register(ledger, definition(job))
    run_of_night(ledger, job, TONIGHT, "run-1", parts=(part(),))
    begun = replace(RETRAINING, job=job)
    ledger.start_retrain(begun)
    reason = "train.py ended with exit code 3\nKeyError: 'label'"
    ledger.finish_retrain(replace(begun, finished_at=NOW - 3600.0, outcome=RetrainOutcome.FAILED, reason=reason))


def unjudged(ledger: Ledger, job: str = "plain") -> None:
    """A good run of a job without holdouts, thresholds or schedule; no records of its batches."""
    base = definition(job, holdouts=())
    register(ledger, replace(base, schedule=None, thresholds=Thresholds()), next_expected_at=None)
    run_of_night(ledger, job, TONIGHT, "run-1", parts=(part(latencies=(0.02, 0.03)),))


@contextmanager
def running(ledger: Ledger, job: str = "busy") -> Iterator[None]:
    """A run in progress after two good ones; it lives as long as the `with` block."""
    register(ledger, definition(job))
    parts = (part(latencies=(0.02, 0.03)),)
    for age in (2, 1):
        run_of_night(
            ledger,
            job,
            TONIGHT - timedelta(days=age),
            f"run-{age}",
            parts=parts,
            change=partial(replace, holdouts=(holdout(),)),
        )
    with ledger.lock("run", job):
        ledger.start_run(replace(run_start("run-0", job, NOW - 9000), logical_date=TONIGHT), next_expected_at=None)
        ledger.add_parts("run-0", job, [part("b-0-0.parquet", rows=34_000)])
        yield


def hostile(ledger: Ledger, job: str = HOSTILE) -> None:
    """Every word that somebody else chose is hostile, and the reason is a megabyte long."""
    base = definition(job, holdouts=(HOSTILE,), destination=Destination(gateway="http://127.0.0.1:9091"))
    register(ledger, replace(base, schedule=HOSTILE, timezone=HOSTILE))
    judged = replace(
        holdout(HOSTILE),
        rejected={HOSTILE: 3},
        classes=tuple(ClassReport(f"{HOSTILE}{one}", 300, 300, 290, 0.967, 0.935) for one in range(2)),
        slices=tuple(
            SliceReport(HOSTILE, f"{HOSTILE}{one}", 100, 60, Estimate(0.6, 0.5, 0.7), Estimate(0.6, 0.5, 0.7), judged=one < 2)
            for one in range(3)
        ),
    )
    model = replace(MODEL, version=HOSTILE, sha256=HOSTILE, device=HOSTILE)
    good = (part(latencies=(0.02, 0.03)),)
    yesterday = TONIGHT - timedelta(days=1)
    run_of_night(ledger, job, yesterday, "run-1", parts=good, change=partial(replace, holdouts=(judged,)))

    def changed(report: RunReport) -> RunReport:
        return replace(
            report,
            outcome=Outcome.FAILED,
            reason=HOSTILE + "x" * 1_000_000,
            model=model,
            host=HOSTILE,
            warnings=(HOSTILE,) * 30,
            rejections=tuple(Rejection(HOSTILE, HOSTILE) for _ in range(30)),
        )

    run_of_night(ledger, job, TONIGHT, "run-2", parts=(part(rejected={Reason.NULL: 4}),), change=changed)
    ledger.mark_push_failed(job, error=HOSTILE, at=NOW)


def big(ledger: Ledger, job: str = "big") -> None:
    """As much as there can be: more runs than fit, none good, ten thousand batches, many holdouts, slices and classes."""
    long = "\"<&'🙂" * 100
    names = tuple(f"{long}{one}" for one in range(12))
    register(ledger, definition(job, holdouts=names))
    low = Estimate(0.6, 0.5, 0.7)
    whole = replace(
        holdout(),
        classes=tuple(ClassReport(f"{long}{one}", 300, 300, 290, 0.967, 0.935) for one in range(12)),
        confusion=tuple((true, predicted, 25) for true in range(12) for predicted in range(12)),
        slices=tuple(SliceReport(long, f"{long}{one}", 100, 60, low, low, judged=True) for one in range(200)),
    )
    light, parts = replace(whole, classes=(), confusion=(), slices=()), (part(latencies=(0.02,), rejected={Reason.NULL: 1}),)
    for age in range(MOST_RUNS + 50, 0, -1):
        changed = partial(
            replace,
            outcome=Outcome.FAILED if age % 2 else Outcome.PARTIAL,
            reason=long * 10,
            model=replace(MODEL, version=f"{age}{long}"),
            host=long,
            holdouts=tuple(replace(whole if age == 1 else light, name=one) for one in names[: 12 if age == 1 else 3]),
            rejections=(Rejection(long, long * 2),) * 50 if age == 1 else (),
            warnings=(long,) * 50 if age == 1 else (),
        )
        run_of_night(ledger, job, TONIGHT - timedelta(days=age - 1), f"run-{age}", parts=parts, change=changed)
    batch_records(ledger, job, "run-1", 10_000)
