"""Delivering a job's state, rendered from the ledger, to where the job says."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitoring import exposition, textfile
from monitoring.gateway import Credentials, Gateway
from monitoring.ledger import Ledger, LockHeld
from monitoring.state import Destination, JobState, PushedGroup
from pipelines.errors import BatchgaugeError, PushError

Clock = Callable[[], float]

_LONGEST_PAUSE_SECONDS = 60.0
_MOST_DOUBLINGS = 30
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was delivered: revision `sequence` of the job's state, at a Unix time, to the gateway's URL and the textfile.

    `destinations` is empty when the job has none: there is nowhere to push to, and nothing is owed.
    """

    job: str
    sequence: int
    at: float
    destinations: tuple[str, ...]


def deliver(
    ledger: Ledger,
    job: str,
    *,
    credentials: Credentials | None = None,
    clock: Clock = time.time,
    deadline_seconds: float | None = None,
) -> Delivery:
    """Send the job's newest state to its gateway and its textfile folder, all within one deadline.

    The state is read under the job's push lock, so it is never older than what it replaces. A repeated delivery
    does no harm. Raises `PushError` when it did not arrive everywhere (it stays owed then, and the ledger says
    why), and `LedgerError`.
    """
    seconds = ledger.definition(job).destination.timeout_seconds if deadline_seconds is None else deadline_seconds
    end = time.monotonic() + seconds
    try:
        with _alone(ledger, job, seconds):
            state, at = ledger.state(job), clock()
            destinations = _send(ledger, state, at, credentials, end)
            if destinations:
                group_now = _replace_group(ledger, state, credentials, end)
                ledger.mark_pushed(job, sequence=state.sequence, at=at, group=group_now)
            return Delivery(job, state.sequence, at, destinations)
    except PushError as error:
        ledger.mark_push_failed(job, error=str(error), at=clock())
        raise


def forget(ledger: Ledger, job: str, *, credentials: Credentials | None = None, deadline_seconds: float | None = None) -> None:
    """Delete the job's group from its gateway, its textfile, and then all that the ledger knows of it.

    In this order, under the push lock: a group whose job is gone from the ledger could not be found again.
    Raises `PushError` when group or textfile can't be deleted; the ledger still knows the job then.
    """
    destination = ledger.definition(job).destination
    seconds = destination.timeout_seconds if deadline_seconds is None else deadline_seconds
    end = time.monotonic() + seconds
    with _alone(ledger, job, seconds):
        if destination.gateway:
            gateway = _gateway(destination, credentials)
            _delete(ledger, gateway, PushedGroup(gateway.url, group(job, destination)), end)
        if destination.textfile:
            textfile.remove(destination.textfile, job)
        ledger.forget(job)


def group(job: str, destination: Destination) -> dict[str, str]:
    """The job's grouping key: `job` and the static labels. Raises `PushError` for a label that can't be one."""
    try:
        exposition.check_labels(destination.labels)
    except ValueError as error:
        raise PushError(f"job {job!r}: push.labels: {error}", permanent=True) from error
    if "job" in destination.labels:
        raise PushError(f"job {job!r}: push.labels: 'job' is the job's own name; leave it out", permanent=True)
    return {"job": job, **destination.labels}


@contextmanager
def _alone(ledger: Ledger, job: str, wait_seconds: float) -> Iterator[None]:
    """Hold the push lock; not getting it in time is a `PushError` like any other."""
    with ExitStack() as stack:
        try:
            stack.enter_context(ledger.lock("push", job, wait_seconds=wait_seconds))
        except LockHeld as error:
            raise PushError(f"{error}; the state stays owed", permanent=False) from error
        yield


