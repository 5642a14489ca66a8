"""What the scheduler is at, as one value that other threads can read: for metrics, say."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.scheduler.folder import JobFile
from monitoring.scheduler_metrics import Lags


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job, as its last good definition (`file`) has it. `next_due_at` is None when it is run by hand only.

    `error` says what is wrong with the file as it is now, if anything.
    """

    job: str
    file: JobFile
    schedule: str | None
    next_due_at: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A run in progress."""

    job: str
    pid: int
    due_at: float


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A run that is due and waits for its turn."""

    job: str
    due_at: float


@dataclass(frozen=True, slots=True)
class RetrainingJob:
    """A retraining in progress, or one that an alert asked for and that waits for its turn. `since`: that, Unix seconds.

    `pid` is None as long as it waits, and of one that the scheduler didn't start.
    """

    job: str
    pid: int | None
    since: float
    waits: bool = False


@dataclass(frozen=True, slots=True)
class MissedRun:
    """A scheduled time that was counted as missed, and why."""

    job: str
    due_at: float
    reason: str


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A job file (or folder) that can't be used. `running`: the last good definition of its job is scheduled all the same."""

    file: str
    error: str
    running: bool


@dataclass(frozen=True, slots=True)
class SyncResult:
    """One comparison of the ledger with the gateways: jobs whose state was pushed, dead runs settled, what went wrong."""

    at: float
    pushed: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is owed now."""
        return not self.errors


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The scheduler at one instant. Timestamps are Unix seconds; counts are since it began.

    `missed` has the latest of the missed runs. `trouble` says why the ledger can't be used, while that is so. `turned_at` is
    when its loop last came round, on the monotonic clock. `ready`: it has read its job files, and takes care of them.
    `standing_by`: another scheduler does, and this one waits to take its place.
    """

    began_at: float
    max_running: int
    turned_at: float
    ready: bool = False
    standing_by: bool = False
    jobs: tuple[ScheduledJob, ...] = ()
    running: tuple[RunningJob, ...] = ()
    waiting: tuple[WaitingJob, ...] = ()
    retraining: tuple[RetrainingJob, ...] = ()
    missed: tuple[MissedRun, ...] = ()
    broken: tuple[BrokenFile, ...] = ()
    runs_started: int = 0
    runs_missed: int = 0
    alert_messages: int = 0
    retrains_started: int = 0
    lags: Lags = field(default_factory=Lags)
    last_good_sync_at: float | None = None
    sync_failures: int = 0
    trouble: str | None = None
