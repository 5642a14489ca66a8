"""What runs in an actor: one part after the other, by the function that it was taught. Knows nothing of Ray."""

from __future__ import annotations

import pickle
import platform
import resource
import socket
import time
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import torch

from pipelines.cancellation import Cancellation, Cancelled
from pipelines.engines import Rest
from pipelines.engines.allocation import keep_freed_memory
from pipelines.errors import BatchgaugeError

_MUST_AGREE = ("batchgauge", "torch")


class Facts(NamedTuple):
    """Where a worker is, and what it has installed."""

    host: str
    versions: tuple[tuple[str, str], ...]


class Usage(NamedTuple):
    """What a worker's process has cost since it began: CPU seconds, and its peak of resident bytes."""

    cpu_seconds: float = 0.0
    max_resident_memory_bytes: int = 0


class Lesson(NamedTuple):
    """The function for parts to come, pickled; each has another number."""

    number: int
    function: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a part: a result, or the error that was raised; `dropped` when it was cancelled, or never begun."""

    usage: Usage
    result: Any = None
    error: BaseException | None = None
    dropped: bool = False


def versions() -> tuple[tuple[str, str], ...]:
    """What must be the same for driver and workers, or predictions may differ."""
    return tuple((name, version(name)) for name in _MUST_AGREE)


class Worker:
    """One actor. `stop` comes by a thread of its own, while a part is in hand."""

    def __init__(self, threads: int) -> None:
        keep_freed_memory()
        self._threads = threads
        self._cancellations: dict[int, Cancellation] = {}
        self._cancellation = Cancellation()
        self._lesson = 0
        self._function: Any = None

    def facts(self) -> Facts:
        """Where this is."""
        return Facts(socket.gethostname(), versions())

    def learn(self, lesson: Lesson) -> None:
        """Do that with the parts to come."""
        self._lesson, self._function = lesson
        self._cancellation = self._cancellations.setdefault(lesson.number, Cancellation())
        for number in [one for one in list(self._cancellations) if one < lesson.number]:
            del self._cancellations[number]

    def work(self, part: object) -> Answer:
        """Apply the function to a part. An error is an answer too: Ray would wrap it in one of its own."""
        if self._cancellation.requested:
            return Answer(_usage(), dropped=True)
        torch.set_num_threads(self._threads)  # a setting of each thread
        try:
            if isinstance(self._function, bytes):
                self._function = pickle.loads(self._function)  # noqa: S301  the driver's own, who may run anything here
            result = self._function(part, self._cancellation)
            return Answer(_usage(), result.finish() if isinstance(result, Rest) else result)
        except Cancelled:
            return Answer(_usage(), dropped=True)
        except BaseException as error:  # noqa: BLE001  handed to the driver, whatever it is
            return Answer(_usage(), error=_sendable(error))

    def stop(self, lesson: int, reason: str, grace_seconds: float) -> None:
        """Take no new part of this lesson's, and drop the one in hand when the grace is over.

        It comes by another thread than the lesson, and may come first.
        """
        if lesson >= self._lesson:
            self._cancellations.setdefault(lesson, Cancellation()).request(reason, grace_seconds=grace_seconds)


def _usage() -> Usage:
    unit_bytes = 1 if platform.system() == "Darwin" else 1024
    return Usage(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes)


def _sendable(error: BaseException) -> BaseException:
    """The error as it can be raised elsewhere: with the host, in words, or the traceback, as a note."""
    if isinstance(error, BatchgaugeError):
        return type(error)(f"{error} (on host {socket.gethostname()})")
    error.add_note(f"on host {socket.gethostname()}:\n{''.join(traceback.format_exception(error))}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  made in this line
    except Exception:  # noqa: BLE001  a class of the user's own may fail in any way
        words = RuntimeError(f"{type(error).__name__}: {error}")
        words.__notes__ = error.__notes__
        return words
    return error
