"""The scheduler's log: one line an event, plain for people or JSON for machines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

_CONTROLS = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
"""Shown as their signs: a name may come from the network, and a terminal would obey."""


class Log:
    """Writes to a stream. A stream that can't be written (a full disk, a closed pipe) never stops the scheduler."""

    def __init__(self, stream: TextIO, *, as_json: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._as_json = as_json
        self._clock = clock

    def __call__(self, event: str, sentence: str, *, job: str | None = None, **facts: float | str | None) -> None:
        """One event: its name and facts for machines, and the same as a sentence for people."""
        at = moment(self._clock())
        if self._as_json:
            document = {"at": at, "event": event, "job": job, "message": sentence, **facts}
            line = json.dumps({key: value for key, value in document.items() if value is not None}, ensure_ascii=False)
        else:
            line = f"{at} {job}: {sentence}" if job else f"{at} {sentence}"
        try:
            self._stream.write(line.replace("\n", " | ").translate(_CONTROLS) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads it: there is no other place to say so


def moment(timestamp: float) -> str:
    """A time in UTC, to the second."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%dT%H:%M:%SZ}"
