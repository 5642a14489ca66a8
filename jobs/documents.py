"""Reports for machines: what `--json` prints. Keys are those of the reports; timestamps are Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from jobs.breaches import Breach
from monitoring.ledger import RunRecord
from monitoring.ledger.records import RUN
from monitoring.state import JobState
from pipelines.report import RunReport

if TYPE_CHECKING:  # a list of jobs needs neither the job file's model nor an HTTP client
    from jobs.request import RunResult


def run_document(result: RunResult, breaches: Iterable[Breach]) -> dict[str, Any]:
    """A run, its breaches and its push."""
    return {
        "run": report_document(result.report),
        "breaches": to_jsonable_python(tuple(breaches)),
        "push": {"delivered": bool(result.delivery and result.delivery.destinations), "error": result.push_error},
    }


def report_document(report: RunReport) -> dict[str, Any]:
    """A run report with the ratios that are worked out from it."""
    document: dict[str, Any] = RUN.dump_python(report, mode="json")
    document["latency_seconds"] = report.latency_seconds
    document["throughput_rows_per_second"] = report.throughput_rows_per_second
    return document


def state_document(state: JobState) -> dict[str, Any]:
    """A job as the ledger knows it."""
    return {
        "job": state.definition.job,
        "state": state.name,
        "definition": to_jsonable_python(state.definition),
        "sequence": state.sequence,
        "running": to_jsonable_python(state.running),
        "last_success_at": state.last_success_at,
        "next_expected_at": state.next_expected_at,
        "push": {"owed": state.owed, "pushed_at": state.pushed_at, "error": state.push_error},
        "latest": report_document(state.latest) if state.latest else None,
        "quality": to_jsonable_python(state.quality),
        "counters": [
            {"name": name, "labels": labels, "value": value} for (name, labels), value in sorted(state.counters.items())
        ],
    }


def history_document(runs: Iterable[RunRecord]) -> list[dict[str, Any]]:
    """Runs, newest first; `report` is null while one is in progress."""
    return [
        {
            "run_id": run.run_id,
            "trigger": run.trigger,
            "logical_date": str(run.logical_date),
            "started_at": run.started_at,
            "outcome": run.outcome or "running",
            "rows_scored": run.rows_scored,
            "rows_rejected": run.rows_rejected,
            "report": report_document(run.report) if run.report else None,
        }
        for run in runs
    ]
