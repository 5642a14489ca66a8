"""One meaning of a cron text everywhere: Debian cron's, as `cronsim` evaluates it (DST included).

Five fields, names, lists, ranges, steps, 7 for Sunday; day-of-month and day-of-week are ORed unless one of
them starts with a star. `@hourly` to `@yearly` stand for what crontab(5) says. What cron itself doesn't know
(seconds, `L`, `#`, `@reboot`) is refused, so that the same text can go into a crontab.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

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
"""More than any clock is ever put back: a walk backwards starts this much later, so as to miss no time."""
_NOT_CRON = re.compile(r"#|\dL|\bLW?\b", re.IGNORECASE)


def check(expression: str) -> str:
    """The expression as five fields. Raises `ValueError` that says what is wrong with it."""
    text = _NICKNAMES.get(expression.strip().lower(), expression.strip())
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
    return text


def following(expression: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The first scheduled time after `now` (aware), in `zone`."""
    times = CronSim(check(expression), now.astimezone(zone))
    # Compared as instants: in an hour that the clock repeats, a later instant may show an earlier time.
    return next(time for time in times if time.timestamp() > now.timestamp())


def latest(expression: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The last scheduled time that is not after `now` (aware), in `zone`."""
    start = (now.astimezone(UTC) + _LONGEST_SHIFT).astimezone(zone)
    times = CronSim(check(expression), start, reverse=True)
    return next(time for time in times if time.timestamp() <= now.timestamp())
