"""Keeping the gateways in step with the ledger: what is owed is pushed, what a gateway has lost is pushed again.

A thread of its own, so that a gateway that hangs holds up no run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from time import time

from jobs.dead_runs import settled_state
from jobs.delivery import push_job
from jobs.environment import Environment
from jobs.scheduler.snapshot import SyncResult
from monitoring import textfile
from monitoring.gateway import Gateway, Group
from monitoring.ledger import Ledger, Revision
from monitoring.push import group
from monitoring.state import Destination, JobState
from pipelines.errors import BatchgaugeError, PushError

Groups = Mapping[frozenset[tuple[str, str]], Group]
Address = tuple[str, str | None]
"""A gateway's URL and its certificate authority."""


class Sync:
    """Compares the ledger with the gateways. Jobs in `busy` may have a run in progress: they aren't looked at for dead ones.

    A job is read again only when its revision has changed: to read thousands takes many seconds, which the scheduler's loop
    would wait for. `listing_seconds` bounds how long a gateway may take to say what it has.
    """

    def __init__(
        self,
        ledger: Ledger,
        environment: Environment,
        *,
        busy: Callable[[], Collection[str]],
        listing_seconds: float = 10.0,
    ) -> None:
        self._ledger = ledger
        self._environment = environment
        self._busy = busy
        self._listing_seconds = listing_seconds
        self._known: dict[str, tuple[Revision, JobState]] = {}

    def once(self) -> SyncResult:
        """Push what is owed or lost, and settle dead runs. Never raises: what went wrong is in the result."""
        try:
            return self._once()
        except (BatchgaugeError, OSError) as error:
            return SyncResult(at=time(), errors=(str(error),))
        except Exception as error:  # noqa: BLE001  a defect may cost one sync, not all that would follow
            return SyncResult(at=time(), errors=(f"unexpected {type(error).__name__}: {error}",))

    def _once(self) -> SyncResult:
        settled: list[str] = []
        gateways: dict[Address, list[JobState]] = {}
        outcomes: list[tuple[str, str | None]] = []
        for job, state in self._states(settled).items():
            destination = self._environment.redirected(job, state.definition.destination)
            if destination.gateway:
                gateways.setdefault((destination.gateway, destination.ca_file), []).append(state)
            elif _textfile_is_behind(state, destination):
                outcomes.append(self._pushed(job))
        for address, states in gateways.items():
            outcomes += self._to_gateway(address, states)
        return SyncResult(
            at=time(),
            pushed=tuple(job for job, error in outcomes if error is None),
            settled=tuple(settled),
            errors=tuple(error for _, error in outcomes if error is not None),
        )

    def _states(self, settled: list[str]) -> dict[str, JobState]:
        """Every job's, without what no sync asks for; dead runs have ended, and their jobs are in `settled`."""
        revisions = self._ledger.revisions()
        self._known = {job: self._current(job, revision) for job, revision in sorted(revisions.items())}
        return {job: self._settled(job, state, settled) for job, (_, state) in self._known.items()}

    def _current(self, job: str, revision: Revision) -> tuple[Revision, JobState]:
        """Should the job change between the revision and this, it is read once more than needed; never once too few."""
        before = self._known.get(job)
        return before if before and before[0] == revision else (revision, _trimmed(self._ledger.state(job)))

    def _settled(self, job: str, state: JobState, settled: list[str]) -> JobState:
        if state.running is None:
            return state
        state = self._ledger.state(job)  # it may have ended since it was read
        if state.running is None or job in self._busy():
            return state
        state = settled_state(self._ledger, job)
        if state.running is None:
            settled.append(job)
        return state

    def _to_gateway(self, address: Address, states: list[JobState]) -> Iterator[tuple[str, str | None]]:
        """Push the jobs that it shows wrongly. A gateway that doesn't answer is asked once, whatever the number of jobs."""
        url, ca_file = address
        try:
            gateway = Gateway(
                url, credentials=self._environment.credentials, ca_file=ca_file, timeout_seconds=self._listing_seconds
            )
            groups = {frozenset(one.labels.items()): one for one in gateway.groups()}
        except PushError as error:
            yield "", str(error)
            return
        for state in states:
            destination = self._environment.redirected(state.definition.job, state.definition.destination)
            if _gateway_is_behind(state, destination, groups) or _textfile_is_behind(state, destination):
                push = push_job(self._ledger, state.definition.job, self._environment)
                yield state.definition.job, push.error
                if push.unavailable:
                    return

    def _pushed(self, job: str) -> tuple[str, str | None]:
        push = push_job(self._ledger, job, self._environment)
        return job, push.error


class SyncThread:
    """Syncs every now and then, and when asked. `done` is called with each result, from this thread."""

    def __init__(self, sync: Sync, *, every_seconds: float, done: Callable[[SyncResult], None]) -> None:
        self._sync = sync
        self._every_seconds = every_seconds
        self._done = done
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    def start(self) -> None:
        """Begin with a sync."""
        self._thread.start()

    def ask(self) -> None:
        """Sync soon."""
        self._wake.set()

    def stop(self, *, wait_seconds: float) -> None:
        """End, with a last sync so that what is known is shown, unless that takes too long."""
        self._over = True
        self._wake.set()
        self._thread.join(wait_seconds)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._over
            self._wake.clear()
            self._done(self._sync.once())
            if not over:
                self._wake.wait(self._every_seconds)


def _trimmed(state: JobState) -> JobState:
    """Without what fills the memory with thousands of jobs."""
    return replace(state, counters={}, latest=None, model=None, quality={})


def _gateway_is_behind(state: JobState, destination: Destination, groups: Groups) -> bool:
    """Whether it shows less than was delivered to it, or something newer is owed. No clock is compared with another's."""
    if state.owed:
        return True
    try:
        key = group(state.definition.job, destination)
    except PushError:
        return True  # pushing will say what is wrong
    shown = groups.get(frozenset(key.items()))
    return shown is None or shown.sequence is None or not shown.sequence >= state.pushed_sequence


def _textfile_is_behind(state: JobState, destination: Destination) -> bool:
    if not destination.textfile:
        return False
    return state.owed or not textfile.path(destination.textfile, state.definition.job).exists()
