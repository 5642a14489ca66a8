"""What a run is asked, and what it answers. Imports no torch, so that any command may speak of runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from jobs.environment import Environment
from jobs.spec import JobSpec
from monitoring.push import Delivery
from pipelines.report import RunReport, Trigger


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to run. Without a logical date it is that of the latest scheduled time.

    `due_at` (Unix seconds) is the scheduled time that it is to stand for, and for no other: it is skipped when that time
    is accounted for already.
    """

    spec: JobSpec
    environment: Environment
    trigger: Trigger = Trigger.MANUAL
    logical_date: date | None = None
    rescore: bool = False
    due_at: float | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, and what became of its push: without a delivery it is owed, for the reason given."""

    report: RunReport
    delivery: Delivery | None
    push_error: str | None
