"""The daemon: one loop in which all happens that changes its state.

Other threads (the clock, the sync, one for each process) and signal handlers put notes into its queue; what they may
know of it is published as a `Snapshot`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from jobs.retrain.alerts import parse
from jobs.retrain.evidence import gather
from jobs.retrain.policy import Decision, JobFacts, decide
from jobs.scheduler.clock import Clock
from jobs.scheduler.dispatcher import Dispatcher
from jobs.scheduler.duty import Duty
from jobs.scheduler.folder import JobFolder
from jobs.scheduler.log import Log
from jobs.scheduler.notes import Notes
from jobs.scheduler.retrainings import Retrainings
from jobs.scheduler.roster import Roster
from jobs.scheduler.settings import Settings
from jobs.scheduler.snapshot import Snapshot, SyncResult
from jobs.scheduler.sync import Sync, SyncThread
from monitoring.ledger import Hold, Ledger
from monitoring.scheduler_metrics import SchedulerFigures
from pipelines.errors import BatchgaugeError, LedgerError

STEP_SECONDS = 5.0
"""The wall clock was set when it and the monotonic clock come apart by more than that between two looks."""
STAND_BY_SECONDS = 1.0
"""How often one that stands by tries to take the place of the one at work."""
DISPLACED = (
    "the connection to the ledger was lost for so long that another scheduler has taken over; what runs goes on, and this one "
    "ends: start it again, and it stands by"
)
DOUBTED = "nothing was heard of it for so long that another scheduler may have taken over; starts nothing until that is known"
_LONGEST_NAME = 200
_HEED_SECONDS = 20.0


class NotReady(BatchgaugeError):  # noqa: N818  it reports a state, not a failure
    """The scheduler can't take heed now: who asks should ask again."""


