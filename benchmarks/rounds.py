"""Contenders, timed in turn: A B C, B C A, … so that whatever the machine does, it does to all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Timing:
    """One run, in seconds: `scoring` from the first read to the last durable write, `elapsed` with all around it.

    `batch_rows` is the batch size, where one was settled on; `peak_bytes` the most memory, where it was measured.
    """

    scoring: float
    elapsed: float
    batch_rows: int | None = None
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to time. `variant` tells those of one name apart; `settings` says in words what it was given."""

    name: str
    settings: str
    run: Callable[[], Timing]
    variant: str = ""

    @property
    def label(self) -> str:
        """Its name with its variant."""
        return f"{self.name}, {self.variant}" if self.variant else self.name


Timings = dict[Contender, list[Timing]]


def measure(contenders: Sequence[Contender], rounds: int, *, say: Callable[[str], None]) -> Timings:
    """Run each contender once in each round; its timings, in the order of the rounds.

    Each round begins with another contender, and every second one goes backwards: nobody has always the same
    one before it. Memory that one leaves behind is given back before the next begins.
    """
    timings: Timings = {contender: [] for contender in contenders}
    for number in range(rounds):
        for contender in _order(contenders, number):
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
