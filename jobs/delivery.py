"""Acting on pushed state by hand: register, push, forget."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import time
from typing import Any

from jobs.dead_runs import settled_state
from jobs.environment import Environment
from jobs.foreign import name
from jobs.spec import JobSpec
from monitoring.ledger import Ledger
from monitoring.push import Delivery, deliver, forget
from pipelines.errors import PushError

_SHORT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Push:
    """What became of one job's push. Without an error and without destinations there is nowhere to push to."""

    job: str
    destinations: tuple[str, ...]
    error: str | None
    unavailable: bool = False
    """Of an error: whether the gateway takes nothing at present, whosever it is."""

    def sentence(self) -> str:
        """For a person."""
        job = name(self.job)
        if self.error:
            return f"{job}: push owed: {self.error}"
        if not self.destinations:
            return f"{job}: in the ledger, not pushed: no gateway and no textfile folder is configured"
        return f"{job}: pushed to {' and '.join(self.destinations)}"

    def document(self) -> dict[str, Any]:
        """For a machine."""
        return {"job": self.job, "destinations": list(self.destinations), "error": self.error}


def register_job(ledger: Ledger, spec: JobSpec, environment: Environment) -> Push:
    """Make the job known and push its state: zeros when it is new."""
    now = datetime.now(UTC)
    ledger.register(spec.definition(environment), now=now.timestamp(), next_expected_at=spec.next_expected(now))
    return push_job(ledger, spec.job.name, environment)


def deliver_job(ledger: Ledger, job: str, environment: Environment, *, deadline_seconds: float | None = None) -> Delivery:
    """Deliver one job's state, to where the environment says now if it says anything. Raises as `deliver` does."""
    _follow(ledger, job, environment)
    return deliver(ledger, job, credentials=environment.credentials, deadline_seconds=deadline_seconds)


def push_job(ledger: Ledger, job: str, environment: Environment, *, deadline_seconds: float | None = None) -> Push:
    """The same, with what became of it: a push that failed is owed."""
    try:
        delivery = deliver_job(ledger, job, environment, deadline_seconds=deadline_seconds)
    except PushError as error:
        return Push(job, (), str(error), unavailable=error.unavailable)
    return Push(job, tuple(delivery.destinations), None)


def _follow(ledger: Ledger, job: str, environment: Environment) -> None:
    """A gateway may have moved since the job last ran: the ledger learns of it here as it would in a run."""
    state = ledger.state(job)
    destination = environment.redirected(job, state.definition.destination)
    if destination != state.definition.destination:
        moved = replace(state.definition, destination=destination)
        ledger.register(moved, now=time(), next_expected_at=state.next_expected_at)


def push_jobs(ledger: Ledger, jobs: Iterable[str], environment: Environment, *, only_owed: bool) -> list[Push]:
    """Push the state of several jobs; one that can't be pushed doesn't stop the others.

    A gateway that takes nothing is waited for once: of the jobs that come after, each has a second. Raises `LedgerError` for a
    job that the ledger doesn't know, before any is pushed.
    """
    gateways = {job: environment.redirected(job, ledger.definition(job).destination).gateway for job in jobs}
    unavailable: set[str | None] = set()
    pushes = []
    for job, gateway in gateways.items():
        if only_owed and not settled_state(ledger, job).owed:
            continue
        push = push_job(ledger, job, environment, deadline_seconds=_SHORT_SECONDS if gateway in unavailable else None)
        if push.unavailable:
            unavailable.add(gateway)
        elif not push.error:
            unavailable.discard(gateway)
        pushes.append(push)
    return pushes


def forget_job(ledger: Ledger, job: str, environment: Environment, *, offline: bool = False) -> None:
    """Delete the job's group and textfile (unless `offline`), ledger entries, batch records and logs of training.

    Raises `PushError` when the gateway can't be reached (nothing is forgotten then), `LockHeld` while a run or a
    retraining goes on.
    """
    with ledger.lock("run", job), ledger.lock("retrain", job):
        if offline:
            ledger.forget(job)
        else:
            forget(ledger, job, credentials=environment.credentials)
        for folder in (ledger.batch_folder(job), ledger.retrain_folder(job)):
            shutil.rmtree(folder, ignore_errors=True)
