"""The ledger's one class: every method is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date
from functools import wraps
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Concatenate, Literal, ParamSpec, Self, TypeVar

from monitoring import names
from monitoring.filenames import of_job
from monitoring.ledger import (
    copying,
    counters,
    endings,
    groups,
    jobs,
    locations,
    locks,
    parts,
    retrains,
    runs,
    tunings,
)
from monitoring.ledger.groups import GroupRecord
from monitoring.ledger.locks import StillHeld
from monitoring.ledger.records import CommittedPart, Revision, RunOutline, RunRecord, RunStart
from monitoring.ledger.retrains import InPlace, RetrainRecord
from monitoring.ledger.store import Store, TransactionLost
from monitoring.state import JobDefinition, JobState, PushedGroup
from pipelines.report import ModelReport, Outcome, PartReport, RunReport

P = ParamSpec("P")
T = TypeVar("T")
_PAUSE_SECONDS = 0.2


def _insistent(method: Callable[Concatenate[Ledger, P], T]) -> Callable[Concatenate[Ledger, P], T]:
    """Do it again when the connection was lost and nothing recorded, for as long as the store finds it worth waiting."""

    @wraps(method)
    def insist(ledger: Ledger, /, *arguments: P.args, **options: P.kwargs) -> T:
        end = monotonic() + ledger._store.insists_seconds  # noqa: SLF001  it stands for a method
        while True:
            try:
                return method(ledger, *arguments, **options)
            except TransactionLost:
                if monotonic() >= end:
                    raise
                sleep(_PAUSE_SECONDS)

    return insist


class Ledger:
    """What every job has done. Safe from several threads and processes; not across a fork.

    Everything that writes is on disk, whole, when it returns, or has no effect. Timestamps are Unix seconds.
    Every method may raise `LedgerError`: the database can't be used, or the job or run is unknown.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def open(cls, location: str | Path, *, folder: str | Path | None = None) -> Ledger:
        """The ledger at a path, a `sqlite:///` or a `postgresql://` URL, made (a file with its folder) when absent.

        `folder` is where files are kept that belong to a ledger in PostgreSQL; those of another are beside it.
        Raises `LedgerError` naming the location, and what to do, when it can't be used or is newer than this code.
        """
        return cls(locations.opened(location, None if folder is None else Path(folder)))

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def location(self) -> str:
        """Where it is, as it may be shown: the file's path, or a URL without its password."""
        return self._store.location

    @property
    def folder(self) -> Path:
        """Where files are kept that belong to the ledger: records of batches, logs; for one in a file, the folder it is in."""
        return self._store.folder

    @property
    def shared(self) -> bool:
        """Whether processes of several hosts may use it."""
        return self._store.shared

    def lock(self, kind: locks.Kind, job: str, *, wait_seconds: float = 0.0) -> AbstractContextManager[StillHeld]:
        """Hold a job's lock for the `with` block: `run` while scoring, `push` while pushing, `retrain` while a model is made.

        The kernel, or PostgreSQL, frees a dead holder's. What is given tells whether it is still held.

        Raises `LockHeld` when somebody else holds it for longer than `wait_seconds`. Not reentrant.
        """
        return locks.hold(self._store, kind, job, wait_seconds=wait_seconds)

    def scheduler_lock(self) -> AbstractContextManager[StillHeld]:
        """Be the ledger's one scheduler for the `with` block. Raises `LockHeld` when there is another."""
        return locks.hold_scheduler(self._store)

    def copy_to(self, target: Ledger) -> Mapping[str, int]:
        """Copy all that this ledger knows into an empty one; how many rows of each table that was. Files stay where they are.

        Raises `LockHeld` while anybody is at work on this ledger, `LedgerError` when the target isn't empty.
        """
        return copying.copy(self._store, target._store)

    def batch_folder(self, job: str) -> Path:
        """Where the records of the job's batches are kept, a file a run."""
        return self.folder / "batches" / of_job(job)

    def retrain_folder(self, job: str) -> Path:
        """Where the job's retrainings keep what training said, and work."""
        return self.folder / "retrain" / of_job(job)

    # Jobs.

    @_insistent
    def register(self, definition: JobDefinition, *, now: float, next_expected_at: float | None) -> bool:
        """Make the job known, with every counter that can be known at 0; True if it is new.

        Idempotent: the sequence rises only when something changed. A known job keeps when it is next expected,
        unless its schedule or time zone changed (so a missed run stays missed). Scheduled times are accounted for
        from `now` on: of a new job, of a changed schedule, and where a wrong clock has been more than a day ahead.
        """
        with self._store.write(definition.job) as connection:
            return jobs.register(connection, definition, now=now, next_expected_at=next_expected_at)

    @_insistent
    def jobs(self) -> tuple[str, ...]:
        """All registered jobs, sorted."""
        with self._store.read() as connection:
            return jobs.names(connection)

    @_insistent
    def definition(self, job: str) -> JobDefinition:
        """The job as it was registered last: a part of its state, for those who need no more."""
        with self._store.read() as connection:
            return jobs.definition(connection, job)

    @_insistent
    def state(self, job: str) -> JobState:
        """All that is known of a job, at one instant."""
        with self._store.read() as connection:
            return jobs.state(connection, job)

    @_insistent
    def states(self) -> tuple[JobState, ...]:
        """All that is known of every job, at one instant, sorted by job: for a few hundred much quicker than one by one."""
        with self._store.read() as connection:
            return jobs.states(connection)

    @_insistent
    def revisions(self) -> Mapping[str, Revision]:
        """The revision of every registered job, in one query: whose state has to be read again is told by comparing."""
        with self._store.read() as connection:
            return jobs.revisions(connection)

    @_insistent
    def forget(self, job: str) -> None:
        """Delete all that is known of a job. Hold all its locks; deleting its group is the caller's business."""
        with self._store.write(job) as connection:
            jobs.forget(connection, job)

    # Runs.

    @_insistent
    def start_run(self, run: RunStart, *, next_expected_at: float | None, due_at: float | None = None) -> None:
        """Record a run in progress, under the job's run lock. None keeps when the next one is expected.

        `due_at` is the scheduled time that the run is for: up to it all are accounted for then.
        """
        with self._store.write(run.job) as connection:
            jobs.raise_sequence(connection, run.job)
            runs.start(connection, run)
            jobs.stood_in(connection, run.job, next_expected_at=next_expected_at, due_at=due_at)

    @_insistent
    def set_model(self, run_id: str, model: ModelReport) -> None:
        """Note which model a run in progress uses."""
        with self._store.read() as connection:
            job = runs.job_of(connection, run_id)
        with self._store.write(job) as connection:
            jobs.raise_sequence(connection, job)
            runs.set_model(connection, run_id, model)

    @_insistent
    def add_parts(self, run_id: str, job: str, reports: Sequence[PartReport]) -> None:
        """Add parts to the counters and to the run's rows so far, and (those without `error`) record them as committed.

        A part that was committed before is replaced; its rows were scored again, so they count again. Many cost little more
        than one.
        """
        with self._store.write(job) as connection:
            jobs.raise_sequence(connection, job)
            runs.add_parts(connection, run_id, job, reports)
            counters.add(connection, job, counters.of_parts(reports))
            parts.commit(connection, run_id, job, [report for report in reports if report.error is None])

    @_insistent
    def finish_run(self, report: RunReport) -> None:
        """Record how a run ended: outcome, holdouts and their seconds join the counters; the rest the parts have added."""
        if not report.outcome.began:
            raise ValueError(f"run {report.run_id!r} was started, so it can't have been {report.outcome}")
        with self._store.write(report.job) as connection:
            endings.of_run(connection, report)

    @_insistent
    def skip_run(self, report: RunReport, *, due_at: float | None = None) -> None:
        """Record a run that never began, because another was in progress, say: in the history, and counted.

        It accounts for the scheduled time `due_at`, and leaves when the next run is expected: none has started.
        """
        if report.outcome is not Outcome.SKIPPED:
            raise ValueError(f"run {report.run_id!r} was not skipped, its outcome is {report.outcome}")
        with self._store.write(report.job) as connection:
            jobs.raise_sequence(connection, report.job)
            runs.never_began(connection, report)
            counters.add(connection, report.job, counters.of_run(report))
            jobs.stood_in(connection, report.job, next_expected_at=None, due_at=due_at)

    @_insistent
    def fail_unstarted_run(self, report: RunReport, *, next_expected_at: float | None, due_at: float) -> None:
        """Record a run whose process ended before it could record anything itself: in one step, as failed."""
        if report.outcome is not Outcome.FAILED:
            raise ValueError(f"run {report.run_id!r} has not failed, its outcome is {report.outcome}")
        with self._store.write(report.job) as connection:
            runs.start(connection, report)
            endings.of_run(connection, report)
            jobs.stood_in(connection, report.job, next_expected_at=next_expected_at, due_at=due_at)

    @_insistent
    def miss_runs(self, job: str, reports: Sequence[RunReport]) -> int:
        """Record scheduled times (each report's `started_at`, rising) at which nothing was started, and count them.

        A time that is accounted for already is left out, so a repetition changes nothing. Returns how many were new.
        When the next run is expected stays: none has started.
        """
        wrong = [report for report in reports if report.outcome is not Outcome.MISSED or report.job != job]
        if wrong:
            raise ValueError(f"run {wrong[0].run_id!r} is no missed run of job {job!r}")
        with self._store.write(job) as connection:
            until = jobs.row(connection, job).accounted_until
            new = [report for report in reports if report.started_at > until]
            if new:
                jobs.raise_sequence(connection, job)
                runs.missed(connection, new)
                counters.add(connection, job, {(names.RUNS.name, (Outcome.MISSED,)): len(new)})
                jobs.account(connection, job, new[-1].started_at)
            return len(new)

    @_insistent
    def accounted_until(self, job: str) -> float | None:
        """The time up to which the job's scheduled times are accounted for (run, skipped, missed); None: it isn't known."""
        with self._store.read() as connection:
            return jobs.accounted_until(connection, job)

    @_insistent
    def fail_dead_runs(self, job: str, *, now: float, reason: str) -> tuple[str, ...]:
        """Mark as failed what is still marked as in progress; their ids, oldest first.

        Call it under the job's run lock: whoever was at work has died.
        """
        with self._store.write(job) as connection:
            jobs.row(connection, job)
            reports = runs.dead_reports(connection, job, now=now, reason=reason)
            for report in reports:
                endings.of_run(connection, report)
            return tuple(report.run_id for report in reports)

    @_insistent
    def runs(self, job: str, *, limit: int = 20) -> tuple[RunRecord, ...]:
        """The job's latest runs, newest first."""
        with self._store.read() as connection:
            jobs.row(connection, job)
            return runs.history(connection, job, limit=limit)

    @_insistent
    def latest_runs(
        self, *, limit: int, job: str | None = None, outcome: Outcome | Literal["running"] | None = None
    ) -> tuple[RunRecord, ...]:
        """The latest runs of all jobs, or of one, newest first: all, or those that ended so (`running`: have not ended)."""
        with self._store.read() as connection:
            if job is not None:
                jobs.row(connection, job)
            return runs.latest(connection, limit=limit, job=job, outcome=outcome)

    @_insistent
    def last_runs_of_days(self, job: str, *, days: int, each: int, until: date) -> tuple[RunRecord, ...]:
        """Runs that ended well: of the latest so many logical dates up to `until` the last few `each`, the newest first."""
        with self._store.read() as connection:
            return runs.last_of_days(connection, job, days=days, each=each, until=until)

    @_insistent
    def outlines(self, job: str, *, limit: int = 20) -> tuple[RunOutline, ...]:
        """The job's latest runs, newest first, without their reports: cheap, however much those hold."""
        with self._store.read() as connection:
            jobs.row(connection, job)
            return runs.outlines(connection, job, limit=limit)

    @_insistent
    def prune_runs(self, job: str, *, keep: int) -> None:
        """Delete all but the newest `keep` runs from the history. Counters and what is shown stay.

        Where there are no more it only looks, and so keeps nobody waiting: every start of a job comes by here.
        """
        with self._store.read() as connection:
            if not runs.more_than(connection, job, keep):
                return
        with self._store.write(job) as connection:
            runs.prune(connection, job, keep=keep, latest=jobs.row(connection, job).latest_run_id)

    # Parts.

    @_insistent
    def committed_parts(self, job: str, output_folder: str) -> Mapping[str, CommittedPart]:
        """The parts committed to one output folder, by absolute output path."""
        with self._store.read() as connection:
            return parts.committed(connection, job, output_folder)

    @_insistent
    def other_owner(self, job: str, output_folder: str) -> str | None:
        """Another job that has committed parts to this output folder; None when it is the job's own."""
        with self._store.read() as connection:
            return parts.other_owner(connection, job, output_folder)

    @_insistent
    def drop_parts(self, job: str, outputs: Sequence[str]) -> None:
        """Forget committed parts by output path, so that they are scored again. Counters stay: those rows were scored."""
        with self._store.write(job) as connection:
            parts.drop(connection, job, outputs)

    # Retrainings, under the job's retrain lock.

    @_insistent
    def start_retrain(self, record: RetrainRecord) -> None:
        """Record a retraining (or a rollback) in progress."""
        with self._store.write(record.job) as connection:
            jobs.row(connection, record.job)
            retrains.start(connection, record)

    @_insistent
    def update_retrain(self, record: RetrainRecord) -> None:
        """Note what a retraining in progress has found out; `after` before the model file is switched for that model."""
        if record.outcome is not None:
            raise ValueError(f"retraining {record.retrain_id!r} has ended: finish it")
        with self._store.write(record.job) as connection:
            retrains.update_one(connection, record)

    @_insistent
    def finish_retrain(self, record: RetrainRecord, in_place: InPlace | None = None) -> None:
        """Record how a retraining ended, and count it; `in_place`: which model it has put in place, and how good that is."""
        if record.outcome is None:
            raise ValueError(f"retraining {record.retrain_id!r} has no outcome")
        with self._store.write(record.job) as connection:
            endings.of_retrain(connection, record, in_place)

    @_insistent
    def retrains(self, job: str, *, limit: int | None = 20) -> tuple[RetrainRecord, ...]:
        """The job's latest retrainings and rollbacks, newest first; with None all there are."""
        with self._store.read() as connection:
            jobs.row(connection, job)
            return retrains.history(connection, job, limit=limit)

    @_insistent
    def failed_retrain(self, job: str) -> RetrainRecord | None:
        """The job's latest retraining that has ended, if it failed."""
        with self._store.read() as connection:
            return retrains.failed(connection, job)

    @_insistent
    def unfinished_retrains(self, job: str | None = None) -> tuple[RetrainRecord, ...]:
        """Those, of a job or of all, that are marked as in progress, oldest first. Who holds a retrain lock knows its dead."""
        with self._store.read() as connection:
            return retrains.unfinished(connection, job)

    # Pushes. None changes the state that is shown, so none raises the sequence.

    @_insistent
    def note_push(self, job: str, group: PushedGroup, *, ca_file: str | None, at: float) -> None:
        """Note that the job's state is about to be sent to this group: whatever comes of it, the group will be found again."""
        with self._store.write(job) as connection:
            jobs.row(connection, job)
            groups.note(connection, job, group, ca_file=ca_file, at=at)

    @_insistent
    def mark_pushed(self, job: str, *, sequence: int, at: float, group: PushedGroup | None = None) -> None:
        """Note that this revision of the job's state was delivered, and which group of which gateway holds it."""
        with self._store.write(job) as connection:
            jobs.mark_pushed(connection, job, sequence=sequence, at=at, group=group)
            if group is not None:
                groups.arrived(connection, group, at=at)

    @_insistent
    def mark_push_failed(self, job: str, *, error: str, at: float) -> None:
        """Note why the job's state was not delivered; it stays owed."""
        with self._store.write(job) as connection:
            jobs.mark_push_failed(connection, job, error=error, at=at)

    @_insistent
    def pushed_groups(self) -> tuple[GroupRecord, ...]:
        """Every group that anything was ever sent to, but for those that were deleted since; of forgotten jobs too."""
        with self._store.read() as connection:
            return groups.all_of(connection)

    @_insistent
    def drop_group(self, group: PushedGroup) -> None:
        """Note that the group was deleted from its gateway, or is another's now: it is not looked for again."""
        with self._store.write(group.labels["job"]) as connection:
            groups.drop(connection, group)
            jobs.unset_group(connection, group)

    # What was measured.

    @_insistent
    def tuning(self, model: str, machine: str) -> str | None:
        """What was found fastest for the model on that kind of machine, as it was kept; None: nothing was."""
        with self._store.read() as connection:
            return tunings.found(connection, model, machine)

    @_insistent
    def keep_tuning(self, model: str, machine: str, found: str, *, at: float) -> None:
        """Keep what was found, in place of what was before; of more than 1,000 findings those measured first are let go."""
        with self._store.write("") as connection:
            tunings.keep(connection, model, machine, found, at=at)
