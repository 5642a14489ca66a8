"""Retrainings for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic_core import to_jsonable_python
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.foreign import name
from jobs.retrain.request import RetrainResult
from jobs.summary import moment, push_line, seconds
from monitoring.ledger import ModelId, RetrainOutcome, RetrainRecord

_STYLES = {
    RetrainOutcome.PROMOTED: "green",
    RetrainOutcome.REFUSED: "yellow",
    RetrainOutcome.FAILED: "bold red",
    RetrainOutcome.STOPPED: "yellow",
    RetrainOutcome.DRY_RUN: "cyan",
    RetrainOutcome.ROLLED_BACK: "magenta",
}


def retrain_summary(result: RetrainResult) -> RenderableType:
    """One retraining: how it ended and why, which models, and what became of the push."""
    record = result.record
    if record is None:
        return Text(f"nothing was done: {result.reason}")
    return Group(
        _headline(record),
        Text(record.reason or ""),
        Text(_models(record), style="dim"),
        push_line(result.delivery, result.push_error),
    )


def retrain_history(records: Iterable[RetrainRecord]) -> Table:
    """Retrainings, newest first."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("started", "date", "by", "outcome", "took", "before", "after", "reason"):
        table.add_column(heading)
    for record in records:
        table.add_row(
            moment(record.started_at),
            str(record.logical_date),
            str(record.cause),
            outcome_text(record),
            seconds(record.finished_at - record.started_at) if record.finished_at is not None else "",
            Text(record.before.version if record.before else ""),
            Text(record.after.version if record.after else ""),
            Text(_first_line(record)),
        )
    return table


def latest_line(record: RetrainRecord) -> Text:
    """The latest retraining, in a line."""
    return Text.assemble(outcome_text(record), f" {moment(record.started_at)} (by {record.cause}): {_first_line(record)}")


def outcome_text(record: RetrainRecord) -> Text:
    """How it ended, in its colour."""
    return Text("running", style="cyan") if record.outcome is None else Text(str(record.outcome), style=_STYLES[record.outcome])


def retrain_document(result: RetrainResult) -> dict[str, Any]:
    """For a machine."""
    return {
        "retrain": record_document(result.record) if result.record else None,
        "reason": result.record.reason if result.record else result.reason,
        "push": {"delivered": bool(result.delivery and result.delivery.destinations), "error": result.push_error},
    }


def record_document(record: RetrainRecord) -> dict[str, Any]:
    """For a machine. Keys are those of the record; timestamps are Unix seconds."""
    document: dict[str, Any] = to_jsonable_python(record)
    for side in ("before", "after"):
        model: ModelId | None = getattr(record, side)
        document[side] = model._asdict() if model else None
    document["alerts"] = [alert._asdict() for alert in record.alerts]
    document["outcome"] = record.outcome or "running"
    return document


def _headline(record: RetrainRecord) -> Text:
    text = Text.assemble((name(record.job), "bold"), f" · {record.logical_date} · ", outcome_text(record))
    if record.finished_at is not None:
        text.append(f" in {seconds(record.finished_at - record.started_at)}")
    return text


def _models(record: RetrainRecord) -> str:
    sides = ((name, getattr(record, name)) for name in ("before", "after"))
    return "  ".join(f"{name} {model.version} ({model.sha256[:12]})" for name, model in sides if model is not None)


def _first_line(record: RetrainRecord) -> str:
    return (record.reason or "").split("\n")[0]
