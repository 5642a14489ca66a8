"""A cron text means what Debian's cron would do with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs import cron

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "now", "expected"),
    [
        ("15 2 * * *", "2026-11-22 02:14:59", "2026-11-22 02:15"),
        ("15 2 * * *", "2026-11-22 02:15:00", "2026-11-23 02:15"),
        ("0 0 * * 0", "2026-11-22 00:00:01", "2026-11-29 00:00"),  # 0 is Sunday
        ("0 0 * * 7", "2026-11-22 00:00:01", "2026-11-29 00:00"),  # and so is 7
        ("0 0 13 * 5", "2026-11-14 00:00:00", "2026-11-20 00:00"),  # day-of-month or weekday
        ("0 0 29 2 *", "2026-11-22 00:00:00", "2028-02-29 00:00"),
        ("@daily", "2026-11-22 00:00:00", "2026-11-23 00:00"),
        ("0 9 * * MON-FRI", "2026-11-21 10:00:00", "2026-11-23 09:00"),
    ],
)
def test_the_next_time_is_crons(expression: str, now: str, expected: str) -> None:
    """Weekday numbers and names, 7, nicknames, leap days, and the OR of the two day fields."""
    assert cron.following(expression, ZoneInfo("UTC"), at(now)) == at(expected)


def test_a_time_that_the_clock_skips_runs_right_after_it() -> None:
    """02:30 does not exist on the last Sunday of March in Berlin: the job runs at 03:00, once."""
    first = cron.following("30 2 * * *", BERLIN, at("2026-03-28 12:00"))
    assert first.astimezone(UTC) == at("2026-03-29 01:00")
    assert cron.following("30 2 * * *", BERLIN, first).astimezone(UTC) == at("2026-03-30 00:30")


def test_a_time_that_the_clock_repeats_runs_once() -> None:
    """02:30 comes twice on the last Sunday of October in Berlin: the job runs at the first."""
    first = cron.following("30 2 * * *", BERLIN, at("2026-10-24 12:00"))
    assert first.astimezone(UTC) == at("2026-10-25 00:30")
    assert cron.following("30 2 * * *", BERLIN, first).astimezone(UTC) == at("2026-10-26 01:30")


@example(datetime(2026, 10, 25, 0, 29, 59))  # noqa: DTZ001  made aware below
@example(datetime(2026, 10, 25, 0, 30))  # noqa: DTZ001
@example(datetime(2026, 10, 25, 1, 10))  # noqa: DTZ001  02:10 for the second time
@example(datetime(2026, 10, 25, 1, 40))  # noqa: DTZ001  02:40 for the second time
@example(datetime(2026, 3, 29, 0, 59, 59))  # noqa: DTZ001
@example(datetime(2026, 3, 29, 1, 0))  # noqa: DTZ001  03:00, where 02:30 would have been
@given(moment=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001  made aware below
def test_the_latest_time_is_not_after_now_and_nothing_lies_between(moment: datetime) -> None:
    """The latest scheduled time and the following one enclose every moment, also around clock changes."""
    now = moment.replace(tzinfo=UTC)
    before, after = (look("30 2 * * *", BERLIN, now) for look in (cron.latest, cron.following))
    assert before.timestamp() <= now.timestamp() < after.timestamp()
    assert cron.following("30 2 * * *", BERLIN, before).timestamp() == after.timestamp()
    assert after.timestamp() - before.timestamp() <= timedelta(hours=25).total_seconds()


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("Europe/Berlin", "2026-03-27 12:00"),
        ("Europe/Berlin", "2026-10-23 12:00"),
        ("Australia/Lord_Howe", "2026-04-03 00:00"),  # by half an hour
        ("Australia/Lord_Howe", "2026-10-02 00:00"),
    ],
)
@pytest.mark.parametrize("expression", ["*/20 1-3 * * *", "0 */2 * * *", "15,45 1,2 * * *"])
@given(minutes=st.integers(0, 4 * 24 * 60))
def test_both_directions_agree_around_clock_changes(expression: str, zone: str, start: str, *, minutes: int) -> None:
    """Walking back finds the times that walking on finds."""
    now = at(start) + timedelta(minutes=minutes)
    before, after = (look(expression, ZoneInfo(zone), now).astimezone(UTC) for look in (cron.latest, cron.following))
    assert before <= now < after
    assert cron.following(expression, ZoneInfo(zone), before).astimezone(UTC) == after
    assert cron.latest(expression, ZoneInfo(zone), after - timedelta(microseconds=1)).astimezone(UTC) == before


def test_the_fields_are_what_the_text_speaks_of() -> None:
    """Names as numbers, 7 as 0, nicknames and odd spaces as five fields."""
    fields = cron.fields("\t5,10-12  */12 1\n jan-mar/2  SUN,6-7 ")
    assert (set(fields.minutes), set(fields.hours), set(fields.days)) == ({5, 10, 11, 12}, {0, 12}, {1})
    assert (set(fields.months), set(fields.weekdays)) == ({1, 3}, {0, 6})
    assert fields.either_day
    assert fields.follows_the_clock
    assert cron.check("\t5,10-12  */12 1\n jan-mar/2  SUN,6-7 ") == "5,10-12 */12 1 jan-mar/2 SUN,6-7"
    assert cron.check(" @Weekly ") == "0 0 * * 0"
    assert not cron.fields("@weekly").follows_the_clock


@pytest.mark.parametrize("expression", ["5/15 * * * *", "5-5/2 * * * *", "0 0 1,7/7 * *", "0 0 * jan/2 *", "0 0 * * sun-0/2"])
def test_a_step_after_one_number_is_refused(expression: str) -> None:
    """`crontab` refuses most of these; what the others mean is not what other readers of cron texts take them for."""
    with pytest.raises(ValueError, match="a step must follow a star or a range"):
        cron.check(expression)


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "@reboot", "0 0 L * *", "0 0 * * 5#2", "a b c d e"]
)
def test_what_cron_would_refuse_is_refused(expression: str) -> None:
    """So that any accepted text can also go into a crontab."""
    with pytest.raises(ValueError, match=r"must|knows|not cron|not a cron"):
        cron.check(expression)
