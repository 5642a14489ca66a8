"""The clock: APScheduler, which calls when a job's time has come. What is due then, the ledger and cron decide.

So a call that comes late, twice or never does no harm to the account, and APScheduler's own limits never lose a run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

MakeTrigger = Callable[[str, ZoneInfo], BaseTrigger]

logging.getLogger("apscheduler").addHandler(logging.NullHandler())  # the scheduler has a log of its own


class Clock:
    """Calls `due(job)`, from a thread of its own, at each of the job's scheduled times."""

    def __init__(self, due: Callable[[str], None], *, trigger: MakeTrigger) -> None:
        self._due = due
        self._trigger = trigger
        # The call does no more than put a note into a queue, so it needs no pool of threads.
        self._scheduler: Any = BackgroundScheduler(timezone=ZoneInfo("UTC"), executors={"default": DebugExecutor()})

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def stop(self) -> None:
        """Call no more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def set(self, job: str, expression: str, zone: ZoneInfo) -> None:
        """Call for this job, from now on, at these times only."""
        trigger = self._trigger(expression, zone)
        late = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}  # however late, once
        self._scheduler.add_job(partial(self._due, job), trigger, id=job, name=job, replace_existing=True, **late)

    def forget(self, job: str) -> None:
        """Call for this job no more."""
        if self._scheduler.get_job(job) is not None:
            self._scheduler.remove_job(job)
