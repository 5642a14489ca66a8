"""The clock calls when a job's time has come."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from jobs.scheduler.clock import Clock
from jobs.trigger import CronTextTrigger
from tests.scheduling import NOON, Scheduler, WallClock

UTC = ZoneInfo("UTC")


class Shifted(BaseTrigger):  # type: ignore[misc]  # APScheduler publishes no types
    """A cron text by a wall clock that is not the machine's."""

    def __init__(self, expression: str, zone: ZoneInfo, shift: timedelta) -> None:
        self._trigger = CronTextTrigger(expression, zone)
        self._shift = shift

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        return self._trigger.get_next_fire_time(previous and previous + self._shift, now + self._shift) - self._shift


def test_it_calls_for_each_job_until_that_is_forgotten() -> None:
    """And for one that was set twice, once."""
    calls: SimpleQueue[str] = SimpleQueue()
    clock = Clock(calls.put, trigger=lambda expression, _zone: IntervalTrigger(seconds=float(expression), timezone=UTC))
    clock.set("early", "0.05", UTC)
    clock.start()
    clock.set("late", "0.05", UTC)
    assert {calls.get(timeout=20) for _ in range(8)} == {"early", "late"}
    clock.forget("late")
    clock.forget("unknown")
    clock.set("early", "3600", UTC)
    while not calls.empty():
        calls.get()
    clock.set("other", "0.05", UTC)
    assert {calls.get(timeout=20) for _ in range(5)} == {"other"}
    clock.stop()
    clock.stop()


def test_a_run_starts_when_cron_says(tmp_path: Path) -> None:
    """At the minute, not before; nothing but the clock makes the scheduler look."""
    scheduler = Scheduler(tmp_path)
    scheduler.clock = WallClock(NOON + timedelta(seconds=27.5))  # 12:00:57.5
    shift = timedelta(seconds=scheduler.clock() - datetime.now(UTC).timestamp())
    scheduler.settings["trigger"] = lambda expression, zone: Shifted(expression, zone, shift)
    scheduler.known_since("churn", "* * * * *", hours=0.01)
    with scheduler:
        (started,) = scheduler.until("started")
    assert started["due_at"] == (NOON + timedelta(seconds=30)).timestamp()
    assert not scheduler.events("clock")
