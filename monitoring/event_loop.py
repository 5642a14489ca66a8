"""Running a coroutine from ordinary code, in any thread, so that nothing it left behind can hold us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class DaemonThreads(ThreadPoolExecutor):
    """An executor that nobody waits for: asyncio looks up host names in one, and a look-up can hang for a minute."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread of its own, which ends with the process at the latest."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from here on it can't be cancelled, only left behind

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  an executor hands every error to the one who waits
                future.set_exception(error)

        Thread(target=work, daemon=True).start()
        return future


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of `work()`. Works in any thread, also in one whose own event loop is running."""
    if not _loop_is_running():  # asked apart from `_run`, whose errors must not have our question as their context
        return _run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_run, work).result()


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(DaemonThreads())
        return runner.run(work())
