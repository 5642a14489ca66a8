"""Worker threads in this process, each reading, scoring and writing whole parts, and others that wait for the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import Empty, Queue
from time import monotonic
from typing import Generic

import torch

from pipelines.cancellation import Cancellation, Cancelled
from pipelines.engines import GATHER_AT_MOST, GATHER_SECONDS, Function, Item, Rest, Result
from pipelines.engines.allocation import keep_freed_memory
from pipelines.values import Auto

_WAKE_SECONDS = 0.1
"""How long the consumer waits at a stretch, so that a signal is handled soon."""


class LocalEngine:
    """`workers` threads; each uses `threads_per_worker` threads inside a kernel. As many more finish what they leave over."""

    def __init__(self, workers: int, threads_per_worker: int) -> None:
        self.workers = workers
        self.threads_per_worker = threads_per_worker
        keep_freed_memory()

    def map(
        self, function: Function[Item, Result], parts: Sequence[Item], cancellation: Cancellation
    ) -> Iterator[tuple[Result, ...]]:
        """As `Engine.map` promises."""
        crew = _Crew(function, parts, cancellation, self.threads_per_worker)
        try:
            yield from crew.work(min(self.workers, len(parts)))
        finally:
            crew.stop()
        if crew.failure is not None:
            raise crew.failure


def local_engine(asked: int | Auto, *, device: str, cores: int, parts: int) -> LocalEngine:
    """As many workers as were asked for, at most one for each part; `auto`: one for each core, or one for an accelerator.

    The cores are shared out among them.
    """
    wanted = asked if asked != "auto" else cores if device == "cpu" else 1
    workers = max(1, min(wanted, parts))
    return LocalEngine(workers=workers, threads_per_worker=max(1, cores // workers))


class _Crew(Generic[Item, Result]):
    """The threads of one `map`."""

    def __init__(
        self, function: Function[Item, Result], parts: Sequence[Item], cancellation: Cancellation, kernel_threads: int
    ) -> None:
        self._function = function
        self._parts = iter(parts)
        self._cancellation = cancellation
        self._kernel_threads = kernel_threads
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._results: Queue[tuple[Result] | None] = Queue()  # None: a finisher is done
        self._rests: Queue[Rest[Result] | None] = Queue()  # None: the workers are done
        self._room = self._at_hand = threading.Semaphore(0)
        self._workers: list[threading.Thread] = []
        self._finishers: list[threading.Thread] = []
        self._working = self._finishing = 0
        self.failure: BaseException | None = None

    def work(self, workers: int) -> Iterator[tuple[Result, ...]]:
        """Start the threads and yield what they return until they are done."""
        self._room = threading.Semaphore(2 * max(workers, GATHER_AT_MOST))
        self._at_hand = threading.Semaphore(workers)
        self._working = self._finishing = workers
        for number in range(workers):
            for threads, role, name in ((self._finishers, self._finish, "finisher"), (self._workers, self._work, "worker")):
                thread = threading.Thread(target=role, name=f"{name}-{number}")
                thread.start()
                threads.append(thread)
        due = monotonic()
        while self._finishing:
            if results := self._gathered(due):
                yield results
                self._room.release(len(results))
                due = monotonic() + GATHER_SECONDS

    def _gathered(self, due: float) -> tuple[Result, ...]:
        """What completes until it is `due`, by the monotonic clock: at least one result, unless there are no more."""
        results: list[Result] = []
        while self._finishing and len(results) < GATHER_AT_MOST:
            wait = due - monotonic() if results else _WAKE_SECONDS
            try:
                result = self._results.get(timeout=max(0.0, wait))
            except Empty:
                if results:
                    break
                continue
            if result is None:
                self._finishing -= 1
            else:
                results.append(result[0])
        return tuple(results)

    def stop(self) -> None:
        """Take no new part, and return when those in hand are done."""
        self._stopped.set()
        self._room.release(max(1, len(self._workers)))
        for worker in self._workers:
            worker.join()
        for _ in self._finishers:  # should the system have refused a worker its thread, nobody else says that all are done
            self._rests.put(None)
        for finisher in self._finishers:
            finisher.join()

    def _work(self) -> None:
        torch.set_num_threads(self._kernel_threads)  # a setting of this thread alone
        try:
            for part in self._take():
                result = self._function(part, self._cancellation)
                if isinstance(result, Rest):
                    self._at_hand.acquire()
                    self._rests.put(result)
                else:
                    self._results.put((result,))
        except Cancelled:
            self._stopped.set()
        except BaseException as error:  # noqa: BLE001  handed to the caller, whatever it is
            self._fail(error)
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    for _ in range(self._finishing):
                        self._rests.put(None)

    def _finish(self) -> None:
        """Finish what workers leave over, until there are none; as many parts as there are workers may wait for it."""
        try:
            while (rest := self._rests.get()) is not None:
                try:
                    self._results.put((rest.finish(),))
                except BaseException as error:  # noqa: BLE001  as above
                    self._fail(error)
                finally:
                    self._at_hand.release()
        finally:
            self._results.put(None)

    def _fail(self, error: BaseException) -> None:
        self._stopped.set()
        self.failure = self.failure or error

    def _take(self) -> Iterator[Item]:
        """The next part, each time that there is room for its result."""
        while True:
            self._room.acquire()
            with self._lock:
                if self._stopped.is_set() or self._cancellation.requested:
                    return
                try:
                    part = next(self._parts)
                except StopIteration:
                    return
            yield part
