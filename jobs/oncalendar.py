"""Cron texts as systemd's `OnCalendar=`, clock changes included.

systemd by itself leaves out a time that the clock skips, and the second of two hours that show the same. Where cron
would start the job nevertheless, the timer gets these moments one by one, in UTC, for ten years to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from jobs import cron

YEARS = 10
"""For how long clock changes are written out."""

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = timedelta(days=1)


def calendar(expression: str, zone: ZoneInfo, now: datetime) -> list[str]:
    """`OnCalendar=` values that together mean what cron means by this text in this zone, until `YEARS` after `now`.

    First the text itself: two values when either day field may match. Then what systemd would leave out of it.
    Raises `ValueError` for what is no cron text.
    """
    fields = cron.fields(expression)
    weekdays = _listed({(day - 1) % 7 for day in fields.weekdays}, range(7), lambda day: _WEEKDAYS[day])
    months, days = _listed(fields.months, range(1, 13)), _listed(fields.days, range(1, 32))
    time = f"{_listed(fields.hours, range(24))}:{_listed(fields.minutes, range(60))}:00 {zone.key}"
    week = "" if weekdays == "*" else f"{weekdays} "
    dates = [f"*-{months}-{days}", f"{week}*-{months}-*"] if fields.either_day else [f"{week}*-{months}-{days}"]
    return [*(f"{date} {time}" for date in dates), *_left_out(expression, zone, now)]


def _listed(numbers: set[int] | frozenset[int], all_of_them: range, shown: Callable[[int], str] = "{:02}".format) -> str:
    """Numbers as systemd lists them: a star for all, `a..b` for three and more in a row."""
    if numbers.issuperset(all_of_them):
        return "*"
    found: list[str] = []
    for _, row in groupby(enumerate(sorted(numbers)), key=lambda place: place[1] - place[0]):
        run = [shown(number) for _, number in row]
        found += run if len(run) <= 2 else [f"{run[0]}..{run[-1]}"]  # noqa: PLR2004  a range of two is a list
    return ",".join(found)


def _left_out(expression: str, zone: ZoneInfo, now: datetime) -> Iterator[str]:
    """One value for each hour that has such moments: in a gap of the wall clock, or where it repeats itself."""
    fields = cron.fields(expression)
    moments = [
        time.astimezone(UTC)
        for day in _days_of_change(zone, now)
        for time in _times(expression, zone, day, day + _DAY)
        if time.fold or not fields.match(time) or _drops_the_rest(zone, day)
    ]
    for hour, same_hour in groupby(moments, key=lambda moment: moment.replace(minute=0)):
        yield f"{hour:%Y-%m-%d %H}:{_listed({moment.minute for moment in same_hour}, range(60))}:00 UTC"


def _drops_the_rest(zone: ZoneInfo, day: datetime) -> bool:
    """Whether systemd may leave out all that comes after a gap on that day.

    So it does where winter is the time that is shifted (`dst` is negative): in Dublin, Casablanca and El Aaiun (systemd 252).
    """
    before, after = day.astimezone(zone), (day + _DAY).astimezone(zone)
    shifts = [time.dst() or timedelta(0) for time in (before, after)]
    return min(shifts) < timedelta(0) and (before.utcoffset() or timedelta(0)) < (after.utcoffset() or timedelta(0))


def _days_of_change(zone: ZoneInfo, now: datetime) -> Iterator[datetime]:
    """The days (midnights, UTC) on which the zone's offset changes."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(YEARS * 366):
        if day.astimezone(zone).utcoffset() != (day + _DAY).astimezone(zone).utcoffset():
            yield day
        day += _DAY


def _times(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """When cron would start the job, from `start` to before `end`."""
    time = cron.following(expression, zone, start - timedelta(microseconds=1))
    while time.astimezone(UTC) < end:
        yield time
        time = cron.following(expression, zone, time)
