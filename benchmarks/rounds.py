"""Contenders, timed in turn: A B C, B C A, … so that whatever the machine does, it does to all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.errors import BatchgaugeError


class RunFailed(BatchgaugeError):  # noqa: N818  it says what happened
    """A run that was to be timed did not end well."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One run, in seconds: `scoring` from the first read to the last durable write, `elapsed` with all around it.

    `cpu` is what it cost in seconds of all cores, its servers' included; `batch_rows` the batch size, where one was
    settled on; `peak_bytes` the most memory. 0 is what was not measured.
    """

    scoring: float
    elapsed: float
    batch_rows: int | None = None
    peak_bytes: int = 0
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to time. `variant` tells those of one name apart; `settings` says in words what it was given.

    `missing` says why it can't run here, and what to do; empty where it can.
    """

    name: str
    settings: str
    run: Callable[[], Timing]
    variant: str = ""
    missing: str = ""

    @property
    def label(self) -> str:
        """Its name with its variant."""
        return f"{self.name}, {self.variant}" if self.variant else self.name


def of(contender: str, what: str) -> str:
    """The contender's name when it does a certain work."""
    return f"{contender}, {what}"


Timings = dict[Contender, list[Timing]]


def measure(contenders: Sequence[Contender], rounds: int, *, say: Callable[[str], None]) -> Timings:
    """Run each contender once in each round; its timings, in the order of the rounds.

    Each round begins with another contender, and every second one goes backwards: nobody has always the same
    one before it. Memory that one leaves behind is given back before the next begins. What can't run here has no timings.
    """
    timings: Timings = {contender: [] for contender in contenders}
    able = [contender for contender in contenders if not contender.missing]
    for number in range(rounds if able else 0):
        for contender in _order(able, number):
            timings[contender].append(timed(contender))
        say(f"round {number + 1} of {rounds}")
    return timings


def timed(contender: Contender) -> Timing:
    """One run of it, with memory as a new process finds it."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    return contender.run()


def _order(contenders: Sequence[Contender], number: int) -> Sequence[Contender]:
    first = number % len(contenders)
    turned = [*contenders[first:], *contenders[:first]]
    return turned[::-1] if number % 2 else turned
