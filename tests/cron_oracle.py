"""Debian's cron, walked minute by minute: what `jobs.cron` is held against.

Written from cron(8) and crontab(5), and shares nothing with the code under test. The daemon keeps a virtual clock
beside the wall clock. Where the wall clock jumps, a job with a star in its minute or hour follows the wall clock,
and a job at fixed times follows the virtual one: it catches up what was skipped, at once, and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EPOCH = date(1970, 1, 1)
_HOUR, _DAY = 60, 1440  # minutes, as all numbers here are
_LARGEST_JUMP = 3 * _HOUR


def fire_times(text: str, zone: ZoneInfo, start: datetime, count: int) -> list[datetime]:
    """The first `count` times (UTC) after `start` (aware, a whole minute) that cron starts the job at."""
    return list(islice(_walk(_Entry.parse(text), zone, start), count))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of a crontab."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both_days: bool
    wild: bool
    known: dict[int, int] = field(default_factory=dict)
    """Day since the epoch → days for which nothing is meant, this one included; 0: it is."""

    @classmethod
    def parse(cls, text: str) -> _Entry:
        minute, hour, day, month, weekday = _NICKNAMES.get(text, text).lower().split()
        return cls(
            minutes=_numbers(minute, 0, 59),
            hours=_numbers(hour, 0, 23),
            days=_numbers(day, 1, 31),
            months=_numbers(month, 1, 12, _MONTHS),
            weekdays=frozenset(number % 7 for number in _numbers(weekday, 0, 7, _WEEKDAYS)),
            both_days=day.startswith("*") or weekday.startswith("*"),
            wild=minute.startswith("*") or hour.startswith("*"),
        )

    def wait(self, clock: int) -> int:
        """0 when this minute is meant, else how long nothing can be: the rest of a month, day, or hours not meant; or 1."""
        day, minute = divmod(clock, _DAY)
        if day not in self.known:
            self.known[day] = self._days_to_wait(_EPOCH + timedelta(days=day))
        if days := self.known[day]:
            return days * _DAY - minute
        hour = minute // _HOUR
        if hour not in self.hours:
            return min((later for later in self.hours if later > hour), default=24) * _HOUR - minute
        return 0 if minute % _HOUR in self.minutes else 1

    def _days_to_wait(self, today: date) -> int:
        if today.month not in self.months:
            return max(29 - today.day, 1)
        of_month, of_week = today.day in self.days, today.isoweekday() % 7 in self.weekdays
        return 0 if (of_month and of_week if self.both_days else of_month or of_week) else 1


def _numbers(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    def number(word: str) -> int:
        return names.index(word) + low if word in names else int(word)

    found: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, dash, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (number(first), number(last if dash else first))
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _walk(entry: _Entry, zone: ZoneInfo, start: datetime) -> Iterator[datetime]:
    first = int(start.timestamp()) // 60 + 1
    virtual = first - 1 + _offset(zone, first)
    for begin, end, offset in _steady(zone, first):
        minute = begin
        while minute < end:
            clock = minute + offset
            jump = clock - virtual
            assert -_LARGEST_JUMP < jump <= _LARGEST_JUMP
            wait = entry.wait(clock)
            if jump > 1:  # the clock went forward
                caught_up = range(clock - jump + 1, clock + 1)
                due = wait == 0 if entry.wild else any(entry.wait(missed) == 0 for missed in caught_up)
            elif jump == 1:
                due = wait == 0
            else:  # it went back, and hasn't caught up yet
                due = wait == 0 and entry.wild
            if due:
                yield datetime.fromtimestamp(minute * 60, UTC)
            passed = min(max(wait, 1), end - minute) if jump == 1 else 1
            if jump > 0:
                virtual = clock + passed - 1
            minute += passed


def _steady(zone: ZoneInfo, begin: int) -> Iterator[tuple[int, int, int]]:
    """Stretches of minutes since the epoch (first, past the last) with one offset from UTC, from `begin` on."""
    while True:
        end, here = begin, _offset(zone, begin)
        while _offset(zone, end + _DAY) == here and end - begin < 400 * _DAY:
            end += _DAY
        end = next((minute for minute in range(end, end + _DAY) if _offset(zone, minute) != here), end + _DAY)
        yield begin, end, here
        begin = end


@cache
def _offset(zone: ZoneInfo, minute: int) -> int:
    shift = datetime.fromtimestamp(minute * 60, zone).utcoffset()
    assert shift is not None
    return int(shift.total_seconds()) // 60
