"""Starts what is due, watches what runs, and writes down what was missed. Used by one thread only."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from functools import partial

from jobs.scheduler import bookkeeping, catch_up
from jobs.scheduler.catch_up import Schedule
from jobs.scheduler.duty import Duty
from jobs.scheduler.log import moment
from jobs.scheduler.processes import Run, StartedChild, watch
from jobs.scheduler.roster import Job
from jobs.scheduler.snapshot import MissedRun, RunningJob, WaitingJob
from jobs.scheduler.waiting import Waiting, WaitingList
from jobs.spec import JobSpec
from monitoring.scheduler_metrics import Lags

LATEST_MISSED = 100


class Dispatcher:
    """Acts on the times of the jobs."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._began_at = duty.now()
        self._waiting = WaitingList()
        self._running: dict[str, Run] = {}
        self._refusals: dict[str, str] = {}
        self._latest_missed: deque[MissedRun] = deque(maxlen=LATEST_MISSED)
        self.busy: frozenset[str] = frozenset()
        """Jobs of which a run is in progress, or about to be. Other threads may read it."""
        self.started = 0
        self.missed = 0
        self.lags = Lags()
        self.stopping = False

    # What is due.

    def consider(self, name: str) -> None:
        """Account for the job's scheduled times so far: the latest may wait for its turn, the others are missed."""
        job = self._duty.jobs.get(name)
        if self.stopping or job is None:
            return
        if job.schedule is None:
            self._waiting.drop(name)
            return
        now = self._duty.now()
        plan = catch_up.plan(job.schedule, after=self._after(name, job), now=now)
        job.next_at = plan.next_at
        if plan.missed and self.unclaimed(name):
            # To move the account now would take its scheduled time from the run that is about to claim it.
            self._duty.notes.later(partial(self.consider, name))
            return
        self._miss(name, job.spec, job.schedule, plan.missed, self._why_missed(name))
        if plan.due_at is None:
            self._waiting.drop(name)
        else:
            self._waiting.put(Waiting(name, plan.due_at, now, plan.due_at + job.schedule.grace_seconds))

    def close(self, name: str, spec: JobSpec, old: Schedule) -> None:
        """Account for the times of a schedule that is no more: what wasn't started is missed."""
        after = self._duty.ledger.accounted_until(name)
        if after is not None:
            plan = catch_up.plan(old, after=after, now=self._duty.now())
            times = plan.missed if plan.due_at is None else (*plan.missed, plan.due_at)
            self._miss(name, spec, old, times, "its schedule was changed first")

    def drop(self, name: str) -> None:
        """Start the job no more. A run in progress goes on."""
        self._waiting.drop(name)

    def unclaimed(self, name: str) -> bool:
        """Whether a run of the job was started that the ledger doesn't know yet."""
        run = self._running.get(name)
        if run is None:
            return False
        accounted = self._duty.ledger.accounted_until(name)
        return accounted is not None and accounted < run.due_at

    def revise(self) -> None:
        """Look again at what has waited for too long."""
        for name in self._waiting.too_late(self._duty.now()):
            self._duty.notes.attempt(partial(self.consider, name), repeats=True)

    def _after(self, name: str, job: Job) -> float:
        """Until when the job's times are accounted for, also by a run that hasn't said so itself yet."""
        accounted = self._duty.ledger.accounted_until(name)
        if accounted is None:  # somebody made the ledger forget it; its file says that it goes on
            accounted = self._duty.now()
            bookkeeping.register(self._duty.ledger, job.spec, self._duty.settings.environment, now=accounted)
        run = self._running.get(name)
        return max(accounted, run.due_at) if run else accounted

    def _why_missed(self, name: str) -> str:
        if name in self._running:
            return "the run before it took too long"
        if self._waiting.get(name):
            return f"it waited too long for one of {self._duty.settings.max_running} places (--max-running)"
        return "the scheduler was held up, or the clock was set"

    def _why_not_ours(self, name: str, due_at: float) -> str | None:
        """Why we could not have started the job at that time; None when we could."""
        waited, job = self._waiting.get(name), self._duty.jobs.get(name)
        if waited is not None and waited.due_at == due_at:
            return None
        if due_at < self._began_at:
            return "no scheduler was running"
        return None if job is not None and job.since <= due_at else "its job file was away, or broken"

    def _miss(self, name: str, spec: JobSpec, schedule: Schedule, times: tuple[float, ...], reason: str) -> None:
        if not times:
            return
        reasons = [f"not started in time: {self._why_not_ours(name, due_at) or reason}" for due_at in times]
        count = bookkeeping.miss(self._duty.ledger, spec, schedule, times, reasons)
        self.missed += count
        self._latest_missed.extend(map(MissedRun, [name] * len(times), times, reasons))
        which = moment(times[0]) if len(times) == 1 else f"{len(times)} times, {moment(times[0])} to {moment(times[-1])}"
        self._duty.log("missed", f"missed {which}: {reasons[-1]}", job=name, count=count, due_at=times[-1])
        self._duty.changed()

    # Runs.

    def fill(self) -> None:
        """Start what waits, as far as there are places."""
        tried: set[str] = set()
        while not self.stopping and len(self._running) < self._duty.settings.max_running:
            entry = self._waiting.next(not_of=self._running.keys() | tried)
            if entry is None:
                break
            tried.add(entry.job)
            self._duty.notes.attempt(partial(self._start, entry.job), repeats=True)
        for entry in self._waiting.fresh():
            behind = "the run before it" if entry.job in self._running else "a free place"
            self._duty.log("waiting", f"due {moment(entry.due_at)}, waits for {behind}", job=entry.job, due_at=entry.due_at)

    def adopt(self) -> None:
        """Watch the runs that a scheduler before us has started and not outlived."""
        for name, job in self._duty.jobs.items():
            run = None if name in self._running else bookkeeping.orphan(self._duty.ledger, name, self._duty.log_file(name))
            if run is not None:
                self._limit(run, job.spec, already_seconds=self._duty.now() - run.started_at)
                self._enter(run)
                self._duty.log("adopted", f"goes on from before the scheduler began (pid {run.child.pid})", job=name)

    def enforce(self) -> None:
        """See to it that what must stop does."""
        for run in self._running.values():
            before = run.stopping
            run.enforce(kill_after_seconds=self._duty.settings.kill_after_seconds)
            if run.stopping != before:
                self._duty.log("stopping", f"asked to stop: {run.stopping}", job=run.job, pid=run.child.pid)

    def stop(self, reason: str, *, kill_after_seconds: float) -> None:
        """Start nothing more, and ask what runs to stop."""
        self.stopping = True
        for run in self._running.values():
            run.stop(reason, kill_after_seconds=kill_after_seconds)

    def _start(self, name: str) -> None:
        self.consider(name)  # by now it may be too late, or a hand may have run it
        entry, job = self._waiting.get(name), self._duty.jobs.get(name)
        if entry is None or job is None:
            return
        self._duty.check_place()
        date = job.spec.logical_date(datetime.fromtimestamp(entry.due_at, UTC))
        command = self._duty.settings.command(job.file, date, entry.due_at)
        self.busy |= {name}
        try:
            child = StartedChild(command, self._duty.log_file(name))
        except OSError as error:
            self.busy = frozenset(self._running)
            if self._refusals.get(name) != str(error):
                self._duty.log("not started", f"its process can't be started ({error}); trying again", job=name)
            self._refusals[name] = str(error)
            return
        self._refusals.pop(name, None)
        now = self._duty.now()
        log = self._duty.log_file(name)
        run = Run(job=name, due_at=entry.due_at, started_at=now, child=child, log=log, log_from=child.log_from)
        self._limit(run, job.spec, already_seconds=0.0)
        self._waiting.drop(name)
        self._enter(run)
        self.started += 1
        lag, queued = max(0.0, now - entry.due_at), max(0.0, now - entry.since)
        self.lags = self.lags.observed(lag)
        self._duty.log(
            "started",
            f"started (trigger scheduler, due {moment(entry.due_at)}, queued {queued:.1f} s, pid {child.pid})",
            job=name,
            due_at=entry.due_at,
            lag_seconds=round(lag, 3),
            queued_seconds=round(queued, 3),
            pid=child.pid,
        )

    def _limit(self, run: Run, spec: JobSpec, *, already_seconds: float) -> None:
        if spec.job.timeout is not None:
            limit = spec.job.timeout + self._duty.settings.timeout_allowance_seconds
            run.terminate_at = time.monotonic() + limit - already_seconds
            run.terminate_reason = f"timeout: the run took longer than job.timeout ({spec.job.timeout:g} s)"

    def _enter(self, run: Run) -> None:
        self._running[run.job] = run
        self.busy = frozenset(self._running)
        watch(run, partial(self._duty.notes.put, partial(self._ended, run)))

    def _ended(self, run: Run) -> None:
        """Settle a run whose process has ended: whatever it started ends too, and the ledger knows how it ended."""
        run.child.kill()
        code = run.child.reap()
        spec = self._duty.jobs[run.job].spec if run.job in self._duty.jobs else None
        end = bookkeeping.settle(self._duty.ledger, run, code, spec=spec, leave_unstarted=self.stopping)
        self._running.pop(run.job, None)
        self.busy = frozenset(self._running)
        took = max(0.0, self._duty.now() - run.started_at)
        why = f": {end.reason}" if end.reason else ""
        self._duty.log(
            "ended",
            f"{end.word} after {took:.1f} s{why}",
            job=run.job,
            outcome=end.word,
            exit_code=code,
            took_seconds=round(took, 3),
            reason=end.reason,
        )
        if end.recorded:
            self._duty.changed()
        self.consider(run.job)

    # What others see.

    def running(self) -> tuple[RunningJob, ...]:
        """For the snapshot."""
        return tuple(RunningJob(run.job, run.child.pid, run.due_at) for run in self._running.values())

    def waiting(self) -> tuple[WaitingJob, ...]:
        """For the snapshot, in the order in which they will start."""
        return tuple(WaitingJob(entry.job, entry.due_at) for entry in self._waiting)

    def latest_missed(self) -> tuple[MissedRun, ...]:
        """For the snapshot, oldest first."""
        return tuple(self._latest_missed)
