"""What those who start processes for the scheduler have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.scheduler.log import Log
from jobs.scheduler.notes import Notes
from jobs.scheduler.roster import Job
from jobs.scheduler.settings import Settings
from monitoring.filenames import of_job
from monitoring.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """The scheduler's one ledger, and `jobs`, whose keeper is the roster.

    `changed` is called when a push is owed by what was done; `check_place` raises `LedgerError` unless this surely still is the
    ledger's one scheduler.
    """

    settings: Settings
    ledger: Ledger
    jobs: Mapping[str, Job]
    notes: Notes
    log: Log
    now: Callable[[], float]
    changed: Callable[[], None]
    check_place: Callable[[], None]

    def log_file(self, job: str, kind: str = "") -> Path:
        """Where the output of the job's runs goes, or of what else `kind` says."""
        return (self.settings.log_folder or self.ledger.folder / "logs") / f"{of_job(job)}{kind}.log"
