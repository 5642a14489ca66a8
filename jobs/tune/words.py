"""How figures of a tuning are said, in a table and in a sentence alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from jobs.summary import seconds
from jobs.tune.request import Limit
from pipelines.measuring import Configuration, Measurement
from pipelines.tuning import WORTH_WHILE

_CLOSELY = 1.25
"""What a ratio lies in is said, instead of the ratio, where it is wider than this."""
HARDLY = 1 / WORTH_WHILE
"""What is faster by less than this factor is about as fast."""


def in_words(one: Configuration, other: Configuration) -> str:
    """A configuration by what sets it apart from another."""
    words = [] if one.device == other.device else [one.device]
    words += [] if one.workers == other.workers else [count(one.workers, "worker")]
    words += [f"batches of {one.rows:,}"] if one.rows != other.rows or not words else []
    return ", ".join(words)


def per_row(one: Measurement) -> str:
    """Its mean latency of a row: in microseconds, with their fractions, where it is less than a millisecond."""
    latency = one.seconds_per_row
    return f"{latency * 1e6:.3g} µs" if latency < 1e-3 else seconds(latency)  # noqa: PLR2004  a millisecond


def times(factor: float) -> str:
    """A factor, with decimals while they say something, and as many as it takes to say it."""
    if 0 < factor < 0.1:  # noqa: PLR2004  two decimals would leave next to nothing of it
        return f"{factor:.{-floor(log10(factor))}f}"
    return f"{factor:.2f}" if factor < 10 else f"{factor:,.0f}"  # noqa: PLR2004  two digits are enough


def ratio(one: Measurement, other: Measurement) -> str | None:
    """How many times as fast one is as another, as closely as their rounds say; None when they don't say which is faster."""
    factor = one.rows_per_second / other.rows_per_second
    if len(one.trials) == 1 or len(other.trials) == 1:
        return f"about ×{times(factor)} (tried once)"
    (slow, fast), (other_slow, other_fast) = one.slowest_and_fastest, other.slowest_and_fastest
    low, high = slow / other_fast, fast / other_slow
    if low <= 1 <= high:
        return None
    return f"×{times(factor)}" if high / low <= _CLOSELY else f"×{times(low)} to ×{times(high)}"


def split(one: Configuration) -> str:
    """How a configuration shares out the cores."""
    return f"{count(one.workers, 'worker')} × {count(one.kernel_threads, 'thread')}"


def limit_in_words(limit: Limit | None) -> str:
    """The limit, and who says so."""
    return f"limit of {limit.seconds:g} s ({limit.origin})" if limit else "limit"


def limit_seconds(limit: Limit | None) -> float | None:
    """None without a limit."""
    return limit.seconds if limit else None


def listed(numbers: Sequence[int]) -> str:
    """Numbers in a sentence; at least one."""
    *most, last = [f"{number:,}" for number in numbers]
    return f"{', '.join(most)} and {last}" if most else last


def count(number: int, what: str) -> str:
    """So many of these, in the plural unless it is one."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
