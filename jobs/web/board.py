"""All jobs as they are now: what the ledger knows of each, and what the scheduler is about to do with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from jobs.report.figures.strip import PLACES
from jobs.scheduler.snapshot import RetrainingJob, RunningJob, ScheduledJob, Snapshot
from monitoring.ledger import Ledger, RetrainRecord, Revision, RunOutline
from monitoring.state import JobState, Thresholds
from pipelines.errors import LedgerError
from pipelines.report import HoldoutReport


@dataclass(frozen=True, slots=True)
class KnownJob:
    """What the ledger said of a job at one revision.

    `state` is without slices, classes and counters: with thousands of jobs they would fill the memory, and no list shows
    them. What is wrong with slices is in `low_slices`: by figure, how many are surely below the threshold. `past` has the
    newest runs, oldest first. `failed_retrain` is the latest retraining, if that failed.
    """

    revision: Revision
    state: JobState
    low_slices: Mapping[str, int]
    past: tuple[RunOutline, ...]
    failed_retrain: RetrainRecord | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A run that waits for its turn: `place` 1 is next. `due_at`: Unix seconds."""

    place: int
    due_at: float


@dataclass(frozen=True, slots=True)
class JobNow:
    """A job as it is now. `scheduled` is None when the scheduler has no file of it: cron runs it, say, or a hand."""

    job: str
    known: KnownJob
    late: bool
    scheduled: ScheduledJob | None = None
    started: RunningJob | None = None
    turn: Turn | None = None
    retraining: RetrainingJob | None = None

    @property
    def state(self) -> JobState:
        """What the ledger knows, without slices, classes and counters."""
        return self.known.state

    @property
    def name(self) -> str:
        """One word: running; missed, where a run should have begun; else idle, or how the latest run ended."""
        if self.started is not None or self.state.running is not None:
            return "running"
        return "missed" if self.late else self.state.name

    @property
    def next_due_at(self) -> float | None:
        """When it is due next (Unix seconds); None when it is run by hand only. The scheduler knows better than the ledger."""
        return self.state.next_expected_at if self.scheduled is None else self.scheduled.next_due_at


@dataclass(frozen=True, slots=True)
class Overview:
    """All jobs at one instant (`at`, Unix seconds), sorted by name, and the scheduler's own state.

    With `trouble` the ledger can't be read, and `jobs` are those of `read_at` (None: it never could be). `unreadable` says
    for a job that can't be read why; `unknown` are jobs that the scheduler has and the ledger hasn't.
    """

    at: float
    scheduler: Snapshot
    jobs: tuple[JobNow, ...]
    unreadable: Mapping[str, str]
    unknown: tuple[str, ...]
    read_at: float | None
    trouble: str | None

    def find(self, job: str) -> JobNow | None:
        """The job of that name, if there is one."""
        return next((one for one in self.jobs if one.job == job), None)


@dataclass(slots=True)
class _Memory:
    """What was read of the ledger so far."""

    known: dict[str, KnownJob] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    read_at: float | None = None
    trouble: str | None = None


class Board:
    """Looks at the ledger and at the scheduler. Safe from several threads. `now` is the wall clock, Unix seconds.

    A job is read again only when its revision has changed: a look at thousands of jobs of which none has is one query.
    """

    def __init__(self, ledger: Ledger, snapshot: Callable[[], Snapshot], now: Callable[[], float]) -> None:
        self.now = now
        self._ledger = ledger
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._memory = _Memory()

    def look(self) -> Overview:
        """All jobs as they are now. A ledger that can't be read is told, not raised: the scheduler's state is known still."""
        with self._lock:
            self._refresh()
            memory = replace(self._memory, known=dict(self._memory.known), unreadable=dict(self._memory.unreadable))
        scheduler, at = self._snapshot(), self.now()
        return Overview(
            at=at,
            scheduler=scheduler,
            jobs=_joined(memory.known, scheduler, at),
            unreadable=memory.unreadable,
            unknown=tuple(
                one.job for one in scheduler.jobs if one.job not in memory.known and one.job not in memory.unreadable
            ),
            read_at=memory.read_at,
            trouble=memory.trouble,
        )

    def scheduler(self) -> Snapshot:
        """The scheduler's state alone; the ledger is not asked."""
        return self._snapshot()

    def _refresh(self) -> None:
        memory = self._memory
        try:
            revisions = self._ledger.revisions()
        except LedgerError as error:
            memory.trouble = str(error)
            return
        memory.trouble, memory.read_at = None, self.now()
        for job in memory.known.keys() - revisions.keys():
            del memory.known[job]
        memory.unreadable.clear()
        for job, revision in sorted(revisions.items()):
            before = memory.known.get(job)
            if before is None or before.revision != revision:
                self._read(job, revision)

    def _read(self, job: str, revision: Revision) -> None:
        """One job that can't be read must not hide the others."""
        try:
            self._memory.known[job] = _known(self._ledger, job, revision)
        except LedgerError as error:
            self._memory.known.pop(job, None)
            self._memory.unreadable[job] = str(error)


def _known(ledger: Ledger, job: str, revision: Revision) -> KnownJob:
    """Should the job change between the revision and this, it is read once more than needed; never once too few."""
    state = ledger.state(job)
    return KnownJob(
        revision=revision,
        state=_trimmed(state),
        low_slices=_low_slices(state),
        past=ledger.outlines(job, limit=PLACES)[::-1],
        failed_retrain=ledger.failed_retrain(job) if state.definition.retrains else None,
    )


def _trimmed(state: JobState) -> JobState:
    latest = state.latest
    return replace(
        state,
        counters={},
        latest=None if latest is None else replace(latest, holdouts=tuple(_whole(one) for one in latest.holdouts)),
        quality={name: _whole(holdout) for name, holdout in state.quality.items()},
    )


def _whole(holdout: HoldoutReport) -> HoldoutReport:
    return replace(holdout, classes=(), confusion=(), slices=())


def _low_slices(state: JobState) -> dict[str, int]:
    limits = state.definition.thresholds
    counts = {figure: _below(state, figure, limits) for figure in ("accuracy", "recall")}
    return {figure: count for figure, count in counts.items() if count}


def _below(state: JobState, figure: str, limits: Thresholds) -> int:
    threshold = getattr(limits, figure)
    if threshold is None:
        return 0
    judged = (piece for holdout in state.quality.values() for piece in holdout.slices if piece.judged)
    found = (getattr(piece, figure) for piece in judged)
    return sum(estimate is not None and estimate.upper < threshold for estimate in found)


def _joined(known: Mapping[str, KnownJob], scheduler: Snapshot, at: float) -> tuple[JobNow, ...]:
    scheduled = {one.job: one for one in scheduler.jobs}
    started = {one.job: one for one in scheduler.running}
    turns = {one.job: Turn(place, one.due_at) for place, one in enumerate(scheduler.waiting, start=1)}
    retraining = {one.job: one for one in scheduler.retraining}
    return tuple(
        JobNow(
            job=job,
            known=one,
            late=one.state.late(at),
            scheduled=scheduled.get(job),
            started=started.get(job),
            turn=turns.get(job),
            retraining=retraining.get(job),
        )
        for job, one in sorted(known.items())
    )
