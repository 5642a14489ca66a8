"""Engines: every part once, as it completes, and nothing left running. One suite for all of them, on a real Ray too."""

from __future__ import annotations

import pickle
import platform
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest
import torch

from pipelines.cancellation import Cancellation, Cancelled
from pipelines.engines import Engine, Function, Rest, Result
from pipelines.engines.local import LocalEngine
from pipelines.engines.ray_worker import Lesson, Worker
from tests.polling import poll
from tests.ray_nodes import RayNodes


@pytest.fixture(scope="module")
def ray_engine(ray_nodes: RayNodes) -> Iterator[Engine]:
    """Two actors, one on each node."""
    from pipelines.engines.ray import RayEngine  # noqa: PLC0415  most tests need no Ray, which takes long to import
    from pipelines.engines.ray_cluster import connected  # noqa: PLC0415

    with connected(ray_nodes.address):
        engine = RayEngine(2)
        engine.start(2, Cancellation())
        yield engine
        engine.close()


@pytest.fixture(params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Two workers. However a map ends, nothing of it is left running."""
    found: Engine = LocalEngine(2, 1) if request.param == "local" else request.getfixturevalue("ray_engine")
    before = set(threading.enumerate())
    yield found
    assert set(threading.enumerate()) <= before


def only_part(work: Callable[[int], Result | Rest[Result]]) -> Function[int, Result]:
    """The work, for an engine."""
    return lambda part, _: work(part)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def results_of(engine: Engine, work: Callable[[int], Result | Rest[Result]], parts: Iterable[int]) -> Iterator[Result]:
    return chain.from_iterable(engine.map(only_part(work), tuple(parts), Cancellation()))


def test_every_part_is_worked_on_once(engine: Engine) -> None:
    """By as many workers as there are; without parts there are no results."""
    assert sorted(results_of(engine, lambda part: part * 2, range(20))) == [part * 2 for part in range(20)]
    assert list(results_of(engine, lambda part: part, [])) == []
    assert engine.workers == 2


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_any_number_of_workers_does(workers: int) -> None:
    """Also more than there are parts."""
    assert sorted(results_of(LocalEngine(workers, 1), lambda part: part, range(20))) == list(range(20))


def test_results_come_as_they_complete_and_workers_work_at_once(engine: Engine, tmp_path: Path) -> None:
    """The first part ends once the second one's result is here: with one worker, in order, or together, never."""

    def work(part: int) -> int:
        if part == 0:
            poll((tmp_path / "second is here").exists)
        return part

    results = engine.map(only_part(work), [0, 1], Cancellation())
    assert next(results) == (1,)
    (tmp_path / "second is here").touch()
    assert list(results) == [(0,)]


def test_kernels_have_the_threads_that_were_said(engine: Engine) -> None:
    """The setting is each worker's own: the caller's stays."""
    before = torch.get_num_threads()
    assert list(results_of(engine, lambda _: torch.get_num_threads(), range(4))) == [1] * 4
    assert torch.get_num_threads() == before


def test_a_slow_consumer_holds_the_workers_back(engine: Engine, tmp_path: Path) -> None:
    """Results don't pile up without bound while nobody takes them."""
    results = engine.map(only_part(lambda part: (tmp_path / str(part)).touch()), range(1_000), Cancellation())
    next(results)
    assert len(names(tmp_path)) <= 130
    results.close()  # type: ignore[attr-defined]  # a generator
    assert len(names(tmp_path)) <= 130


def test_results_of_a_moment_come_together_and_never_too_many(engine: Engine) -> None:
    """A consumer that commits them does so once for all; no group grows without bound while it is at it."""
    groups = list(engine.map(only_part(lambda part: part), range(1_000), Cancellation()))
    assert sorted(chain.from_iterable(groups)) == list(range(1_000))
    assert 1_000 / 64 <= len(groups) < 200
    assert max(map(len, groups)) <= 64


def test_after_a_request_to_stop_no_part_is_taken_and_those_in_hand_are_kept(engine: Engine, tmp_path: Path) -> None:
    """What was finished within the grace is a result."""
    cancellation = Cancellation()

    def work(part: int, cancelled: Cancellation) -> int:
        (tmp_path / str(part)).touch()
        if part:
            poll(lambda: cancelled.requested)
        return part

    results = engine.map(work, range(100), cancellation)
    assert next(results) == (0,)
    cancellation.request("SIGTERM", grace_seconds=60)
    kept = list(chain.from_iterable(results))
    assert sorted([0, *kept]) == sorted(map(int, names(tmp_path)))
    assert len(kept) < 10


def test_a_request_to_stop_that_overtakes_what_is_to_be_done_is_heard() -> None:
    """It is for that lesson: for the one before it says nothing, and the next one is free of it."""
    worker = Worker(1)
    worker.learn(Lesson(1, pickle.dumps(_first)))
    worker.stop(2, "SIGTERM", 60.0)
    assert worker.work(7).result == 7
    worker.learn(Lesson(2, pickle.dumps(_first)))
    assert worker.work(7).dropped
    worker.stop(1, "late", 60.0)
    worker.learn(Lesson(3, pickle.dumps(_first)))
    assert worker.work(7).result == 7
    worker.stop(3, "SIGTERM", 60.0)
    assert worker.work(7).dropped


def _first(part: int, _cancellation: Cancellation) -> int:
    return part


def test_a_dropped_part_is_no_result_and_no_error(engine: Engine) -> None:
    """Past the grace, parts in hand raise Cancelled, and the others' results still come."""
    cancellation = Cancellation()

    def work(part: int, cancelled: Cancellation) -> int:
        while part:
            cancelled.check()
            time.sleep(0.01)
        return part

    results = engine.map(work, range(10), cancellation)
    assert next(results) == (0,)
    cancellation.request("SIGTERM", grace_seconds=0)
    assert list(results) == []


def test_an_error_is_raised_after_what_was_completed(engine: Engine, tmp_path: Path) -> None:
    """Parts in hand are finished and yielded, no new one is taken, then the caller gets the worker's own error."""

    def work(part: int) -> int:
        (tmp_path / str(part)).touch()
        if part == 1:
            raise ZeroDivisionError("part 1")
        return part

    results: list[int] = []
    with pytest.raises(ZeroDivisionError, match="part 1"):
        results.extend(results_of(engine, work, range(1_000)))
    assert sorted([*results, 1]) == sorted(map(int, names(tmp_path)))
    assert len(results) < 200


def test_a_consumer_that_fails_leaves_nothing_running(engine: Engine, tmp_path: Path) -> None:
    """An interrupt in the consumer's thread stops the workers after the part in hand; they can be used again."""

    def interrupted() -> None:
        for _ in engine.map(only_part(lambda part: (tmp_path / str(part)).touch()), range(1_000), Cancellation()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(names(tmp_path)) < 200
    assert list(results_of(engine, lambda part: part, [7])) == [7]


def test_the_rest_of_a_part_is_finished_and_its_result_counts(engine: Engine) -> None:
    """Whoever does it: each rest once."""

    def work(part: int) -> int | Rest[int]:
        return Rest(lambda: part * 2)

    assert sorted(results_of(engine, work, range(20))) == [part * 2 for part in range(20)]


def test_an_error_in_the_rest_of_a_part_is_the_callers(engine: Engine) -> None:
    """As one in its work: what was completed is yielded first, and no new part is taken."""

    def work(part: int) -> int | Rest[int]:
        return Rest(lambda: 1 // (part - 1))

    results: list[int] = []
    with pytest.raises(ZeroDivisionError):
        results.extend(results_of(engine, work, range(1_000)))
    assert len(results) < 200


def test_a_local_worker_goes_on_while_a_rest_waits() -> None:
    """The first part's rest ends only when the same worker has begun with the second."""
    begun: list[int] = []

    def finish(part: int) -> int:
        if part == 0:
            poll(lambda: 1 in begun)
        return part

    def work(part: int) -> int | Rest[int]:
        begun.append(part)
        return Rest(lambda: finish(part))

    assert sorted(results_of(LocalEngine(1, 1), work, range(5))) == list(range(5))


def test_a_worker_that_is_refused_its_thread_ends_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's own words; nobody waits for a worker that never was."""
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "worker-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        list(results_of(LocalEngine(2, 1), lambda part: part, range(10)))
    assert set(threading.enumerate()) <= before


def test_a_local_worker_that_is_cancelled_keeps_what_came_before() -> None:
    """`Cancelled` ends the map without an error, whoever raises it."""
    first_is_done = threading.Event()

    def work(part: int) -> int:
        if part == 0:
            first_is_done.set()
            return part
        assert first_is_done.wait(30)
        raise Cancelled("SIGTERM")

    assert list(results_of(LocalEngine(2, 1), work, range(10))) == [0]


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
