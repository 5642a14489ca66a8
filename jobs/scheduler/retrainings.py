"""Retrainings that alerts ask for: one after the other, each in a process of its own. Used by one thread only.

What comes here was judged by `jobs.retrain.policy`; the process judges once more, under the job's lock. A retraining takes no
place from the runs: one that trains for two hours must not make the nightly runs miss their time. One that outlived the
scheduler that started it is waited for; nothing but its lock tells of it any more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from jobs.retrain.settling import settle_retrains
from jobs.scheduler.duty import Duty
from jobs.scheduler.processes import StartedChild, Work, watch
from jobs.scheduler.roster import Job
from jobs.scheduler.snapshot import RetrainingJob
from jobs.settings import RetrainSettings
from monitoring.ledger import LockHeld, RetrainRecord

_NOTHING_DONE = 5


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message of Alertmanager's that asks for a retraining, and since when (Unix seconds) it waits."""

    message: bytes
    since: float


@dataclass(slots=True, kw_only=True)
class _Retraining(Work):
    """One in progress; `latest_before` is the id of the job's retraining before it, if there was one."""

    latest_before: str | None


class Retrainings:
    """Acts on what is asked of the jobs."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._waiting: dict[str, _Asked] = {}
        self._current: _Retraining | None = None
        self._elsewhere: dict[str, float] = {}
        self._refusal: str | None = None
        self._stopping = False
        self.started = 0

    @property
    def in_progress(self) -> bool:
        """Whether one that we started has yet to end."""
        return self._current is not None

    def ask(self, job: str, message: bytes) -> None:
        """Have the job retrained for this message when it is its turn. Asked again meanwhile, nothing is added."""
        if not self._stopping and job in self._duty.jobs and job not in self._waiting and not self._is_current(job):
            self._waiting[job] = _Asked(message, self._duty.now())

    def adopt(self) -> None:
        """Wait for those that a scheduler before us has started and not outlived, before starting others."""
        for name, job in self._duty.jobs.items():
            unfinished = self._duty.ledger.unfinished_retrains(name) if job.spec.retrain else ()
            if unfinished and self._is_alive(name):
                self._elsewhere[name] = unfinished[-1].started_at
                self._duty.log("adopted", "a retraining goes on from before the scheduler began", job=name)

    def fill(self) -> None:
        """Start the one that has waited longest, if none is in progress."""
        while self._waiting and self._current is None and not self._elsewhere and not self._stopping:
            name = next(iter(self._waiting))
            job = self._duty.jobs.get(name)
            if job is None or job.spec.retrain is None:  # its file was changed meanwhile
                del self._waiting[name]
            elif not self._start(name, job, job.spec.retrain):
                return

    def enforce(self) -> None:
        """See to it that what must stop does."""
        if self._current is not None:
            before = self._current.stopping
            self._current.enforce(kill_after_seconds=self._duty.settings.kill_after_seconds)
            if self._current.stopping != before:
                self._duty.log("stopping", f"retraining asked to stop: {self._current.stopping}", job=self._current.job)
        for name in [name for name in self._elsewhere if not self._is_alive(name)]:
            settle_retrains(self._duty.ledger, name)
            latest = self._latest(name)
            del self._elsewhere[name]
            outcome = latest.outcome if latest and latest.outcome else "over"
            self._duty.log("retrained", f"the retraining from before the scheduler began: {outcome}", job=name, outcome=outcome)
            self._duty.changed()

    def stop(self, reason: str, *, kill_after_seconds: float) -> None:
        """Start nothing more, and ask what is in progress to stop. Alertmanager repeats what it has asked for."""
        self._stopping = True
        self._waiting.clear()
        if self._current is not None:
            self._current.stop(reason, kill_after_seconds=kill_after_seconds)

    def shown(self) -> tuple[RetrainingJob, ...]:
        """For the snapshot: the one in progress, and those that wait, in their order."""
        current = self._current
        ours = () if current is None else (RetrainingJob(current.job, current.child.pid, current.started_at),)
        theirs = (RetrainingJob(job, None, since) for job, since in self._elsewhere.items())
        return (*ours, *theirs, *(RetrainingJob(job, None, asked.since, waits=True) for job, asked in self._waiting.items()))

    def _is_current(self, job: str) -> bool:
        return self._current is not None and self._current.job == job

    def _is_alive(self, job: str) -> bool:
        """Whether somebody holds the job's retrain lock: the kernel frees that of a process that died."""
        try:
            with self._duty.ledger.lock("retrain", job):
                return False
        except LockHeld:
            return True

    def _start(self, name: str, job: Job, settings: RetrainSettings) -> bool:
        """Whether its process was started; if not, it is tried again at the next turn."""
        log = self._duty.log_file(name, ".retrain")
        latest = self._latest(name)
        self._duty.check_place()
        try:
            child = StartedChild(self._duty.settings.retrain_command(job.file), log, told=self._waiting[name].message)
        except OSError as error:
            if str(error) != self._refusal:
                self._duty.log("not started", f"its retraining can't be started ({error}); trying again", job=name)
            self._refusal = str(error)
            return False
        self._refusal = None
        del self._waiting[name]
        self._current = work = _Retraining(
            job=name,
            started_at=self._duty.now(),
            child=child,
            log=log,
            log_from=child.log_from,
            latest_before=latest.retrain_id if latest else None,
        )
        work.terminate_at = time.monotonic() + settings.timeout + self._duty.settings.timeout_allowance_seconds
        work.terminate_reason = f"timeout: it took longer than retrain.timeout ({settings.timeout:g} s)"
        watch(work, partial(self._duty.notes.put, partial(self._ended, work)))
        self.started += 1
        self._duty.log("retraining", f"retraining started (asked for by an alert, pid {child.pid})", job=name, pid=child.pid)
        return True

    def _ended(self, work: _Retraining) -> None:
        work.child.kill()
        code = work.child.reap()
        took = max(0.0, self._duty.now() - work.started_at)
        outcome, reason = self._what_came_of(work, code)  # while the ledger can't be used this is tried again, as a whole
        self._current = None
        self._duty.log(
            "retrained",
            f"retraining {outcome} after {took:.1f} s: {reason}",
            job=work.job,
            outcome=outcome,
            reason=reason,
            exit_code=code,
            took_seconds=round(took, 3),
        )
        self._duty.changed()

    def _what_came_of(self, work: _Retraining, code: int | None) -> tuple[str, str]:
        """How it ended, as the ledger has it, and why. One that the ledger knows nothing of did nothing."""
        if self._duty.ledger.accounted_until(work.job) is not None:  # else the job was forgotten meanwhile
            settle_retrains(self._duty.ledger, work.job)
            latest = self._latest(work.job)
            if latest is not None and latest.outcome is not None and latest.retrain_id != work.latest_before:
                return str(latest.outcome), (latest.reason or "").partition("\n")[0]
        why = work.stopping or work.last_words() or "it said nothing"
        return ("not needed" if code == _NOTHING_DONE else "failed"), f"{why} (exit code {code}; see {work.log})"

    def _latest(self, job: str) -> RetrainRecord | None:
        return next(iter(self._duty.ledger.retrains(job, limit=1)), None)
