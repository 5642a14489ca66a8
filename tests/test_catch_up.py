"""Every scheduled time is accounted for once: run, or missed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import cron
from jobs.scheduler.catch_up import LEAST_GRACE_SECONDS, Plan, Schedule, missed_report, plan
from tests.reports import definition

UTC_ZONE, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
HOURLY = Schedule("0 * * * *", UTC_ZONE, 1800.0)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_the_latest_time_is_due_within_its_grace_and_missed_after_it() -> None:
    """At the very end of the grace it is still due."""
    due, after = at("2026-11-22 12:00"), at("2026-11-22 11:30")
    following = at("2026-11-22 13:00")
    assert plan(HOURLY, after=after, now=due - 1) == Plan((), None, due)
    assert plan(HOURLY, after=after, now=due) == Plan((), due, following)
    assert plan(HOURLY, after=after, now=due + 1800) == Plan((), due, following)
    assert plan(HOURLY, after=after, now=due + 1801) == Plan((due,), None, following)
    assert plan(HOURLY, after=due, now=due + 1) == Plan((), None, following)


def test_earlier_times_are_missed() -> None:
    """Late ones are not all run one after the other."""
    found = plan(HOURLY, after=at("2026-11-22 08:30"), now=at("2026-11-22 12:10"))
    assert found.missed == tuple(at(f"2026-11-22 {hour:02}:00") for hour in (9, 10, 11))
    assert found.due_at == at("2026-11-22 12:00")


def test_a_mark_in_the_future_makes_nothing_due() -> None:
    """The clock was set back: those times were accounted for before."""
    assert plan(HOURLY, after=at("2026-11-22 12:30"), now=at("2026-11-22 11:30")) == Plan((), None, at("2026-11-22 13:00"))


def test_a_clock_that_was_decades_behind_does_not_keep_us_counting() -> None:
    """A year is enough."""
    found = plan(Schedule("0 0 * * *", UTC_ZONE, 1800.0), after=0.0, now=at("2026-11-22 12:00"))
    assert 365 <= len(found.missed) <= 367


def test_a_job_without_grace_can_still_run() -> None:
    """No scheduler starts a process in no time."""
    schedule = Schedule.of(replace(definition(), grace_seconds=0.0))
    assert schedule is not None
    assert schedule.grace_seconds == LEAST_GRACE_SECONDS
    assert Schedule.of(replace(definition(), schedule=None)) is None


def test_a_clock_change_neither_repeats_nor_loses_a_night() -> None:
    """02:30 in Berlin, looked at every ten minutes over both changes of the year."""
    nightly = Schedule("30 2 * * *", BERLIN, 1800.0)
    for start in ("2026-03-27 12:00", "2026-10-23 12:00"):
        accounted, dues = at(start), []
        for look in range(1, 5 * 144):
            found = plan(nightly, after=accounted, now=at(start) + 600 * look)
            assert found.missed == ()
            if found.due_at is not None:
                dues.append(found.due_at)
                accounted = found.due_at
        assert len(dues) == 5
        days = [datetime.fromtimestamp(due, BERLIN).date() for due in dues]
        assert len(set(days)) == 5


@settings(deadline=None)
@given(steps=st.lists(st.integers(-7200, 10_000), max_size=30), expression=st.sampled_from(["*/7 * * * *", "0 * * * *"]))
def test_whatever_the_clock_does_each_time_is_accounted_for_once(steps: list[int], expression: str) -> None:
    """It goes forward and back; what was looked at is run or missed, nothing twice, nothing left out."""
    start = at("2026-10-25 00:00")
    schedule = Schedule(expression, BERLIN, 600.0)
    now = accounted = start
    seen: list[float] = []
    for step in steps:
        now = max(now + step, start)
        found = plan(schedule, after=accounted, now=now)
        times = [*found.missed, *([] if found.due_at is None else [found.due_at])]
        seen += times
        accounted = times[-1] if times else accounted
    wanted, moment = [], datetime.fromtimestamp(start, UTC)
    while (moment := cron.following(expression, BERLIN, moment)).timestamp() <= accounted:
        wanted.append(moment.timestamp())
    assert seen == wanted


def test_a_missed_run_has_an_id_of_its_own_that_stays_the_same() -> None:
    """So that the history can't have it twice."""
    reports = [
        missed_report(job, due_at, logical_date=date(2026, 11, 22), reason="r")
        for job in ("a", "b")
        for due_at in (60.0, 120.0)
    ]
    assert len({report.run_id for report in reports}) == 4
    assert missed_report("a", 60.0, logical_date=date(2026, 11, 22), reason="other").run_id == reports[0].run_id
