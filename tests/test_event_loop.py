"""Coroutines from ordinary code."""

from __future__ import annotations

import asyncio
import threading

import pytest

from monitoring import event_loop


async def _seven() -> int:
    return 7


async def _fails() -> None:
    raise KeyError("lost")


def test_a_result_and_an_error_come_through() -> None:
    """From a thread with an event loop of its own too."""

    async def inside() -> int:
        return event_loop.run(_seven)

    assert event_loop.run(_seven) == asyncio.run(inside()) == 7
    with pytest.raises(KeyError, match="lost"):
        event_loop.run(_fails)


def test_a_look_up_that_hangs_holds_nobody_up() -> None:
    """Host names are looked up in the loop's executor, and a resolver can take a minute: the loop doesn't wait for it."""
    release = threading.Event()
    threads: list[threading.Thread] = []

    def look_up() -> None:
        threads.append(threading.current_thread())
        release.wait()

    async def give_up() -> None:
        async with asyncio.timeout(0.05):
            await asyncio.get_running_loop().run_in_executor(None, look_up)

    with pytest.raises(TimeoutError):
        event_loop.run(give_up)
    assert threads[0].is_alive()  # it returned while the look-up still hung
    release.set()
    threads[0].join()  # and ends in peace when its answer comes too late


def test_an_executors_thread_hands_its_result_over() -> None:
    """And its error."""

    async def divided(by: int) -> tuple[int, int]:
        return await asyncio.get_running_loop().run_in_executor(None, divmod, 7, by)

    assert event_loop.run(lambda: divided(2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        event_loop.run(lambda: divided(0))
