"""The trigger fires when Debian's cron would start the job."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler

from jobs.trigger import CronTextTrigger
from tests.cron_oracle import fire_times

BERLIN = ZoneInfo("Europe/Berlin")

CLOCK_CHANGES = {
    "Europe/Berlin": ("2026-03-29 01:00", "2026-10-25 01:00"),
    "America/New_York": ("2026-03-08 07:00", "2026-11-01 06:00"),
    "Australia/Lord_Howe": ("2026-04-04 15:00", "2026-10-03 15:30"),  # by half an hour
}
"""When clocks change (UTC)."""
ZONES = [ZoneInfo(name) for name in CLOCK_CHANGES]

OFTEN = [
    "*/15 * * * *",
    "@hourly",
    "*/7 2 * * *",
    "*/20 1,2 * * *",
    "*/15 3 * * *",
    "*/30 0 * * *",
    "0 */2 * * *",
    "30 */2 * * *",
    "0 0-23 * * *",
    "10-40/10 1-3 * * 5-7",
]
SELDOM = [
    "15 2 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "0,30 2 * * *",
    "45 1 * * *",
    "@daily",
    "@weekly",
    "@monthly",
    "0 0 * * 7",
    "30 1 * * 0",
    "30 2 * * sun",
    "0 9 * * MON-FRI",
    "0 0 13 * 5",
    "0 0 11-17 * */2",
    "0 0 */5 * 1",
    "0 12 1-14,31 jan,JUL *",
    "59 23 29,30,31 * *",
    "10 2 1-7 * 1-5/2",
    "15 1 * 3,10,11 sun",
    "0 6 */10,31 * *",
    "*/10 0-4 29 2 *",
]
RARELY = {"@yearly": 100, "@annually": 100, "30 2 29 3 *": 100, "0 0 29 2 *": 25, "0 0 29 feb */7": 5}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fired(text: str, zone: ZoneInfo, start: datetime) -> Iterator[datetime]:
    """One fire time after another, each asked for when the one before has just fired."""
    trigger, time = CronTextTrigger(text, zone), start
    while True:
        time = trigger.get_next_fire_time(time, time)
        yield time


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize("text", OFTEN)
def test_around_clock_changes_it_fires_when_cron_would(text: str, zone: ZoneInfo) -> None:
    """1,000 times from the day before the clock goes forward, and 1,000 from the day before it goes back."""
    for change in CLOCK_CHANGES[zone.key]:
        start = at(change) - timedelta(days=1)
        assert list(islice(fired(text, zone, start), 1000)) == fire_times(text, zone, start, 1000)


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize("text", SELDOM)
def test_over_the_years_it_fires_when_cron_would(text: str, zone: ZoneInfo) -> None:
    """1,000 times: weekday numbers and names, both day fields, steps, lists, leap days, and years of clock changes."""
    start = at("2026-01-01 00:00")
    assert list(islice(fired(text, zone, start), 1000)) == fire_times(text, zone, start, 1000)


@pytest.mark.parametrize(("text", "count"), RARELY.items())
def test_over_the_centuries_it_fires_when_cron_would(text: str, count: int) -> None:
    """Once a year or less, and past 2100, which has no leap day."""
    start = at("2026-01-01 00:00")
    assert list(islice(fired(text, BERLIN, start), count)) == fire_times(text, BERLIN, start, count)


def test_the_first_time_may_be_now() -> None:
    """A job that is added at its very minute is due; one that is added a moment later is not."""
    trigger = CronTextTrigger("15 2 * * *", ZoneInfo("UTC"))
    due, moment = at("2026-11-22 02:15"), timedelta(microseconds=1)
    assert trigger.get_next_fire_time(None, due) == due
    assert trigger.get_next_fire_time(None, due - moment) == due
    assert trigger.get_next_fire_time(None, due + moment) == due + timedelta(days=1)


def test_times_that_were_missed_are_not_passed_over() -> None:
    """Each comes after the one before, however late it is, so that the scheduler sees what it missed."""
    trigger, now = CronTextTrigger("@daily", ZoneInfo("UTC")), at("2026-11-22 12:00")
    assert trigger.get_next_fire_time(at("2026-11-19 00:00"), now) == at("2026-11-20 00:00")


def test_a_clock_that_was_set_back_repeats_nothing() -> None:
    """What fired doesn't fire again because the machine's clock now shows an earlier time."""
    trigger = CronTextTrigger("15 2 * * *", ZoneInfo("UTC"))
    assert trigger.get_next_fire_time(at("2026-11-22 02:15"), at("2026-11-22 02:10")) == at("2026-11-23 02:15")


def test_a_naive_time_is_one_of_the_triggers_zone() -> None:
    """As APScheduler reads naive times everywhere."""
    trigger = CronTextTrigger("15 2 * * *", BERLIN)
    naive = at("2026-11-22 02:00").replace(tzinfo=None)
    assert trigger.get_next_fire_time(None, naive) == at("2026-11-22 01:15")
    assert trigger.get_next_fire_time(naive.replace(minute=15), naive) == at("2026-11-23 01:15")


def test_fire_times_are_in_order_where_the_clock_repeats_itself() -> None:
    """Compared as APScheduler compares them: the second 02:00 is not before the first 02:30."""
    times = list(islice(fired("*/30 * * * *", BERLIN, at("2026-10-24 23:59")), 6))
    assert times == sorted(times)
    assert [time.astimezone(BERLIN).strftime("%H:%M") for time in times] == [
        "02:00",
        "02:30",
        "02:00",
        "02:30",
        "03:00",
        "03:30",
    ]


def test_it_can_be_kept_in_a_job_store() -> None:
    """It survives pickling, and equals what it was."""
    trigger = CronTextTrigger("@weekly", BERLIN)
    again = pickle.loads(pickle.dumps(trigger))  # noqa: S301  our own, a line ago
    assert again == trigger
    assert hash(again) == hash(trigger)
    assert again != CronTextTrigger("@weekly", ZoneInfo("UTC"))
    assert again != "@weekly"
    assert str(again) == "cron[0 0 * * 0, Europe/Berlin]"
    assert repr(again) == "CronTextTrigger('0 0 * * 0', ZoneInfo('Europe/Berlin'))"
    now = at("2026-11-22 12:00")
    assert again.get_next_fire_time(None, now) == trigger.get_next_fire_time(None, now)


def test_a_real_scheduler_takes_it() -> None:
    """The next run is worked out when the job is added."""
    scheduler = BackgroundScheduler(timezone=BERLIN)
    scheduler.start(paused=True)
    try:
        job: Job = scheduler.add_job(print, CronTextTrigger("15 2 29 2 *", BERLIN))
        assert (job.next_run_time.month, job.next_run_time.day) == (2, 29)
        job.pause()
        job.resume()
        assert job.next_run_time.astimezone(BERLIN).strftime("%d.%m. %H:%M") == "29.02. 02:15"
    finally:
        scheduler.shutdown()


@pytest.mark.parametrize("text", ["", "5/15 * * * *", "0 0 30 2 *", "@reboot", "0 0 * * 5L"])
def test_what_is_no_cron_text_is_refused(text: str) -> None:
    """At once, and not when the first run should have been."""
    with pytest.raises(ValueError, match=r"must|never|knows|not cron|not a cron"):
        CronTextTrigger(text, BERLIN)
