"""Which scheduled times are still to be accounted for. Pure: the ledger says since when, cron says which.

The latest is due while it is within the job's grace; every other one is missed. The same rule serves an ordinary
minute, a restart after a day, and a clock that jumped: nothing is due twice, since the ledger's mark only rises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from socket import gethostname
from typing import Self
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

from jobs import cron
from monitoring.state import JobDefinition
from pipelines.report import Outcome, RunReport, Trigger

LEAST_GRACE_SECONDS = 60.0
"""A start that is later than the schedule by less is no miss, whatever the job's grace: no scheduler is instant."""
LOOK_BACK_SECONDS = 366 * 86_400.0
"""Times before that are let go: a clock that was once years behind would have us count for hours."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due, and how late it may be."""

    expression: str
    zone: ZoneInfo
    grace_seconds: float

    @classmethod
    def of(cls, definition: JobDefinition) -> Self | None:
        """The job's; None when it is run by hand only."""
        if definition.schedule is None:
            return None
        return cls(definition.schedule, ZoneInfo(definition.timezone), max(definition.grace_seconds, LEAST_GRACE_SECONDS))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a job now. Unix seconds: missed times (rising), the one to run if any, the next to come."""

    missed: tuple[float, ...]
    due_at: float | None
    next_at: float


def plan(schedule: Schedule, *, after: float, now: float) -> Plan:
    """Account for the scheduled times later than `after` and not later than `now`."""
    *past, next_at = _times(schedule, max(after, now - LOOK_BACK_SECONDS), now)
    if past and now - past[-1] <= schedule.grace_seconds:
        return Plan(tuple(past[:-1]), past[-1], next_at)
    return Plan(tuple(past), None, next_at)


def missed_report(job: str, due_at: float, *, logical_date: date, reason: str) -> RunReport:
    """A scheduled time that nobody ran. Its id follows from job and time, so that it can't be in the history twice."""
    return RunReport(
        run_id=uuid5(NAMESPACE_URL, f"batchgauge:missed:{job}:{due_at!r}").hex,
        job=job,
        trigger=Trigger.SCHEDULER,
        logical_date=logical_date,
        host=gethostname(),
        started_at=due_at,
        finished_at=due_at,
        elapsed_seconds=0.0,
        scoring_seconds=0.0,
        outcome=Outcome.MISSED,
        reason=reason,
    )


def _times(schedule: Schedule, after: float, now: float) -> Iterator[float]:
    """The scheduled times after `after`, up to and with the first that is later than both."""
    time = max(after, 0.0)
    while True:
        time = cron.following(schedule.expression, schedule.zone, datetime.fromtimestamp(time, UTC)).timestamp()
        yield time
        if time > now:
            return
