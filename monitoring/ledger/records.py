"""What goes into the ledger and comes out of it, and how it is written down as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from monitoring.ledger.schema import Damaged
from monitoring.state import JobDefinition, PushedGroup
from pipelines.errors import LedgerError
from pipelines.report import HoldoutReport, ModelReport, Outcome, Reason, RunReport, Stage, Trigger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunStart:
    """A run as it begins. `started_at` is a Unix timestamp."""

    run_id: str
    job: str
    trigger: Trigger
    logical_date: date
    host: str
    pid: int
    started_at: float


class Revision(NamedTuple):
    """Another one, and what `Ledger.state` returns is another; the same, and it is the same. Timestamps are Unix seconds.

    `registered_at` tells a job that was forgotten and registered again from the one before.
    """

    registered_at: float
    sequence: int
    pushed_sequence: int
    pushed_at: float | None
    push_failed_at: float | None


class RunOutline(NamedTuple):
    """A run without its report: how it ended (None: in progress), when it started (Unix seconds), its rows so far."""

    outcome: Outcome | None
    started_at: float
    rows_scored: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One line of a job's history. `finished_at`, `outcome` and `report` are None while the run is in progress.

    Rows are those so far, as they were added part by part. A run that never began has no pid; a missed one
    "started" when it was due.
    """

    run_id: str
    job: str
    trigger: Trigger
    logical_date: date
    host: str
    pid: int | None
    started_at: float
    finished_at: float | None
    outcome: Outcome | None
    rows_read: int
    rows_scored: int
    rows_rejected: int
    report: RunReport | None


@dataclass(frozen=True, slots=True)
class CommittedPart:
    """A part whose predictions are on disk: which input made it, and which model."""

    name: str
    source: str
    output: str
    fingerprint: str
    model: str
    rows_scored: int


PUSHED_GROUP = TypeAdapter(PushedGroup)
DEFINITION = TypeAdapter(JobDefinition)
MODEL = TypeAdapter(ModelReport)
HOLDOUT = TypeAdapter(HoldoutReport)
RUN = TypeAdapter(RunReport)
REJECTED = TypeAdapter(dict[Reason, int])
STAGES = TypeAdapter(dict[Stage, int])


def written(adapter: TypeAdapter[T], value: T, what: str) -> str:
    """The value as JSON that `read` will understand. Raises `LedgerError` naming `what` when there is none."""
    try:
        text = adapter.dump_json(value).decode()
        adapter.validate_json(text)
    except ValueError as error:  # a ValidationError (NaN, say), or text that is not UTF-8
        message = f"{what} can't be written down, so nothing was recorded: {error}"
        raise LedgerError(message) from error
    return text


def read(adapter: TypeAdapter[T], text: str, what: str) -> T:
    """The value that `written` put down. Raises `LedgerError` naming `what` when it can't be understood."""
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        message = f"{what} can't be read back from the ledger (was it edited, or written by another version?): {error}"
        raise LedgerError(message) from error


def parsed(parse: Callable[[Any], T], value: object, what: str) -> T:
    """What `parse` makes of a stored value. Raises `Damaged` naming `what` where it can't."""
    try:
        return parse(value)
    except (ValueError, TypeError, LookupError) as error:
        raise Damaged(f"{what} can't be understood: {error!r}") from error


def day(text: str, what: str) -> date:
    """The day of an ISO date. Raises `Damaged` naming `what` when it is none."""
    return parsed(date.fromisoformat, text, what)
