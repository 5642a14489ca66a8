"""Engines: every part once, as it completes, and nothing left running."""

from __future__ import annotations

import platform
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import pytest
import torch

from pipelines.cancellation import Cancellation, Cancelled
from pipelines.engines import Engine
from pipelines.engines.local import LocalEngine

WAIT_SECONDS = 30


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """However a map ends, its threads have ended too."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def results_of(
    engine: Engine, work: Callable[[int], int], parts: Iterable[int], cancellation: Cancellation | None = None
) -> Iterator[int]:
    return chain.from_iterable(engine.map(work, tuple(parts), cancellation or Cancellation()))


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_every_part_is_worked_on_once(workers: int) -> None:
    """Whatever the number of workers; without parts there are no results."""
    engine: Engine = LocalEngine(workers, threads_per_worker=1)
    assert sorted(results_of(engine, lambda part: part * 2, range(20))) == [part * 2 for part in range(20)]
    assert list(engine.map(lambda part: part, [], Cancellation())) == []
    assert engine.workers == workers


def test_results_come_as_they_complete_and_workers_work_at_once() -> None:
    """The first part waits for the second, so with one worker, or in order, this would never end."""
    second = threading.Event()

    def work(part: int) -> int:
        assert second.wait(WAIT_SECONDS) if part == 0 else True
        second.set()
        return part

    assert list(results_of(LocalEngine(2, 1), work, [0, 1])) == [1, 0]


def test_kernels_have_the_threads_that_were_said() -> None:
    """The setting is each worker's own: the caller's stays."""
    before = torch.get_num_threads()
    found = list(results_of(LocalEngine(2, threads_per_worker=1), lambda _: torch.get_num_threads(), range(4)))
    assert found == [1] * 4
    assert torch.get_num_threads() == before


def test_a_slow_consumer_holds_the_workers_back() -> None:
    """Results don't pile up without bound while nobody takes them."""
    started: list[int] = []
    results = LocalEngine(2, 1).map(started.append, range(1_000), Cancellation())
    next(results)
    assert len(started) <= 129
    results.close()  # type: ignore[attr-defined]  # a generator
    assert len(started) <= 130


def test_results_of_a_moment_come_together_and_never_too_many() -> None:
    """A consumer that commits them does so once for all; no group grows without bound while it is at it."""
    groups = list(LocalEngine(2, 1).map(lambda part: part, range(1_000), Cancellation()))
    assert sorted(chain.from_iterable(groups)) == list(range(1_000))
    assert 1_000 / 64 <= len(groups) < 100
    assert max(map(len, groups)) <= 64


def test_a_lone_result_does_not_wait_for_others() -> None:
    """The second part is worked on once the first one's result is here, so waiting for both would never end."""
    first_is_here = threading.Event()

    def work(part: int) -> int:
        assert part == 0 or first_is_here.wait(WAIT_SECONDS)
        return part

    results = LocalEngine(2, 1).map(work, [0, 1], Cancellation())
    assert next(results) == (0,)
    first_is_here.set()
    assert list(results) == [(1,)]


def test_after_a_request_to_stop_no_part_is_taken_and_the_one_in_hand_is_kept() -> None:
    """What was finished within the grace is a result."""
    cancellation = Cancellation()

    def work(part: int) -> int:
        if part == 2:
            cancellation.request("SIGTERM", grace_seconds=60)
        cancellation.check()
        return part

    assert list(results_of(LocalEngine(1, 1), work, range(10), cancellation)) == [0, 1, 2]


def test_a_dropped_part_is_no_result_and_no_error() -> None:
    """Past the grace, the part in hand raises Cancelled, and the others' results still come."""
    cancellation = Cancellation()
    first_is_done = threading.Event()

    def work(part: int) -> int:
        if part == 0:
            first_is_done.set()
            return part
        assert first_is_done.wait(WAIT_SECONDS)
        raise Cancelled("SIGTERM")

    assert list(results_of(LocalEngine(2, 1), work, range(10), cancellation)) == [0]


def test_an_error_is_raised_after_what_was_completed() -> None:
    """Parts in hand are finished and yielded, no new one is taken, then the caller gets the worker's own error."""
    failed = threading.Event()
    taken: list[int] = []

    def work(part: int) -> int:
        taken.append(part)
        if part == 1:
            failed.set()
            raise ZeroDivisionError("part 1")
        assert failed.wait(WAIT_SECONDS)
        return part

    results: list[int] = []
    with pytest.raises(ZeroDivisionError, match="part 1"):
        results.extend(results_of(LocalEngine(2, 1), work, range(100)))
    assert sorted(taken) in ([0, 1], [0, 1, 2])


def test_an_error_keeps_the_results_before_it() -> None:
    """They were committed to disk: losing them would lose their counts."""
    results: list[int] = []
    with pytest.raises(ZeroDivisionError):
        results.extend(results_of(LocalEngine(1, 1), lambda part: 6 // (3 - part), range(10)))
    assert results == [2, 3, 6]


def test_a_consumer_that_fails_leaves_nothing_running() -> None:
    """An interrupt in the consumer's thread stops the workers after the part in hand."""
    taken: list[int] = []

    def interrupted() -> None:
        for _ in LocalEngine(2, 1).map(taken.append, range(1_000), Cancellation()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(taken) < 200


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such switch")
def test_what_kernels_free_is_kept_for_the_next_batch() -> None:
    """Blocks as large as activations don't come from the system again, page by page."""

    def faults(_part: int) -> int:
        before = 0
        for batch in range(30):
            if batch == 10:  # by now it has what it needs
                before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            activations = [torch.ones(2**18) for _ in range(8)]
            del activations
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    (found,) = results_of(LocalEngine(1, threads_per_worker=1), faults, [0])
    assert found < 2_048  # in pages, less than the blocks of one batch