class Daemon:
    """A scheduler on one ledger. `run` blocks; the other methods may be called from any thread.

    `stop` and `reload` may be called from signal handlers, too. `clock` is the wall clock.
    """

    def __init__(self, settings: Settings, ledger: Ledger, log: Log, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._ledger = ledger
        self._log = log
        self._now = clock
        self._began_at = clock()
        self._notes = notes = Notes(log)
        self._clock = Clock(self._due, trigger=settings.trigger)
        folder = JobFolder(settings.paths, ledger.folder / "definitions")
        self._sync = SyncThread(
            Sync(ledger, settings.environment, busy=lambda: self._dispatcher.busy),
            every_seconds=settings.sync_every_seconds,
            done=lambda result: notes.put(partial(self._synced, result)),
        )
        self._roster = Roster(
            folder,
            ledger,
            settings.environment,
            clock=self._clock,
            notes=notes,
            log=log,
            now=clock,
            changed=self._sync.ask,
        )
        self._place: Callable[[], Hold] = lambda: Hold.KEPT
        duty = Duty(
            settings=settings,
            ledger=ledger,
            jobs=self._roster.jobs,
            notes=notes,
            log=log,
            now=clock,
            changed=self._sync.ask,
            check_place=self._check_place,
        )
        self._dispatcher = Dispatcher(duty)
        self._retrainings = Retrainings(duty)
        self._alert_messages = 0
        self._ready = self._standing_by = self._said_standing_by = self._stopped = False
        self._last_sync: SyncResult | None = None
        self._last_good_sync_at: float | None = None
        self._sync_failures = 0
        self._rescan_at = 0.0
        self._clock_offset = 0.0
        self._give_up_at = float("inf")
        self._published = self._snapshot()

    def stand_by(self, take_place: Callable[[], bool]) -> bool:
        """Wait until `take_place` has made this the ledger's one scheduler; False: it was asked to stop before."""
        self._standing_by = True
        while not self._stopped:
            self._notes.attempt(lambda: self._take_place(take_place), repeats=True)
            if not self._standing_by:
                return True
            self._published = self._snapshot()
            self._notes.turn(wait_seconds=STAND_BY_SECONDS)
            self._notes.assess()
        return False

    def run(self, *, place: Callable[[], Hold] = lambda: Hold.KEPT) -> None:
        """Schedule until `stop`, and until what runs has ended. Hold the ledger's scheduler lock meanwhile.

        `place` says what is known of it: unless it is surely kept, nothing is started. Raises `LedgerError` once it was lost to
        another scheduler; what runs goes on, then.
        """
        self._place = place
        self._begin()
        try:
            while not self._over():
                if place() is Hold.LOST:
                    raise LedgerError(DISPLACED)
                self._notes.turn(wait_seconds=self._settings.tick_seconds)
                self._look_around()
                self._notes.assess()
                self._published = self._snapshot()
        finally:
            self._clock.stop()
            self._sync.stop(wait_seconds=self._settings.kill_after_seconds)
            self._notes.rest()
            self._published = self._snapshot()
            self._log("stopped", f"stopped ({self._dispatcher.started} runs started, {self._dispatcher.missed} missed)")

    def stop(self, why: str) -> None:
        """Start nothing more, ask what runs to stop, and end. A second time: end what runs at once."""
        self._notes.put(partial(self._stop, why))

    def reload(self) -> None:
        """Read the job files that have changed, now. Does nothing while standing by: they are read in due time."""
        self._notes.put(self._reload)

    def hear(self, message: bytes) -> tuple[Decision, ...]:
        """Decide about a message of Alertmanager's, job by job, and have done what it rightly asks for.

        What is returned was taken. Raises `MessageError` when it is none; when it should come again later, `LedgerError` (the
        ledger can't be asked now) or `NotReady`.
        """
        if not self._published.ready:
            raise NotReady("the scheduler is starting or stopping")
        specs = {job.job: job.file.spec for job in self._published.jobs}

        def facts_of(name: str) -> JobFacts | None:
            spec = specs.get(name)
            return gather(self._ledger, spec) if spec else None

        decisions = decide(parse(message), facts_of, now=self._now())
        taken: Future[bool] = Future()
        self._notes.put(partial(self._take_heed, decisions, message, taken))
        try:
            if taken.result(timeout=_HEED_SECONDS):
                return decisions
        except TimeoutError:
            raise NotReady("the scheduler is held up") from None
        raise NotReady("the scheduler is stopping")

    def snapshot(self) -> Snapshot:
        """The daemon as it was a moment ago: at the end of its loop's last turn."""
        return self._published

    def figures(self) -> SchedulerFigures:
        """The same, as its metrics show it."""
        now = self._published
        return SchedulerFigures(
            jobs=sum(job.schedule is not None for job in now.jobs),
            broken_files=len(now.broken),
            runs_started=now.runs_started,
            runs_missed=now.runs_missed,
            running=len(now.running),
            waiting=len(now.waiting),
            max_running=now.max_running,
            sync_failures=now.sync_failures,
            last_sync_at=now.last_good_sync_at,
            ledger_trouble=now.trouble is not None,
            began_at=now.began_at,
            alert_messages=now.alert_messages,
            retrains_started=now.retrains_started,
            retrains_running=sum(not one.waits for one in now.retraining),
            retrains_waiting=sum(one.waits for one in now.retraining),
            lags=now.lags,
        )

    def _begin(self) -> None:
        pid, most = os.getpid(), self._settings.max_running
        self._log("began", f"scheduler began (pid {pid}, at most {most} runs at once, ledger {self._ledger.location})", pid=pid)
        self._clock_offset = self._now() - time.monotonic()
        self._clock.start()
        self._notes.attempt(partial(self._rescan, at_once=True))
        self._notes.attempt(self._dispatcher.adopt)
        self._notes.attempt(self._retrainings.adopt)
        self._sync.start()
        self._ready = True

    def _check_place(self) -> None:
        if not self._place():
            raise LedgerError(f"ledger {self._ledger.location}: {DOUBTED}")

    def _due(self, job: str) -> None:
        self._notes.put(partial(self._dispatcher.consider, job))

    def _take_heed(self, decisions: tuple[Decision, ...], message: bytes, taken: Future[bool]) -> None:
        taken.set_result(not self._dispatcher.stopping)
        if self._dispatcher.stopping:
            return
        self._alert_messages += 1
        for decision in decisions:
            name = _shortened(decision.job)
            self._log(
                "alert",
                f"an alert came, and {'asks' if decision.retrain else 'does not ask'} for a retraining: {decision.reason}",
                job=name,
                retrain=str(decision.retrain).lower(),
            )
            if decision.retrain:
                self._retrainings.ask(decision.job, message)

    def _look_around(self) -> None:
        self._dispatcher.enforce()
        self._notes.attempt(self._retrainings.enforce, repeats=True)
        if self._dispatcher.stopping:
            return
        self._watch_the_clock()
        if time.monotonic() >= self._rescan_at:
            self._notes.attempt(self._rescan, repeats=True)
        self._dispatcher.revise()
        self._dispatcher.fill()
        self._notes.attempt(self._retrainings.fill, repeats=True)

    def _reload(self) -> None:
        if not self._standing_by:
            self._rescan(at_once=True)

    def _take_place(self, take_place: Callable[[], bool]) -> None:
        self._standing_by = not take_place()
        if self._standing_by and not self._said_standing_by:
            self._said_standing_by = True
            self._log("standing by", f"another scheduler is at work on ledger {self._ledger.location}; stands by")

    def _rescan(self, *, at_once: bool = False) -> None:
        self._rescan_at = time.monotonic() + self._settings.rescan_every_seconds
        self._roster.rescan(self._dispatcher, at_once=at_once)

    def _watch_the_clock(self) -> None:
        offset = self._now() - time.monotonic()
        step, self._clock_offset = offset - self._clock_offset, offset
        if abs(step) >= STEP_SECONDS:
            self._log("clock", f"the clock was set by {step:+.0f} s", step_seconds=step)
            self._roster.look_anew(self._dispatcher)

    def _synced(self, result: SyncResult) -> None:
        before, self._last_sync = self._last_sync, result
        for job in result.settled:
            self._log("settled", "its process had died: the run is recorded as failed", job=job)
        if result.ok:
            self._last_good_sync_at = result.at
            if before is not None and not before.ok:
                self._log("synced", "nothing is owed any more")
            return
        self._sync_failures += 1
        if before is None or before.errors != result.errors:
            self._log("sync failed", "; ".join(result.errors))

    def _stop(self, why: str) -> None:
        self._stopped = True
        if self._standing_by:
            self._log("stopped", f"{why}: stopped; it was standing by")
            return
        again = self._dispatcher.stopping
        seconds = 0.0 if again else self._settings.shutdown_seconds
        self._clock.stop()
        running = len(self._dispatcher.busy) + self._retrainings.in_progress
        wait = f"; {running} asked to stop, within {seconds:g} s" if running else ""
        self._log("stopping", f"{why}: starts nothing more{wait}", running=running)
        reason = f"the scheduler was stopped ({why})"
        self._dispatcher.stop(reason, kill_after_seconds=seconds)
        self._retrainings.stop(reason, kill_after_seconds=seconds)
        # A ledger that can't be written must not keep us: the next scheduler settles what is left.
        self._give_up_at = time.monotonic() + seconds + self._settings.kill_after_seconds

    def _over(self) -> bool:
        if not self._dispatcher.stopping:
            return False
        working = bool(self._dispatcher.busy) or self._retrainings.in_progress
        return not working or time.monotonic() >= self._give_up_at

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            began_at=self._began_at,
            max_running=self._settings.max_running,
            turned_at=time.monotonic(),
            ready=self._ready and not self._dispatcher.stopping,
            standing_by=self._standing_by,
            jobs=self._roster.scheduled(),
            running=self._dispatcher.running(),
            waiting=self._dispatcher.waiting(),
            retraining=self._retrainings.shown(),
            missed=self._dispatcher.latest_missed(),
            broken=self._roster.broken(),
            runs_started=self._dispatcher.started,
            runs_missed=self._dispatcher.missed,
            alert_messages=self._alert_messages,
            retrains_started=self._retrainings.started,
            lags=self._dispatcher.lags,
            last_good_sync_at=self._last_good_sync_at,
            sync_failures=self._sync_failures,
            trouble=self._notes.trouble,
        )


def _shortened(name: str) -> str:
    """A job's name as it came from the network, for a line of the log."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
