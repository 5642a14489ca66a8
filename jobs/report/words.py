"""Values as a person reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from jobs.summary import seconds
from pipelines.report import Estimate

_DAY = 86_400.0


def duration(value: float) -> str:
    """Seconds in the unit that suits them, days included."""
    days = value / _DAY
    if days >= 2:  # noqa: PLR2004  26 h are read more easily than 1 day
        return f"{days:,.0f} days"
    return seconds(value).replace(".0 ", " ").replace(" h 0 min", " h")


def rough(value: float) -> str:
    """Seconds in one whole unit, for a glance: `45 s`, `7 h`, `31 h`, `3 days`."""
    for size, unit in ((_DAY, "days"), (3600.0, "h"), (60.0, "min")):
        if value >= 2 * size:
            return f"{value // size:,.0f} {unit}"
    return f"{value:.0f} s"


def ratio(value: float | None) -> str:
    """A ratio in three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def bounds(value: Estimate) -> str:
    """Its 95 % bounds, `0.91–0.95`."""
    return f"{value.lower:.2f}–{value.upper:.2f}"


def binary_bytes(value: float) -> str:
    """Memory in the binary unit that suits it."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:  # noqa: PLR2004  what a unit is of the one before
            return f"{value:,.0f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"


def plural(count: int, noun: str, nouns: str = "") -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


@dataclass(frozen=True, slots=True)
class Clock:
    """Now, and the job's time zone; UTC where this machine doesn't know the zone."""

    now: float
    zone: str

    def moment(self, timestamp: float) -> str:
        """A time in full: `Sun 22 Nov 2026, 02:15 CET`."""
        return f"{self._at(timestamp):%a %-d %b %Y, %H:%M %Z}"

    def short(self, timestamp: float) -> str:
        """A time for a table: `2026-11-22 02:15`."""
        return f"{self._at(timestamp):%Y-%m-%d %H:%M}"

    def soon(self, timestamp: float) -> str:
        """A time that is near, so that its weekday names it: `Sun 02:15 CET`."""
        return f"{self._at(timestamp):%a %H:%M %Z}"

    def ago(self, timestamp: float) -> str:
        """How long ago that was, or how far ahead it is."""
        passed = self.now - timestamp
        return f"{duration(passed)} ago" if passed >= 0 else f"in {duration(-passed)}"

    @property
    def known_zone(self) -> bool:
        """Whether times are in the job's own zone."""
        return self._zone() is not None

    def _zone(self) -> ZoneInfo | None:
        try:
            return ZoneInfo(self.zone)
        except (OSError, ValueError, KeyError):
            return None

    def _at(self, timestamp: float) -> datetime:
        return datetime.fromtimestamp(timestamp, self._zone() or UTC)
