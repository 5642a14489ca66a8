"""Axes: from values to a share of the width or height, with ticks that a person would have chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil, floor, isfinite, log10

_UNITS = ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"))
_FROM = {"min": 120.0, "h": 7200.0}  # 90 s is read more easily than 1.5 min
_LONGEST_IN_DAYS = 100
_NOTHING = 1e-9
_MOST_STEPS, _MOST_DAYS = 4, 5
_MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 600, 1200)


@dataclass(frozen=True, slots=True)
class Tick:
    """A value that is named on an axis."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`, which are finite and not the same."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def share(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`. What lies outside is put on the edge."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def count_axis(high: float) -> Axis:
    """From 0 to a round number at or above `high`, in whole steps."""
    step = max(1.0, nice_step(high))
    return _stepped(0.0, high, step, number)


def amount_axis(high: float) -> Axis:
    """From 0 to a round number at or above `high`."""
    return _stepped(0.0, high, nice_step(high), number)


def ratio_axis(low: float) -> Axis:
    """From a round number at or below `low` to 1: for ratios, whose upper end is known."""
    span = 1.0 - min(max(low, 0.0), 0.98)  # a flat line at 1 should look flat
    step = nice_step(span)
    first = max(0.0, 1.0 - ceil(round(span / step, 6)) * step)
    return _stepped(first, 1.0, step, _ratio)


def seconds_axis(high: float) -> Axis:
    """From 0 to a round number of the unit that suits `high` seconds."""
    seconds, unit = next((size, name) for size, name in reversed(_UNITS) if high >= _FROM.get(name, size) or name == "µs")
    axis = _stepped(0.0, high / seconds, nice_step(high / seconds), lambda value: f"{number(value)} {unit}")
    return Axis(0.0, axis.high * seconds, tuple(Tick(tick.value * seconds, tick.label) for tick in axis.ticks))


def day_axis(first: date, last: date) -> Axis:
    """Whole days, by their ordinals: from the morning of `first` to the night of `last`; ticks stand at a day's middle.

    Ticks are days, Mondays, or the first of a month, a quarter, a year, whichever are few enough.
    """
    only = [Tick(first.toordinal() + 0.5, f"{first:%-d %b %Y}")]
    ticks = next((found for found in _candidates(first, last) if 1 < len(found) <= _MOST_DAYS), only)
    return Axis(float(first.toordinal()), float(last.toordinal() + 1), tuple(ticks))


def _candidates(first: date, last: date) -> Iterator[list[Tick]]:
    span = (last - first).days + 1
    if span <= _LONGEST_IN_DAYS:
        days = [first + timedelta(days=after) for after in range(span)]
        mondays = [day for day in days if day.weekday() == 0]
        yield from ([_day(day) for day in some] for some in (days, days[::2], days[::3], mondays, mondays[::2]))
    for step in _MONTHS:
        yield [_month(day, step) for day in _firsts(first, last, step)]


def _firsts(first: date, last: date, step: int) -> Iterator[date]:
    """The first days of every `step`th month, counted from the year 0, that lie between the two."""
    start = first.year * 12 + first.month - 1 + (first.day > 1)
    for month in range(ceil(start / step) * step, last.year * 12 + last.month, step):
        yield date(month // 12, month % 12 + 1, 1)


def _day(day: date) -> Tick:
    return Tick(day.toordinal() + 0.5, f"{day:%-d %b}")


def _month(day: date, step: int) -> Tick:
    return Tick(day.toordinal() + 0.5, str(day.year) if step % 12 == 0 else f"{day:%b %Y}")


def nice_step(span: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, 50 … (or 0.5, 0.2, 0.1 …) of which four reach over the span; 1 for next to none."""
    if not isfinite(span) or span < _NOTHING:
        return 1.0
    power = 10.0 ** floor(log10(span / _MOST_STEPS))
    return next((factor * power for factor in (1, 2, 5) if factor * power * _MOST_STEPS >= span * (1 - 1e-9)), 10 * power)


def _stepped(low: float, high: float, step: float, label: Callable[[float], str]) -> Axis:
    steps = max(1, ceil(round((high - low) / step, 6)))
    values = [low + step * number for number in range(steps + 1)]
    return Axis(values[0], values[-1], tuple(Tick(value, label(value)) for value in values))


def number(value: float) -> str:
    """A number with thousands separators, from a million on in millions, and in no more digits than one reads."""
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:,.4g}{name}"
    thousand = 1000
    return f"{value:,.0f}" if value == round(value) or abs(value) >= thousand else f"{value:.4g}"


def _ratio(value: float) -> str:
    return f"{value:.3g}"
