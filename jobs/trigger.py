"""An APScheduler trigger that means by a cron text what cron means.

APScheduler's own `CronTrigger.from_crontab` doesn't: 0 is Monday to it, 7 and `@daily` are refused, day-of-month and
weekday are ANDed, and a time that the clock repeats runs twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger

from jobs import cron

_JUST_BEFORE = timedelta(microseconds=1)


class CronTextTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler publishes no types
    """Fires when cron would start a job with this text, in this zone. Raises `ValueError` for what is no cron text.

    It can be pickled and compared, so that a job store can keep it. A naive time is one of the trigger's zone.
    """

    __slots__ = ("expression", "zone")

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        self.expression = cron.check(expression)
        self.zone = zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The scheduled time after the previous one, be it past or to come; without one, the first not before `now`.

        In UTC: within one zone Python compares the times that the clock shows, and it may show one twice.
        """
        after = self._instant(now) - _JUST_BEFORE if previous_fire_time is None else self._instant(previous_fire_time)
        return cron.following(self.expression, self.zone, after).astimezone(UTC)

    def _instant(self, time: datetime) -> datetime:
        return (time if time.tzinfo else time.replace(tzinfo=self.zone)).astimezone(UTC)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CronTextTrigger):
            return NotImplemented
        return (self.expression, self.zone.key) == (other.expression, other.zone.key)

    def __hash__(self) -> int:
        return hash((self.expression, self.zone.key))

    def __str__(self) -> str:
        return f"cron[{self.expression}, {self.zone.key}]"

    def __repr__(self) -> str:
        return f"CronTextTrigger({self.expression!r}, ZoneInfo({self.zone.key!r}))"
