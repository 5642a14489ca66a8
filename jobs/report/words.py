"""Values as a person reads them, and other people's words made fit for a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from jobs.summary import seconds
from pipelines.report import Estimate

LONGEST_NAME = 120
LONGEST_TEXT = 4000

_DAY = 86_400.0
# What is no picture on a page: controls (shown as their signs, ␀ to ␟), and what would turn the text around it.
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_UNSHOWN = re.compile("[\x80-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def text(words: str, *, longest: int = LONGEST_TEXT) -> str:
    """Several lines, cut to `longest` characters, with the length said where something was cut."""
    cut = words[:longest]
    left = len(words) - len(cut)
    shown = _UNSHOWN.sub("\ufffd", cut.translate(_CONTROLS))
    return f"{shown}\n… and {left:,} more characters" if left else shown


def name(words: str, *, longest: int = LONGEST_NAME) -> str:
    """One line, cut to `longest` characters; a line break is shown as ␊."""
    cut = words[:longest].replace("\n", "\u240a").replace("\t", "\u2409")
    shown = _UNSHOWN.sub("\ufffd", cut.translate(_CONTROLS))
    return f"{shown}…" if len(words) > longest else shown


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
