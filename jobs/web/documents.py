"""What the API answers, as models: the answers are made from them, and so is the description in `/openapi.json`.

Timestamps and durations are seconds, timestamps since 1970 (Unix); ratios are from 0 to 1; null is "not known" or "none".
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.report.verdict import Level
from pipelines.report import Trigger

StateName = Literal["running", "missed", "failed", "partial", "success", "idle"]
RunOutcome = Literal["running", "success", "partial", "failed", "skipped", "missed"]


class Document(BaseModel):
    """One of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ErrorDocument(Document):
    """Why there is no answer."""

    error: str


class BoundedDocument(Document):
    """A ratio with its 95 % confidence bounds."""

    value: float
    lower: float
    upper: float


class HoldoutDocument(Document):
    """The model's figures on a labelled holdout; null where there was nothing to divide by."""

    holdout: str
    evaluated_at: float
    examples: int
    correct: int
    accuracy: BoundedDocument | None
    recall: BoundedDocument | None
    precision: float | None
    f1_score: float | None
    error: str | None
    """Why it could not be judged; then there are no figures."""


class RunDocument(Document):
    """A run's figures. Null is what isn't known before its end, or was not reached."""

    job: str
    run_id: str
    trigger: Trigger
    logical_date: date
    host: str
    outcome: RunOutcome
    started_at: float
    """A missed run "started" when it was due."""
    finished_at: float | None = None
    reason: str | None = None
    rows_read: int
    rows_scored: int
    rows_rejected: int
    elapsed_seconds: float | None = None
    scoring_seconds: float | None = None
    throughput_rows_per_second: float | None = None
    latency_seconds: float | None = None
    """Mean processing time of one row."""
    batch_latency_p95_seconds: float | None = None
    model_version: str | None = None
    model_sha256: str | None = None
    quality: tuple[HoldoutDocument, ...] = ()
    warnings: int = 0
    """How many the run gave."""


class ThresholdsDocument(Document):
    """The job's limits; null is no limit."""

    latency_seconds: float | None
    accuracy: float | None
    recall: float | None


class RunningDocument(Document):
    """The run in progress. Until it has recorded its start, only the scheduler's process is known."""

    run_id: str | None
    pid: int | None
    """Of the scheduler's process; null when somebody else started the run."""
    due_at: float | None
    started_at: float | None
    rows_read: int
    rows_scored: int
    rows_rejected: int


class WaitingDocument(Document):
    """A run that is due and waits for its turn."""

    place: int
    """1 is next."""
    due_at: float


class PushDocument(Document):
    """Whether the newest state has reached its destination."""

    owed: bool
    pushed_at: float | None
    error: str | None


class RetrainingDocument(Document):
    """A retraining in progress, or one that an alert asked for and that waits for its turn."""

    job: str
    pid: int | None
    """Null while it waits, and of one that the scheduler didn't start."""
    since: float
    waits: bool


class ConcernDocument(Document):
    """Something that somebody should know, in a line."""

    level: Level
    line: str


class JobDocument(Document):
    """A job as it is now."""

    job: str
    state: StateName
    """`missed`: a run should have begun and its grace is over; `idle`: it never ran; else how the latest run ended."""
    concerns: tuple[ConcernDocument, ...]
    """What is wrong, the worst first."""
    schedule: str | None
    """Standard cron text; null: by hand only."""
    timezone: str
    grace_seconds: float
    next_due_at: float | None
    late: bool
    running: RunningDocument | None
    waiting: WaitingDocument | None
    retraining: RetrainingDocument | None
    last_success_at: float | None
    latest: RunDocument | None
    """The latest run that ended; skipped and missed ones aside."""
    quality: tuple[HoldoutDocument, ...]
    """The last evaluation of each holdout that succeeded."""
    thresholds: ThresholdsDocument
    push: PushDocument
    scheduled: bool
    """Whether this scheduler has the job's file. Cron, or a hand, may run the others."""
    file: str
    file_error: str | None
    """What is wrong with the file as it is now; its last good definition is in force."""


class JobsDocument(Document):
    """All jobs, by name. `unreadable` says for a job that can't be read from the ledger why."""

    at: float
    jobs: tuple[JobDocument, ...]
    unreadable: dict[str, str]


class OneJobDocument(Document):
    """One job."""

    at: float
    job: JobDocument


class RunsDocument(Document):
    """Runs, newest first."""

    runs: tuple[RunDocument, ...]


class StartedDocument(Document):
    """A run that the scheduler has started and that has not ended."""

    job: str
    pid: int
    due_at: float


class QueuedDocument(Document):
    """A run that waits for its turn."""

    job: str
    due_at: float


class MissedDocument(Document):
    """A scheduled time at which nothing was started, and why."""

    job: str
    due_at: float
    reason: str


class BrokenDocument(Document):
    """A job file or folder that can't be used. `running`: the last good definition is scheduled all the same."""

    file: str
    error: str
    running: bool


class SyncDocument(Document):
    """The comparison of the ledger with the gateways: when it last succeeded, and how often it did not since the start."""

    last_good_at: float | None
    failures: int


class SchedulerDocument(Document):
    """What the scheduler is at. Counts are since it began."""

    at: float
    began_at: float
    ready: bool
    """It has read its job files, and takes care of them."""
    jobs: int
    """How many it schedules."""
    max_running: int
    running: tuple[StartedDocument, ...]
    waiting: tuple[QueuedDocument, ...]
    """In the order in which they will start."""
    retraining: tuple[RetrainingDocument, ...]
    missed: tuple[MissedDocument, ...]
    """The latest of them."""
    broken: tuple[BrokenDocument, ...]
    runs_started: int
    runs_missed: int
    retrains_started: int
    sync: SyncDocument
    trouble: str | None
    """Why the ledger can't be used, while that is so."""


class HealthDocument(Document):
    """Whether it is well, and if not, why."""

    ok: bool
    reasons: tuple[str, ...]


class DecisionDocument(Document):
    """What was decided about a job that an alert speaks of, and why."""

    job: str
    retrain: bool
    reason: str


class DecisionsDocument(Document):
    """A decision for each job of the message."""

    decisions: tuple[DecisionDocument, ...]