def _send(ledger: Ledger, state: JobState, at: float, credentials: Credentials | None, end: float) -> tuple[str, ...]:
    """To each destination, whatever becomes of the other. Raises one `PushError` with all that went wrong."""
    destination, job = state.definition.destination, state.definition.job
    labels = group(job, destination)
    sent, failures = [], []
    try:
        if destination.textfile:
            body = exposition.render(state, pushed_at=at, labels=labels)
            sent.append(str(textfile.write(destination.textfile, job, body)))
    except PushError as error:
        failures.append(error)
    try:
        if destination.gateway:
            gateway = _gateway(destination, credentials)
            ledger.note_push(job, PushedGroup(gateway.url, labels), ca_file=destination.ca_file, at=at)
            gateway.put(labels, exposition.render(state, pushed_at=at), deadline_seconds=end - time.monotonic())
            sent.append(gateway.url)
    except PushError as error:
        failures.append(error)
    if failures:
        message = f"job {job!r}: " + "; ".join(map(str, failures))
        permanent, unavailable = all(one.permanent for one in failures), any(one.unavailable for one in failures)
        raise PushError(message, permanent=permanent, unavailable=unavailable) from failures[0]
    return tuple(sent)


def _replace_group(ledger: Ledger, state: JobState, credentials: Credentials | None, end: float) -> PushedGroup | None:
    """The group that holds the state now; the one that held it before is deleted if its labels were others.

    Or `sum` over the job's counters would count twice. A group on another gateway is left alone: that gateway may be gone.
    """
    destination, before = state.definition.destination, state.pushed_group
    if destination.gateway is None:
        return None
    gateway = _gateway(destination, credentials)
    now = PushedGroup(gateway.url, group(state.definition.job, destination))
    if before is not None and before.gateway == now.gateway and before.labels != now.labels:
        _delete(ledger, gateway, before, end)
    return now


def _delete(ledger: Ledger, gateway: Gateway, pushed: PushedGroup, end: float) -> None:
    gateway.delete(pushed.labels, deadline_seconds=end - time.monotonic())
    ledger.drop_group(pushed)


def _gateway(destination: Destination, credentials: Credentials | None) -> Gateway:
    assert destination.gateway is not None  # the callers have looked
    return Gateway(destination.gateway, credentials=credentials, ca_file=destination.ca_file)


def pause(every_seconds: float, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """How long to wait after so many failures in a row: up to twice as long after each, by chance, up to a minute or so.

    A gateway that can't keep up goes on working on what its clients have given up. Were it asked as often as ever, it would
    never be done with that.
    """
    longest = min(max(_LONGEST_PAUSE_SECONDS, every_seconds), every_seconds * 2 ** min(failures, _MOST_DOUBLINGS))
    return every_seconds if longest <= every_seconds else uniform(every_seconds, longest)


class Pusher:
    """Pushes a job's state every `every_seconds`, less often while that fails, from a thread of its own during a run.

    It never raises into its caller and never holds it up: what goes wrong is kept in `last_error` (None again
    after a push that arrived). It opens its own ledger at `location`.
    """

    def __init__(self, location: str | Path, job: str, *, every_seconds: float, credentials: Credentials | None = None) -> None:
        self._location = location
        self._job = job
        self._every_seconds = every_seconds
        self._credentials = credentials
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"push {job}", daemon=True)
        self.last_error: str | None = None
        self.pushes = 0

    def start(self) -> None:
        """Begin; the first push comes after `every_seconds`, or after a minute."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads to be had
            self.last_error = str(error)

    def stop(self, *, wait_seconds: float = 1.0) -> None:
        """End, after at most `wait_seconds`; a push that hangs is left to its deadline."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)

    def _run(self) -> None:
        failures = 0
        try:
            with Ledger.open(self._location) as ledger:
                wait = min(self._every_seconds, _START_SECONDS)  # that a run has begun is told soon, however rarely it pushes
                while not self._stop.wait(wait):
                    self._push(ledger)
                    failures = failures + 1 if self.last_error else 0
                    wait = pause(self._every_seconds, failures)
        except BatchgaugeError as error:
            self.last_error = str(error)

    def _push(self, ledger: Ledger) -> None:
        try:
            deliver(ledger, self._job, credentials=self._credentials)
        except BatchgaugeError as error:
            self.last_error = str(error)
        except Exception as error:  # noqa: BLE001  a defect here may cost a push, never a run
            self.last_error = f"unexpected {type(error).__name__}: {error}"
        else:
            self.last_error = None
            self.pushes += 1
