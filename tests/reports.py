"""Reports made by hand: fixed figures that a test can name.

`python -m tests.reports > tests/golden/state.prom` writes the golden exposition anew.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from monitoring.exposition import render
from monitoring.ledger import Ledger, RunStart
from monitoring.state import Destination, JobDefinition, JobState, Thresholds
from pipelines.report import (
    BatchRecord,
    ClassReport,
    Estimate,
    HoldoutReport,
    ModelReport,
    Outcome,
    PartReport,
    Reason,
    ResourceReport,
    RunReport,
    SliceReport,
    Stage,
    Trigger,
    exact_quantiles,
)

JOB = "digits"
DAY = date(2026, 11, 21)
MODEL = ModelReport(version="2026-11-22", sha256="ab" * 32, format="safetensors", device="cpu", parameters=1234)
PUSHED_AT = 1795228000.5


def definition(
    job: str = JOB, *, holdouts: tuple[str, ...] = ("labelled",), destination: Destination | None = None
) -> JobDefinition:
    """A job that runs at night."""
    return JobDefinition(
        job=job,
        spec_path=f"/jobs/{job}.toml",
        schedule="15 2 * * *",
        timezone="UTC",
        grace_seconds=1800.0,
        thresholds=Thresholds(latency_seconds=1.0, accuracy=0.9, recall=0.85),
        holdouts=holdouts,
        destination=destination or Destination(),
        timeout_seconds=7200.0,
        retrains=True,
    )


def run_start(run_id: str = "run-1", job: str = JOB, started_at: float = 1795227300.0) -> RunStart:
    """A run started by cron."""
    return RunStart(run_id, job, Trigger.CRON, DAY, "worker-7", 4242, started_at)


def part(
    name: str = "a-0-0.parquet",
    *,
    rows: int = 100,
    rejected: Mapping[Reason, int] | None = None,
    latencies: tuple[float, ...] = (0.01,),
    error: str | None = None,
) -> PartReport:
    """A part of `rows` scored rows."""
    lost = dict(rejected or {})
    records = tuple(BatchRecord(name, number, rows, seconds, 0.0, 0.0, 0.0) for number, seconds in enumerate(latencies))
    return PartReport(
        name=name,
        source=f"/data/{name}",
        output=f"/scored/{name}",
        fingerprint="f" * 8,
        model="m" * 8,
        rows_read=rows + sum(lost.values()),
        rows_scored=rows,
        rows_rejected=lost,
        stage_seconds={Stage.READ: 0.1, Stage.PREPARE: 0.2, Stage.INFER: sum(latencies), Stage.WRITE: 0.3},
        batches=records,
        error=error,
    )


def holdout(name: str = "labelled", *, error: str | None = None) -> HoldoutReport:
    """A judged holdout with two classes and three slices, one of them without an example of recall's class."""
    if error:
        return HoldoutReport(name=name, min_examples=30, evaluated_at=1795227390.0, error=error)
    return HoldoutReport(
        name=name,
        min_examples=30,
        evaluated_at=1795227390.0,
        examples=600,
        correct=570,
        accuracy=Estimate(0.95, 0.9295, 0.9647),
        recall=Estimate(0.94, 0.91, 0.96),
        precision=0.945,
        f1_score=0.9425,
        classes=(ClassReport("zero", 300, 310, 290, 0.967, 0.935), ClassReport('"one"\n', 300, 290, 280, 0.933, None)),
        confusion=((0, 0, 290), (0, 1, 10), (1, 0, 20), (1, 1, 280)),
        slices=(
            SliceReport("scanner", "a", 300, 290, Estimate(0.967, 0.94, 0.982), Estimate(0.96, 0.93, 0.98), judged=True),
            SliceReport("scanner", "b\\🙂", 280, 270, Estimate(0.964, 0.935, 0.98), Estimate(0.95, 0.92, 0.97), judged=True),
            SliceReport("scanner", "__other__", 20, 10, Estimate(0.5, 0.299, 0.701), None, judged=False),
        ),
        slices_dropped=4,
        seconds=1.25,
    )


def finished(
    run_id: str = "run-1",
    job: str = JOB,
    *,
    outcome: Outcome = Outcome.SUCCESS,
    parts: tuple[PartReport, ...] = (),
    holdouts: tuple[HoldoutReport, ...] = (),
    started_at: float = 1795227300.0,
) -> RunReport:
    """The report of a run of these parts."""
    rejected = {reason: sum(one.rows_rejected.get(reason, 0) for one in parts) for reason in Reason}
    latencies = [batch.latency_seconds for one in parts for batch in one.batches]
    stages = {stage: sum(one.stage_seconds.get(stage, 0.0) for one in parts) for stage in Stage}
    return RunReport(
        run_id=run_id,
        job=job,
        trigger=Trigger.CRON,
        logical_date=DAY,
        host="worker-7",
        started_at=started_at,
        finished_at=started_at + 100.25,
        elapsed_seconds=100.25,
        scoring_seconds=80.0,
        outcome=outcome,
        model=MODEL,
        batch_rows=1024,
        workers=2,
        parts_planned=len(parts),
        parts_done=len(parts),
        rows_read=sum(one.rows_read for one in parts),
        rows_scored=sum(one.rows_scored for one in parts),
        rows_rejected={reason: rows for reason, rows in rejected.items() if rows},
        batches=len(latencies),
        latency_quantiles=exact_quantiles(latencies),
        stage_seconds=stages | {Stage.EVALUATE: sum(one.seconds for one in holdouts)},
        holdouts=holdouts,
        resources=ResourceReport(0.75, 512 * 2**20, 2**30),
    )


def one_run(ledger: Ledger, report: RunReport, parts: tuple[PartReport, ...]) -> None:
    """Take a run through the ledger, from start to finish."""
    ledger.start_run(run_start(report.run_id, report.job, report.started_at), next_expected_at=None)
    for one in parts:
        ledger.add_parts(report.run_id, report.job, [one])
    ledger.finish_run(report)


def full_state(folder: Path, job: str = JOB) -> JobState:
    """A job's state in which every family has a value."""
    parts = (
        part("a-0-0.parquet", rows=12_345_678, latencies=(0.0001, 0.02, 100.0)),
        part("b-0-0.parquet", rows=100, rejected={Reason.NAN: 3, Reason.NULL: 2}, latencies=(0.02,)),
    )
    with Ledger.open(folder / "ledger.db") as ledger:
        ledger.register(definition(job), now=1795220000.0, next_expected_at=1795313700.0)
        one_run(ledger, finished("run-1", job, parts=parts, holdouts=(holdout(),)), parts)
        return ledger.state(job)


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        sys.stdout.write(render(full_state(Path(folder)), pushed_at=PUSHED_AT).decode())
