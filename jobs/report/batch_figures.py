"""Latency and throughput of one run's batches, over the run."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from markupsafe import Markup

from jobs.report.batches import BatchTrace, Stretch
from jobs.report.figures.axis import Axis, count_axis
from jobs.report.figures.plot import Frame, Point, line_plot
from jobs.report.quantities import LATENCY, SPEED, Figure, Quantity
from jobs.report.words import plural

_Spread = tuple[float, float, float]


def batch_figures(trace: BatchTrace) -> tuple[Figure, ...]:
    """Both figures; none without batches."""
    if not trace.stretches:
        return ()
    each = ceil(trace.batches / len(trace.stretches))
    hint = f"line: median of {each:,} batches each; band: lowest to highest" if trace.thinned else "each point is a batch"
    per_worker = f"rows per second of one worker; {hint}"
    return (
        Figure("Latency of batches", hint, _drawn(trace, "Latency", LATENCY, lambda one: one.latency_seconds)),
        Figure("Throughput of batches", per_worker, _drawn(trace, "Throughput", SPEED, lambda one: one.rows_per_second)),
    )


def _drawn(trace: BatchTrace, what: str, quantity: Quantity, values: Callable[[Stretch], _Spread]) -> Markup:
    spread = [values(stretch) for stretch in trace.stretches]
    lowest, highest = min(low for low, _, _ in spread), max(high for _, _, high in spread)
    told = f"lowest {quantity.said(lowest)}, highest {quantity.said(highest)}"
    label = f"{what} of {plural(trace.batches, 'batch', 'batches')} over the run: {told}"
    points = [_point(stretch, values(stretch), quantity, banded=trace.thinned) for stretch in trace.stretches]
    return line_plot(Frame(label, _batch_axis(trace.batches), quantity.axis(highest)), points)


def _batch_axis(batches: int) -> Axis:
    """From the first batch to the last, which are not at round numbers."""
    ticks = tuple(tick for tick in count_axis(batches).ticks if 1 <= tick.value <= batches)
    return Axis(1.0, max(batches, 2.0), ticks)


def _point(stretch: Stretch, values: _Spread, quantity: Quantity, *, banded: bool) -> Point:
    low, middle, high = values
    at = (stretch.first + stretch.last) / 2
    if not banded:
        return Point(at, middle, note=f"batch {stretch.first:,}: {quantity.said(middle)}")
    note = f"batches {stretch.first:,} to {stretch.last:,}: {quantity.said(low)} to {quantity.said(high)}"
    return Point(at, middle, low, high, note)
