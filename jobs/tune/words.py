"""How figures of a tuning are said, in a table and in a sentence alike."""

from __future__ import annotations

from jobs.summary import seconds
from jobs.tune.request import Limit
from pipelines.measuring import Configuration, Measurement
from pipelines.tuning import WORTH_WHILE

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
    """A factor, with decimals while they say something."""
    return f"{factor:.2f}" if factor < 10 else f"{factor:,.0f}"  # noqa: PLR2004  two digits are enough


def split(one: Configuration) -> str:
    """How a configuration shares out the cores."""
    return f"{count(one.workers, 'worker')} × {count(one.kernel_threads, 'thread')}"


def limit_in_words(limit: Limit | None) -> str:
    """The limit, and who says so."""
    return f"limit of {limit.seconds:g} s ({limit.origin})" if limit else "limit"


def limit_seconds(limit: Limit | None) -> float | None:
    """None without a limit."""
    return limit.seconds if limit else None


def count(number: int, what: str) -> str:
    """So many of these, in the plural unless it is one."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
