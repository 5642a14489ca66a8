"""Actors of a Ray cluster, each working on whole parts. Imported only where a job asks for Ray.

Only parts go out and only results come back. A part that a lost actor had in hand is given to another one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any, Generic

from ray import cloudpickle

from pipelines.cancellation import Cancellation
from pipelines.engines import GATHER_AT_MOST, GATHER_SECONDS, Function, Item, Result
from pipelines.engines.ray_cluster import capacity
from pipelines.engines.ray_pool import DROP_SECONDS, WAKE_SECONDS, Heard, Lost, Pool
from pipelines.engines.ray_worker import Answer, Usage
from pipelines.errors import EngineError
from pipelines.values import Auto

_TRIES = 3
"""A part that was in hand so often when its worker died is likely to be what it died of."""


class RayEngine:
    """Up to `workers` actors, at most one for each part, that reserve so many CPUs and accelerators each.

    This process must be connected to a cluster.
    """

    def __init__(self, workers: int, *, cpus_per_worker: float = 1, accelerators_per_worker: float = 0) -> None:
        self.threads_per_worker = max(1, int(cpus_per_worker))
        self._asked = workers
        self._pool = Pool(cpus=cpus_per_worker, accelerators=accelerators_per_worker, threads=self.threads_per_worker)

    @property
    def workers(self) -> int:
        """Parts worked on at once: the actors that are there; before any is, as many as were asked for."""
        return self._pool.ready or self._asked

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where workers are, or were, sorted."""
        return tuple(sorted(self._pool.hosts))

    @property
    def usage(self) -> Usage:
        """What all workers have cost."""
        return self._pool.usage

    @property
    def absent(self) -> int:
        """How many workers are wanted, and not there."""
        return self._pool.absent

    @property
    def lost(self) -> int:
        """How many workers were lost."""
        return self._pool.lost

    def start(self, parts: int, cancellation: Cancellation) -> None:
        """Have no more workers than so many parts need, and wait for those that soon start.

        Raises `EngineError` when none does, and `Cancelled`.
        """
        self._pool.grow(max(1, min(self._asked, parts)))
        self._pool.start(cancellation)

    def map(
        self, function: Function[Item, Result], parts: Sequence[Item], cancellation: Cancellation
    ) -> Iterator[tuple[Result, ...]]:
        """As `Engine.map` promises; the function is pickled and sent, once to each actor. Starts who is missing.

        Raises `EngineError` also when nobody is left to work, and for a part that its workers die of.
        """
        self._pool.grow(min(self._asked, len(parts)))
        self._pool.teach(_pickled(function))
        work: _Work[Item, Result] = _Work(self._pool, parts, cancellation)
        try:
            yield from work.results()
        finally:
            self._pool.clear_hands()
        if work.failure is not None:
            raise work.failure

    def everywhere(self, function: Callable[[None, Cancellation], Result], cancellation: Cancellation) -> list[Result]:
        """What the function returns in each actor that is there. Who is lost meanwhile says nothing. Raises its errors."""
        self._pool.teach(_pickled(function))
        self._pool.give_each()
        answers: list[Answer] = []
        try:
            while self._pool.at_work:
                cancellation.stop_if_requested()
                answers += [heard.answer for heard in self._pool.heard(WAKE_SECONDS) if isinstance(heard.answer, Answer)]
        finally:
            self._pool.clear_hands()
        for answer in answers:
            if answer.error is not None:
                raise answer.error
        return [answer.result for answer in answers if not answer.dropped]

    def close(self) -> None:
        """End the actors."""
        self._pool.close()


def ray_engine(asked: int | Auto, *, cpus_per_worker: float, accelerators_per_worker: float) -> RayEngine:
    """With as many workers as were asked for; `auto`: as many as have room on the cluster's nodes, and one at least."""
    workers = max(1, capacity(cpus_per_worker, accelerators_per_worker)) if asked == "auto" else asked
    return RayEngine(workers, cpus_per_worker=cpus_per_worker, accelerators_per_worker=accelerators_per_worker)


class _Work(Generic[Item, Result]):
    """One `map`."""

    def __init__(self, pool: Pool, parts: Sequence[Item], cancellation: Cancellation) -> None:
        self._pool = pool
        self._new = iter(parts)
        self._again: deque[Item] = deque()
        self._left = len(parts)
        self._deaths: Counter[str] = Counter()
        self._cancellation = cancellation
        self._told_seconds: float | None = None
        self._over = 0.0
        self.failure: BaseException | None = None

    def results(self) -> Iterator[tuple[Result, ...]]:
        """Give out the parts and yield what comes back, until all are done, or those in hand after a failure or a request."""
        results: list[Result] = []
        due = monotonic()
        while self._goes_on():
            self._pool.give(self._parts())
            wait = max(0.0, min(WAKE_SECONDS, due - monotonic())) if results else WAKE_SECONDS
            for heard in self._pool.heard(wait):
                results += self._taken(heard)
            if results and (monotonic() >= due or len(results) >= GATHER_AT_MOST or not self._left):
                yield from _groups(results)
                results, due = [], monotonic() + GATHER_SECONDS
        yield from _groups(results)

    def _goes_on(self) -> bool:
        """Whether there is anything to do, or to wait for."""
        if self._cancellation.requested and not self._tell_all():
            return False
        if self._stopping:
            return self._pool.at_work
        if self._left:
            self._pool.check()
        return bool(self._left)

    @property
    def _stopping(self) -> bool:
        return self.failure is not None or self._cancellation.requested

    def _parts(self) -> Iterator[Item]:
        """Those to be given out: first the ones that were lost."""
        while not self._stopping:
            if self._again:
                yield self._again.popleft()
                continue
            try:
                yield next(self._new)
            except StopIteration:
                return

    def _taken(self, heard: Heard) -> list[Result]:
        """The result, if that is what was heard."""
        part, answer = heard
        if isinstance(answer, Lost):
            self._lost(part, answer)
            return []
        self._left -= 1
        if answer.error is not None:
            self.failure = self.failure or answer.error
            return []
        return [] if answer.dropped else [answer.result]

    def _lost(self, part: Item, lost: Lost) -> None:
        name = str(getattr(part, "name", part))
        self._deaths[name] += lost.begun
        if self._deaths[name] < _TRIES:
            self._again.append(part)
            return
        self.failure = self.failure or EngineError(
            f"part {name}: {_TRIES} workers died while they had it, the last one on host {lost.host}: {lost.reason}; if "
            "that is for memory, lower input.part_rows or batch.rows"
        )

    def _tell_all(self) -> bool:
        """Let the workers know of a request to stop, and of a shorter grace. Returns whether they still have time for it."""
        seconds = self._cancellation.grace_seconds
        if self._told_seconds is None or (seconds == 0.0 and self._told_seconds > 0.0):
            self._pool.tell(self._cancellation.reason or "cancelled", seconds)
            self._told_seconds = seconds
            self._over = monotonic() + seconds + DROP_SECONDS
        return monotonic() < self._over


def _pickled(function: object) -> bytes:
    return bytes(cloudpickle.dumps(function))  # type: ignore[no-untyped-call]


def _groups(results: list[Any]) -> Iterator[tuple[Any, ...]]:
    """The results in groups that are never too large."""
    for first in range(0, len(results), GATHER_AT_MOST):
        yield tuple(results[first : first + GATHER_AT_MOST])
