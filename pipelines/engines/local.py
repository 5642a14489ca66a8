"""Worker threads in this process, each reading, scoring and writing whole parts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import Empty, Queue
from time import monotonic
from typing import Generic

import torch

from pipelines.cancellation import Cancellation, Cancelled
from pipelines.engines import GATHER_AT_MOST, GATHER_SECONDS, Function, Item, Result
from pipelines.engines.allocation import keep_freed_memory
from pipelines.settings import Auto

_WAKE_SECONDS = 0.1
"""How long the consumer waits at a stretch, so that a signal is handled soon."""


class LocalEngine:
    """`workers` threads; each uses `threads_per_worker` threads inside a kernel."""

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
        self._results: Queue[tuple[Result] | None] = Queue()  # None: a thread is done
        self._room = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._working = 0
        self.failure: BaseException | None = None

    def work(self, workers: int) -> Iterator[tuple[Result, ...]]:
        """Start the threads and yield what they return until they are done."""
        self._room = threading.Semaphore(2 * max(workers, GATHER_AT_MOST))
        for number in range(workers):
            thread = threading.Thread(target=self._run, name=f"worker-{number}")
            thread.start()
            self._threads.append(thread)
        self._working = workers
        due = monotonic()
        while self._working:
            if results := self._gathered(due):
                yield results
                self._room.release(len(results))
                due = monotonic() + GATHER_SECONDS

    def _gathered(self, due: float) -> tuple[Result, ...]:
        """What completes until it is `due`, by the monotonic clock: at least one result, unless there are no more."""
        results: list[Result] = []
        while self._working and len(results) < GATHER_AT_MOST:
            wait = due - monotonic() if results else _WAKE_SECONDS
            try:
                result = self._results.get(timeout=max(0.0, wait))
            except Empty:
                if results:
                    break
                continue
            if result is None:
                self._working -= 1
            else:
                results.append(result[0])
        return tuple(results)

    def stop(self) -> None:
        """Take no new part, and return when those in hand are done."""
        self._stopped.set()
        self._room.release(max(1, len(self._threads)))
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._kernel_threads)  # a setting of this thread alone
        try:
            for part in self._take():
                self._results.put((self._function(part, self._cancellation),))
        except Cancelled:
            self._stopped.set()
        except BaseException as error:  # noqa: BLE001  handed to the caller, whatever it is
            self._stopped.set()
            self.failure = self.failure or error
        finally:
            self._results.put(None)

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
