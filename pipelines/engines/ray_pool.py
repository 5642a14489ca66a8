"""A pool of Ray actors: started, given parts, listened to; who is lost is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple, cast

import ray
from ray.exceptions import RayError, RayTaskError

from pipelines.cancellation import Cancellation
from pipelines.engines.ray_cluster import described
from pipelines.engines.ray_worker import Answer, Facts, Lesson, Usage, Worker, versions
from pipelines.errors import EngineError

WAKE_SECONDS = 0.1
"""How long to listen at a stretch, so that a signal is handled soon."""
_IN_HAND = 2
"""Parts that a worker has at once: one that it works on, and one that it need not wait for."""
_START_SECONDS, _LATE_SECONDS = 60.0, 10.0
"""How long the first worker may take to start, and how long the others are waited for then."""
_STARTS = 3
"""Workers that fail to start, one after the other, before no more are tried."""
DROP_SECONDS = 2.0
"""How long workers may take to drop their parts; then they are ended."""


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no answer, since the worker was lost, for a reason. `begun`: it may have been this part that it died of."""

    reason: str
    host: str
    begun: bool


class Heard(NamedTuple):
    """A part, and what came of it."""

    part: Any
    answer: Answer | Lost


class _Member:
    """An actor: the calls it has in hand, oldest first, with their parts, and what it last said of itself."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.arrival = actor.facts.remote()
        self.facts = Facts("", ())
        self.usage = Usage()
        self.calls: dict[Any, Any] = {}
        self._learnt = 0

    def give(self, lesson: Lesson, part: object) -> None:
        """Have it work on a part."""
        if self._learnt != lesson.number:
            self.actor.learn.remote(lesson)
            self._learnt = lesson.number
        self.calls[self.actor.work.remote(part)] = part


class Pool:
    """Actors that reserve so many CPUs and accelerators each. This process is connected to a cluster."""

    def __init__(self, *, cpus: float, accelerators: float, threads: int) -> None:
        self._workers = 0
        self._threads = threads
        self._needs = f"{cpus:g} CPUs and {accelerators:g} accelerators"
        self._class = ray.remote(  # type: ignore[call-overload]  # its types know no concurrency groups
            num_cpus=cpus,
            num_gpus=accelerators,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            concurrency_groups={"beside": 1},
        )(Worker)
        self._starting: list[_Member] = []
        self._ready: list[_Member] = []
        self._spent: list[Usage] = []
        self._lesson = Lesson(0, b"")
        self._failed_starts = 0
        self._alone_since: float | None = None
        self._why = "none has started in time"
        self.hosts: dict[str, int] = {}
        self.lost = 0

    @property
    def ready(self) -> int:
        """Workers that have started, and were not lost."""
        return len(self._ready)

    @property
    def absent(self) -> int:
        """Workers that should be there, and are not."""
        return max(0, self._workers - len(self._ready))

    @property
    def at_work(self) -> bool:
        """Whether anybody has a part in hand."""
        return any(member.calls for member in self._ready)

    @property
    def usage(self) -> Usage:
        """CPU seconds of all workers together, and the peak of the largest."""
        spent = [Usage(), *self._spent, *(member.usage for member in self._ready)]
        return Usage(sum(one.cpu_seconds for one in spent), max(one.max_resident_memory_bytes for one in spent))

    def grow(self, workers: int) -> None:
        """Have so many workers from now on, if that is more than before; they are ready when they have started."""
        self._workers = max(self._workers, workers)
        self._start_missing()

    def start(self, cancellation: Cancellation) -> None:
        """Unless one is there: wait for the workers that soon come. Raises `EngineError` when none does, and `Cancelled`."""
        if self._ready:
            return
        while not self._ready:
            self.check()
            cancellation.stop_if_requested()
            self.heard(WAKE_SECONDS)
        until = monotonic() + _LATE_SECONDS
        while self._starting and monotonic() < until:
            cancellation.stop_if_requested()
            self.heard(WAKE_SECONDS)

    def check(self) -> None:
        """Raise `EngineError` when there is nobody to work, and nobody who comes soon."""
        if self._ready:
            self._alone_since = None
            return
        self._alone_since = self._alone_since or monotonic()
        if not self._starting or monotonic() - self._alone_since > _START_SECONDS:
            raise self._nobody()

    def teach(self, function: bytes) -> None:
        """Say what is to be done from now on, by a pickled function, while nobody has anything in hand."""
        self._lesson = Lesson(self._lesson.number + 1, function)

    def give(self, parts: Iterator[Any]) -> None:
        """Give each worker as many parts as it may have, in turns."""
        for held in range(_IN_HAND):
            for member in self._ready:
                if len(member.calls) <= held:
                    part = next(parts, None)
                    if part is None:
                        return
                    member.give(self._lesson, part)

    def give_each(self) -> None:
        """Give each worker None for a part."""
        for member in self._ready:
            member.give(self._lesson, None)

    def tell(self, reason: str, grace_seconds: float) -> None:
        """Have all workers take no new part, and drop those in hand when the grace is over."""
        for member in self._ready:
            member.actor.stop.options(concurrency_group="beside").remote(self._lesson.number, reason, grace_seconds)

    def heard(self, timeout: float) -> list[Heard]:
        """What has come by now, or at least one thing if it comes in so many seconds. Who has started is ready from then on."""
        calls = {call: member for member in self._ready for call in member.calls}
        awaited = [*calls, *(member.arrival for member in self._starting)]
        if not awaited:
            return []
        come, _ = ray.wait(awaited, timeout=timeout)
        if come:
            come, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
        self._welcome(set(come))
        found = []
        for call in [one for one in come if one in calls]:
            if call in calls[call].calls:  # not of a worker that was lost a moment before
                found += self._answered(calls[call], call)
        return found

    def clear_hands(self) -> None:
        """Have parts in hand dropped, and end whoever takes too long over that."""
        if self.at_work:
            self.tell("the run goes no further", 0.0)
        until = monotonic() + DROP_SECONDS
        while self.at_work and monotonic() < until:
            self.heard(WAKE_SECONDS)
        for member in [one for one in self._ready if one.calls]:
            self._remove(member)

    def close(self) -> None:
        """End the actors."""
        leaving = [member.actor.__ray_terminate__.remote() for member in self._ready if not member.calls]
        if leaving:
            ray.wait(leaving, num_returns=len(leaving), timeout=DROP_SECONDS)
        for member in [*self._starting, *self._ready]:
            self._remove(member)

    def _start_missing(self) -> None:
        while len(self._ready) + len(self._starting) < self._workers and self._failed_starts < _STARTS:
            self._starting.append(_Member(self._class.remote(self._threads)))

    def _welcome(self, come: set[Any]) -> None:
        """Move those who have arrived from the starting to the ready ones. Raises `EngineError` for one that doesn't fit."""
        for member in [one for one in self._starting if one.arrival in come]:
            self._starting.remove(member)
            try:
                member.facts = cast(Facts, ray.get(member.arrival))
            except RayError as error:
                self._failed_starts += 1
                self._why = _words(error)
                self._start_missing()
                continue
            _check_versions(member.facts)
            self._failed_starts = 0
            self._ready.append(member)
            self.hosts[member.facts.host] = self.hosts.get(member.facts.host, 0) + 1

    def _answered(self, member: _Member, call: Any) -> list[Heard]:
        part = member.calls.pop(call)
        try:
            answer = cast(Answer, ray.get(call))
        except RayTaskError:
            raise  # a defect of ours: a worker answers with its errors
        except RayError as error:
            return self._lose(member, part, _words(error))
        member.usage = answer.usage
        return [Heard(part, answer)]

    def _lose(self, member: _Member, part: Any, reason: str) -> list[Heard]:
        """All that it had in hand has to be done by others."""
        found = [Heard(part, Lost(reason, member.facts.host, begun=True))]
        found += [Heard(other, Lost(reason, member.facts.host, begun=False)) for other in member.calls.values()]
        self.lost += 1
        self._why = reason
        self._remove(member)
        self._start_missing()
        return found

    def _remove(self, member: _Member) -> None:
        members = self._ready if member in self._ready else self._starting
        members.remove(member)
        self._spent.append(member.usage)
        member.calls.clear()
        ray.kill(member.actor)

    def _nobody(self) -> EngineError:
        return EngineError(
            f"no worker on the Ray cluster: {self._why}; each needs {self._needs} free, and batchgauge installed; {described()}"
        )


def _check_versions(facts: Facts) -> None:
    for (name, ours), (_, theirs) in zip(versions(), facts.versions, strict=True):
        if ours != theirs:
            raise EngineError(f"host {facts.host} of the Ray cluster has {name} {theirs}, this one {ours}: install the same")


def _words(error: RayError) -> str:
    """What Ray says happened, in one line: its own sentences are at the end, after names and numbers of the actor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
