"""One meaning of a cron text everywhere: Debian cron's, clock changes included.

Five fields, names, lists, ranges, steps, 7 for Sunday; day-of-month and day-of-week are ORed unless one of
them starts with a star. `@hourly` to `@yearly` stand for what crontab(5) says. What cron itself doesn't know
(seconds, `L`, `#`, `@reboot`) is refused, so that the same text can go into a crontab.

`cronsim` reads the text and walks the wall clock; here its times are put where they fall in a zone, as cron(8)
says: a job at fixed times runs right after a gap that skipped it, and once where the clock repeats itself; one
with a star in its minute or hour follows the wall clock, so it skips with it and repeats with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = 5
_LONGEST_SHIFT = timedelta(hours=3)
"""No clock is ever changed by more: wall times this far apart are in the order of their instants."""
_MINUTE = timedelta(minutes=1)
_NOT_CRON = re.compile(r"#|\dL|\bLW?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fields:
    """The times that a cron text speaks of. Sunday is 0."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Whether a day need match only one of `days` and `weekdays`."""
    follows_the_clock: bool
    """Whether minute or hour starts with a star: cron doesn't catch up on such a job, and doesn't hold it back."""

    def match(self, wall: datetime) -> bool:
        """Whether a clock that shows this time shows one of these."""
        of_month, of_week = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        day = of_month or of_week if self.either_day else of_month and of_week
        return day and wall.month in self.months and wall.hour in self.hours and wall.minute in self.minutes


@lru_cache(maxsize=1024)
def check(expression: str) -> str:
    """The expression as five fields, one space between. Raises `ValueError` that says what is wrong with it."""
    text = " ".join(_NICKNAMES.get(expression.strip().lower(), expression).split())
    if text.startswith("@"):
        message = f"knows {', '.join(_NICKNAMES)} and no other nickname"
        raise ValueError(message)
    if len(text.split()) != _FIELDS:
        message = "must have five fields: minute hour day-of-month month day-of-week"
        raise ValueError(message)
    if _NOT_CRON.search(text):
        message = "'L' and '#' are not cron: crontab would refuse them"
        raise ValueError(message)
    try:
        next(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        message = f"is not a cron text: {str(error).lower()}"
        raise ValueError(message) from error
    except StopIteration as error:
        message = "never comes: no date matches it"
        raise ValueError(message) from error
    if _has_lone_step(text):
        message = "is not a cron text: a step must follow a star or a range, as in '*/15' or '5-59/15'"
        raise ValueError(message)
    return text


def _has_lone_step(text: str) -> bool:
    """Whether a step follows one number: `crontab` refuses `5/15`, and `cronsim` would widen `5-5/15` too."""
    for field, numbers in zip(list(Field)[1:], text.upper().split(), strict=True):  # without the seconds
        spans = (term.partition("/") for term in numbers.split(","))
        if any(step and len(field.parse(span)) == 1 for span, _, step in spans):
            return True
    return False


@lru_cache(maxsize=1024)
def fields(expression: str) -> Fields:
    """The expression taken apart. Raises `ValueError` as `check` does."""
    text = check(expression)
    read = CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    minute, hour, *_ = text.split()
    return Fields(
        minutes=frozenset(read.minutes),
        hours=frozenset(read.hours),
        days=frozenset(read.days),
        months=frozenset(read.months),
        weekdays=frozenset(day % 7 for day in read.weekdays if isinstance(day, int)),  # 7 is Sunday too
        either_day=not read.day_and,
        follows_the_clock=minute.startswith("*") or hour.startswith("*"),
    )


def following(expression: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The first scheduled time after `now` (aware), in `zone`."""
    now, first = now.astimezone(UTC), None
    for wall, times in _around(expression, zone, now, reverse=False):
        first = min((time for time in (first, *times) if time and time > now), default=None)
        if first and wall >= _wall(first, zone) + _disorder(first, zone):
            break
    return _found(first, zone)


def latest(expression: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The last scheduled time that is not after `now` (aware), in `zone`."""
    now, last = now.astimezone(UTC), None
    for wall, times in _around(expression, zone, now, reverse=True):
        last = max((time for time in (last, *times) if time and time <= now), default=None)
        if last and wall <= _wall(last, zone) - _disorder(last, zone):
            break
    return _found(last, zone)


def _around(expression: str, zone: ZoneInfo, now: datetime, *, reverse: bool) -> Iterator[tuple[datetime, list[datetime]]]:
    """The wall times that the text speaks of, from so far before `now` that none is missed, with their instants (UTC)."""
    follows_the_clock = fields(expression).follows_the_clock
    margin = _disorder(now, zone)
    start = _wall(now, zone) + (margin + _MINUTE if reverse else -margin)  # it walks on from there, never on the spot
    for wall in CronSim(check(expression), start, reverse=reverse):
        yield wall, _instants(wall, zone, follows_the_clock=follows_the_clock)


def _disorder(instant: datetime, zone: ZoneInfo) -> timedelta:
    """How far apart wall times must be, near this instant, to be in the order of their instants."""
    before, after = ((instant + shift).astimezone(zone).utcoffset() for shift in (-_LONGEST_SHIFT, _LONGEST_SHIFT))
    return timedelta() if before == after else _LONGEST_SHIFT


def _instants(wall: datetime, zone: ZoneInfo, *, follows_the_clock: bool) -> list[datetime]:
    """When cron runs a job that is meant for this wall time: mostly once; never, late or twice at a clock change."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return [first]
    if _wall(first, zone) == wall:  # the clock shows it twice
        return [first, second] if follows_the_clock else [first]
    return [] if follows_the_clock else [_end_of_gap(wall, zone)]


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    instant = wall
    while _wall(instant.replace(tzinfo=zone).astimezone(UTC), zone) != instant:
        instant += _MINUTE
    return instant.replace(tzinfo=zone).astimezone(UTC)


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _found(instant: datetime | None, zone: ZoneInfo) -> datetime:
    assert instant is not None, "a text that was checked comes again and again"
    return instant.astimezone(zone)
