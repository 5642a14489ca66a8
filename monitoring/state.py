"""What is known of a job, as one value: all that the exposition shows, and nothing that it has to look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.report import HoldoutReport, ModelReport, RunReport


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The job's limits: seconds, and ratios from 0 to 1. None means no limit."""

    latency_seconds: float | None = None
    accuracy: float | None = None
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a job's state is pushed. Holds no secret: credentials come from the environment.

    `gateway` is a base URL, `textfile` a folder that node_exporter's textfile collector reads; both may be
    set, or neither. `labels` are added to the grouping key. The state goes there every `every_seconds` while a run is
    in progress; `timeout_seconds` bounds one whole delivery.
    """

    gateway: str | None = None
    textfile: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    every_seconds: float = 15.0
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class PushedGroup:
    """A group on a gateway that holds a job's state; `labels` is its grouping key, `job` included."""

    gateway: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """A job as its file describes it, as far as monitoring needs to know. A run may take `timeout_seconds` (None: any time).

    `retrains`: its model may be trained again.
    """

    job: str
    spec_path: str
    schedule: str | None
    timezone: str
    grace_seconds: float
    thresholds: Thresholds
    holdouts: tuple[str, ...]
    destination: Destination
    timeout_seconds: float | None = None
    retrains: bool = False


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A run in progress, and its rows so far."""

    run_id: str
    trigger: str
    host: str
    model_version: str
    started_at: float
    rows_read: int
    rows_scored: int
    rows_rejected: int


@dataclass(frozen=True, slots=True)
class JobState:
    """One job at one revision of the ledger.

    `counters` maps (metric name, label values in the metric's order) to its cumulative value; a histogram
    is kept as `<name>_bucket` (label value: the bucket's index in `LATENCY_BUCKETS`, each row counted in one
    bucket only; the index after the last is +Inf) and `<name>_sum`. `latest` is the last run that ended
    (skipped ones aside); `quality` has, for each holdout, the last evaluation that succeeded. Timestamps are
    Unix seconds.
    """

    definition: JobDefinition
    sequence: int
    counters: Mapping[tuple[str, tuple[str, ...]], float]
    running: RunningRun | None = None
    latest: RunReport | None = None
    model: ModelReport | None = None
    quality: Mapping[str, HoldoutReport] = field(default_factory=dict)
    last_success_at: float | None = None
    next_expected_at: float | None = None
    pushed_sequence: int = 0
    pushed_at: float | None = None
    pushed_group: PushedGroup | None = None
    push_error: str | None = None

    @property
    def owed(self) -> bool:
        """Whether the newest state has yet to be delivered. With no destination nothing is owed."""
        destination = self.definition.destination
        return bool(destination.gateway or destination.textfile) and self.pushed_sequence < self.sequence

    def late(self, now: float) -> bool:
        """Whether the next run should have begun by now, and its grace is over. Never without a schedule."""
        return self.next_expected_at is not None and now > self.next_expected_at + self.definition.grace_seconds

    @property
    def name(self) -> str:
        """Idle (never ran), running, or the outcome of the latest run: success, partial, failed."""
        if self.running is not None:
            return "running"
        return "idle" if self.latest is None else str(self.latest.outcome)
