"""The jobs that are scheduled, as the job files have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from jobs.environment import Environment
from jobs.scheduler import bookkeeping
from jobs.scheduler.catch_up import Schedule
from jobs.scheduler.clock import Clock
from jobs.scheduler.folder import JobFile, JobFolder
from jobs.scheduler.log import Log, moment
from jobs.scheduler.notes import Notes
from jobs.scheduler.snapshot import BrokenFile, ScheduledJob
from jobs.spec import JobSpec
from monitoring.ledger import Ledger


@dataclass(slots=True)
class Job:
    """A job by its last good definition. `next_at`: when it is due next (Unix seconds), if it has a schedule.

    `since`: when its file came, if that was after the scheduler began; before that nothing was there to be started.
    """

    file: JobFile
    spec: JobSpec
    schedule: Schedule | None
    since: float
    next_at: float | None = None


class Dispatch(Protocol):
    """Who acts on the jobs' times, as far as the roster needs it."""

    def unclaimed(self, name: str) -> bool:
        """Whether a run of the job was started that the ledger doesn't know yet."""

    def consider(self, name: str) -> None:
        """Account for the job's scheduled times so far."""

    def close(self, name: str, spec: JobSpec, old: Schedule) -> None:
        """Account for the times of a schedule that is no more."""

    def drop(self, name: str) -> None:
        """Start the job no more."""


class Roster:
    """Keeps jobs, ledger and clock as the job files have them. `now` is the wall clock.

    `changed` is called when a push may be owed by what it did: the zeros of a new job.
    """

    def __init__(
        self,
        folder: JobFolder,
        ledger: Ledger,
        environment: Environment,
        *,
        clock: Clock,
        notes: Notes,
        log: Log,
        now: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._folder = folder
        self._ledger = ledger
        self._environment = environment
        self._clock = clock
        self._notes = notes
        self._log = log
        self._now = now
        self._changed = changed
        self._unlisted: set[str] = set()
        self._began = False

    def rescan(self, dispatch: Dispatch, *, at_once: bool = False) -> None:
        """Look for job files that have changed, and take them over."""
        before = {file.path: file.error for file in self._folder.broken}
        self._folder.scan(at_once=at_once)
        for file in self._folder.files:
            if file.error and before.get(file.path) != file.error:
                kept = "; its last good definition stays in force" if file.spec else ""
                self._log("broken file", f"{file.error}{kept}", file=str(file.path), error=file.error)
            elif before.get(file.path) and not file.error:
                self._log("mended file", f"{file.path}: can be used again", file=str(file.path))
        unlisted = set(self._folder.unlisted.values())
        for error in sorted(unlisted - self._unlisted):
            self._log("broken file", f"{error}; its jobs stay as they were", error=error)
        self._unlisted = unlisted
        self._reconcile(dispatch)
        self._began = True

    def look_anew(self, dispatch: Dispatch) -> None:
        """The clock was set: the jobs' next times are nearer or farther than they were."""
        for name, job in self.jobs.items():
            self._notes.attempt(partial(self._enter, name, job))
            self._notes.attempt(partial(dispatch.consider, name))

    def _reconcile(self, dispatch: Dispatch) -> None:
        files = self._folder.jobs()
        for name in self.jobs.keys() - files.keys():
            del self.jobs[name]
            self._clock.forget(name)
            dispatch.drop(name)
            self._log("unscheduled", "its job file is gone: scheduled no more", job=name)
        for name, file in files.items():
            known = self.jobs.get(name)
            if known is None or known.spec is not file.spec:
                self._notes.attempt(partial(self._take, name, file, dispatch), repeats=True)

    def _take(self, name: str, file: JobFile, dispatch: Dispatch) -> None:
        """Schedule a job by a definition that is new."""
        if file.spec is None:
            return
        if dispatch.unclaimed(name):
            return  # a new schedule would take its scheduled time from it; the next scan comes soon
        if old := bookkeeping.old_schedule(self._ledger, file.spec, self._environment):
            dispatch.close(name, file.spec, old)
        known = self.jobs.get(name)
        since = known.since if known else self._now() if self._began else 0.0
        job = Job(file, file.spec, Schedule.of(file.spec.definition(self._environment)), since)
        self._enter(name, job)
        self.jobs[name] = job
        self._changed()
        dispatch.consider(name)
        when = f"next at {moment(job.next_at)}" if job.next_at else "by hand only"
        again = " anew" if known else ""
        self._log("scheduled", f"scheduled{again}, {when}", job=name, file=str(file.path), next_due_at=job.next_at)

    def _enter(self, name: str, job: Job) -> None:
        """Into the ledger and the clock."""
        bookkeeping.register(self._ledger, job.spec, self._environment, now=self._now())
        if job.schedule is None:
            self._clock.forget(name)
        else:
            self._clock.set(name, job.schedule.expression, job.schedule.zone)

    def scheduled(self) -> tuple[ScheduledJob, ...]:
        """For the snapshot."""
        errors = {file.path: file.error for file in self._folder.broken}
        return tuple(
            ScheduledJob(name, job.file, job.spec.job.schedule, job.next_at, errors.get(job.file.path))
            for name, job in sorted(self.jobs.items())
        )

    def broken(self) -> tuple[BrokenFile, ...]:
        """Files and folders that can't be used as they are."""
        files = [
            BrokenFile(str(file.path), file.error, running=file.spec is not None) for file in self._folder.broken if file.error
        ]
        folders = [BrokenFile(str(path), error, running=True) for path, error in self._folder.unlisted.items()]
        return (*files, *folders)
