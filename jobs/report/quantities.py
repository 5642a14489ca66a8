"""A captioned figure, and the kinds of figures that a page draws over batches and over runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from jobs.report.figures.axis import Axis, amount_axis, seconds_axis
from jobs.report.words import duration
from jobs.summary import seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its caption; `hint` says how to read it."""

    caption: str
    hint: str
    drawing: Markup


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is drawn: the axis for values up to a highest one, and how a value is said."""

    axis: Callable[[float], Axis]
    said: Callable[[float], str]


LATENCY = Quantity(seconds_axis, seconds)
DURATION = Quantity(seconds_axis, duration)
SPEED = Quantity(amount_axis, lambda value: f"{value:,.0f} rows/s")
