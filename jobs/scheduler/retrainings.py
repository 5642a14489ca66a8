"""Retrainings that alerts ask for: one after the other, each in a process of its own. Used by one thread only.

What comes here was judged by `jobs.retrain.policy`; the process judges once more, under the job's lock. A retraining takes no
place from the runs: one that trains for two hours must not make the nightly runs miss their time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jobs.retrain.settling import settle_retrains
from jobs.scheduler.log import Log
from jobs.scheduler.notes import Notes
from jobs.scheduler.processes import StartedChild, Work, watch
from jobs.scheduler.roster import Job
from jobs.scheduler.settings import Settings
from jobs.scheduler.snapshot import RetrainingJob
from jobs.settings import RetrainSettings
from monitoring.filenames import of_job
from monitoring.ledger import Ledger, RetrainRecord

_NOTHING_DONE = 5


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message of Alertmanager's that asks for a retraining, and since when (Unix seconds) it waits."""

    message: bytes
    since: float


class Retrainings:
    """Acts on what is asked of `jobs`, whose keeper is the roster. `changed` is called when a push is owed by what it did."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        jobs: Mapping[str, Job],
        *,
        notes: Notes,
        log: Log,
        now: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._jobs = jobs
        self._notes = notes
        self._log = log
        self._now = now
        self._changed = changed
        self._logs = settings.log_folder or ledger.folder / "logs"
        self._waiting: dict[str, _Asked] = {}
        self._current: Work | None = None
        self._latest_before: str | None = None
        self._refusal: str | None = None
        self._stopping = False
        self.started = 0

    @property
    def in_progress(self) -> bool:
        """Whether one has yet to end."""
        return self._current is not None

    def ask(self, job: str, message: bytes) -> None:
        """Have the job retrained for this message when it is its turn. Asked again meanwhile, nothing is added."""
        if not self._stopping and job in self._jobs and job not in self._waiting and not self._is_current(job):
            self._waiting[job] = _Asked(message, self._now())

    def fill(self) -> None:
        """Start the one that has waited longest, if none is in progress."""
        while self._waiting and self._current is None and not self._stopping:
            name = next(iter(self._waiting))
            job = self._jobs.get(name)
            if job is None or job.spec.retrain is None:  # its file was changed meanwhile
                del self._waiting[name]
            elif not self._start(name, job, job.spec.retrain):
                return

    def enforce(self) -> None:
        """See to it that what must stop does."""
        if self._current is not None:
            before = self._current.stopping
            self._current.enforce(kill_after_seconds=self._settings.kill_after_seconds)
            if self._current.stopping != before:
                self._log("stopping", f"retraining asked to stop: {self._current.stopping}", job=self._current.job)

    def stop(self, reason: str, *, kill_after_seconds: float) -> None:
        """Start nothing more, and ask what is in progress to stop. Alertmanager repeats what it has asked for."""
        self._stopping = True
        self._waiting.clear()
        if self._current is not None:
            self._current.stop(reason, kill_after_seconds=kill_after_seconds)

    def shown(self) -> tuple[RetrainingJob, ...]:
        """For the snapshot: the one in progress, and those that wait, in their order."""
        current = self._current
        first = () if current is None else (RetrainingJob(current.job, current.child.pid, current.started_at),)
        return (*first, *(RetrainingJob(job, None, asked.since) for job, asked in self._waiting.items()))

    def _is_current(self, job: str) -> bool:
        return self._current is not None and self._current.job == job

    def _start(self, name: str, job: Job, settings: RetrainSettings) -> bool:
        """Whether its process was started; if not, it is tried again at the next turn."""
        log = self._log_of(name)
        self._latest_before = self._latest_id(name)
        try:
            child = StartedChild(self._settings.retrain_command(job.file), log, told=self._waiting[name].message)
        except OSError as error:
            if str(error) != self._refusal:
                self._log("not started", f"its retraining can't be started ({error}); trying again", job=name)
            self._refusal = str(error)
            return False
        self._refusal = None
        del self._waiting[name]
        self._current = work = Work(job=name, started_at=self._now(), child=child, log=log, log_from=child.log_from)
        work.terminate_at = time.monotonic() + settings.timeout + self._settings.timeout_allowance_seconds
        work.terminate_reason = f"timeout: it took longer than retrain.timeout ({settings.timeout:g} s)"
        watch(work, partial(self._notes.put, partial(self._ended, work)))
        self.started += 1
        self._log("retraining", f"retraining started (asked for by an alert, pid {child.pid})", job=name, pid=child.pid)
        return True

    def _ended(self, work: Work) -> None:
        work.child.kill()
        code = work.child.reap()
        self._current = None
        took = max(0.0, self._now() - work.started_at)
        outcome, reason = self._what_came_of(work, code)
        self._log(
            "retrained",
            f"retraining {outcome} after {took:.1f} s: {reason}",
            job=work.job,
            outcome=outcome,
            reason=reason,
            exit_code=code,
            took_seconds=round(took, 3),
        )
        self._changed()

    def _what_came_of(self, work: Work, code: int | None) -> tuple[str, str]:
        """How it ended, as the ledger has it, and why. One that the ledger knows nothing of did nothing."""
        if self._ledger.accounted_until(work.job) is not None:  # else the job was forgotten meanwhile
            settle_retrains(self._ledger, work.job)
            latest = self._latest(work.job)
            if latest is not None and latest.outcome is not None and latest.retrain_id != self._latest_before:
                return str(latest.outcome), (latest.reason or "").partition("\n")[0]
        why = work.stopping or work.last_words() or "it said nothing"
        return ("not needed" if code == _NOTHING_DONE else "failed"), f"{why} (exit code {code}; see {work.log})"

    def _latest(self, job: str) -> RetrainRecord | None:
        return next(iter(self._ledger.retrains(job, limit=1)), None)

    def _latest_id(self, job: str) -> str | None:
        latest = self._latest(job)
        return None if latest is None else latest.retrain_id

    def _log_of(self, job: str) -> Path:
        return self._logs / f"{of_job(job)}.retrain.log"
