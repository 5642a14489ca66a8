"""Engines: who works on the parts. The seam between a run and the machines it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pipelines.cancellation import Cancellation

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Rest(Generic[Result]):
    """A part that is worked on, but for what waits rather than works (for a disk, say); `finish` does that, once."""

    finish: Callable[[], Result]


Function = Callable[[Item, Cancellation], Result | Rest[Result]]

GATHER_SECONDS, GATHER_AT_MOST = 0.5, 64
"""Results are handed over no more often than this, unless they are many: a consumer's commit costs much the same for all."""


class Engine(Protocol):
    """Applies a function to parts, several at a time.

    The function is called with a part and with the cancellation to look at between two pieces of work: the run's own, or,
    in another process, one that soon hears of what is asked of the run's. It returns the result, or the `Rest` of the work,
    which somebody else may finish while the worker goes on with another part.
    """

    @property
    def workers(self) -> int:
        """Parts worked on at once."""

    @property
    def threads_per_worker(self) -> int:
        """Threads that a kernel may use."""

    def map(
        self, function: Function[Item, Result], parts: Sequence[Item], cancellation: Cancellation
    ) -> Iterator[tuple[Result, ...]]:
        """Results as they complete, in any order, those of a moment together; workers wait while results pile up.

        After `cancellation.requested` no new part is taken; parts in hand are finished, and yielded, or raise
        `Cancelled`, and are dropped. Any other exception of the function is raised here, after the parts in hand
        were finished and yielded. When the iterator ends or is closed, nothing is left running.
        """
