"""What is to be done, noted by any thread and done by one."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from jobs.scheduler.log import Log
from pipelines.errors import LedgerError

Note = Callable[[], None]


class Notes:
    """A queue of calls. While the ledger can't be used, a call that needs it is made again at the next turn.

    `trouble` says why the ledger can't be used, while that is so.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._queue: SimpleQueue[Note] = SimpleQueue()
        self._later: list[Note] = []
        self._failure: str | None = None
        self.trouble: str | None = None

    def put(self, note: Note) -> None:
        """Have it done soon. May be called from any thread, and from a signal handler."""
        self._queue.put(note)

    def later(self, note: Note) -> None:
        """Have it done at the next turn, by whoever does the others."""
        self._later.append(note)

    def turn(self, *, wait_seconds: float) -> None:
        """Wait for a note, do it and all others that have come; at the latest after `wait_seconds` those left for later."""
        with suppress(Empty):
            self.attempt(self._queue.get(timeout=wait_seconds))
        self.rest()
        later, self._later = self._later, []
        for note in later:
            self.attempt(note)

    def rest(self) -> None:
        """Do what has been noted."""
        with suppress(Empty):
            while True:
                self.attempt(self._queue.get_nowait())

    def attempt(self, note: Note, *, repeats: bool = False) -> None:
        """Do it. Nothing that goes wrong for one job may end the others' schedule.

        What needs the ledger, and can't have it, is left for later, unless it `repeats` anyway.
        """
        try:
            note()
        except LedgerError as error:
            self._failure = str(error)
            if not repeats:
                self._later.append(note)
        except Exception:  # noqa: BLE001  a defect may cost one event
            self._log("defect", f"unexpected error: {traceback.format_exc()}", error=traceback.format_exc())

    def assess(self) -> None:
        """After a turn: say whether the ledger could be used in it, if that has changed."""
        before, self.trouble, self._failure = self.trouble, self._failure, None
        if self.trouble and self.trouble != before:
            self._log("ledger trouble", f"{self.trouble}; trying again", error=self.trouble)
        elif before and not self.trouble:
            self._log("ledger well", "the ledger can be used again")
