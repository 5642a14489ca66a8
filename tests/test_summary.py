"""What people read in a terminal."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console, RenderableType

from jobs.report.facts import Facts
from jobs.report.last_run import last_run
from jobs.report.words import Clock
from jobs.summary import job_status, run_history
from monitoring.ledger import RunRecord
from monitoring.state import JobState
from pipelines.report import Outcome, Rejection, RunReport
from tests.reports import definition, finished


def text(shown: RenderableType) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def record(report: RunReport) -> RunRecord:
    return RunRecord(
        run_id=report.run_id,
        job=report.job,
        trigger=report.trigger,
        logical_date=report.logical_date,
        host=report.host,
        pid=1,
        started_at=report.started_at,
        finished_at=report.finished_at,
        outcome=report.outcome,
        rows_read=0,
        rows_scored=0,
        rows_rejected=0,
        report=report,
    )


def test_the_history_says_why_a_run_failed_in_one_line() -> None:
    """Below the table, which has no room for it; nothing is added when all went well."""
    failed = replace(finished(outcome=Outcome.FAILED), reason="no files match /inbox [typo]\nand much more")
    lines = text(run_history([record(failed), record(finished())])).splitlines()
    assert lines[-1] == "2026-11-21 02:15 UTC failed: no files match /inbox [typo]"
    assert len(text(run_history([record(finished())])).splitlines()) == 2


def test_the_status_shows_what_was_rejected_and_the_warnings_of_the_latest_run() -> None:
    """As the run itself did when it ended."""
    rejections = tuple(Rejection(f"/inbox/{number}.parquet", f"/inbox/{number}.parquet is torn") for number in range(7))
    latest = replace(finished(outcome=Outcome.PARTIAL), rejections=rejections, warnings=("holdout 'labelled' is gone",))
    shown = text(job_status(JobState(definition(), 1, {}, latest=latest), 0.0))
    assert "rejected: /inbox/4.parquet is torn\n… and 2 more rejected files or parts\n" in shown
    assert "warning: holdout 'labelled' is gone" in shown


def test_batches_that_did_not_fit_into_memory_are_shown_where_there_were_some() -> None:
    """In the terminal, and on the page for people without one."""
    report = finished()
    tight = replace(report, batches_out_of_memory=3)
    shown = "3 batches, inferred again in smaller ones"
    for latest, expected in ((report, False), (tight, True)):
        state = JobState(definition(), 1, {}, latest=latest)
        assert (shown in text(job_status(state, 0.0))) == expected
        facts = Facts(state, (), older_runs=False, batches=None, batches_error=None, clock=Clock(0.0, "UTC"))
        assert ("Batches out of memory" in str(last_run(facts))) == expected


def test_how_the_model_computes_is_shown_where_that_was_asked_for() -> None:
    """Beside the device."""
    report = finished()
    assert report.model is not None
    for latest in (report, replace(report, model=replace(report.model, precision="bfloat16", compiled=False))):
        state = JobState(definition(), 1, {}, latest=latest)
        facts = Facts(state, (), older_runs=False, batches=None, batches_error=None, clock=Clock(0.0, "UTC"))
        for shown in (text(job_status(state, 0.0)), str(last_run(facts))):
            assert ("cpu, bfloat16, not compiled" in shown) == (latest is not report)
