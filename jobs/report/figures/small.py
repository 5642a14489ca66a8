"""Figures for a line of text or a table's cell: sparkline, whisker, stacked bar."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from markupsafe import Markup

from jobs.report.figures.axis import Axis
from jobs.report.figures.svg import Attributes, element, percent, picture, stretched, titled
from pipelines.report import Estimate

_SPARK = 28
_WHISKER = 18
_STACK = 22
_INSET = 3
_WIDE = 1000  # units of the stretched picture in which paths are drawn


def sparkline(values: Sequence[float | None], label: str) -> Markup:
    """How a figure went, without an axis: a line between its own lowest and highest value, and a dot at its end."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if not known:
        return Markup()
    lowest, highest = min(value for _, value in known), max(value for _, value in known)
    room = _SPARK - 2 * _INSET

    def x(place: int) -> float:
        return place / max(len(values) - 1, 1)

    def y(value: float) -> float:
        return _SPARK - _INSET - room * ((value - lowest) / (highest - lowest) if highest > lowest else 0.5)

    path = "M" + "L".join(f"{100 * x(place):.1f} {y(value):.1f}" for place, value in known)
    last, value = known[-1]
    dot = element("circle", {"class": "dot", "cx": percent(x(last)), "cy": y(value), "r": 2.5})
    return picture(label, "spark", _SPARK, (stretched(100, _SPARK, element("path", {"class": "line", "d": path})), dot))


def whisker(estimate: Estimate, axis: Axis, *, threshold: float | None = None) -> Markup:
    """A dot at the value on a line from bound to bound, with the threshold behind it; without a line if they are one.

    Surely below the threshold it is a diamond. It is hidden from screen readers: the numbers stand beside it.
    """
    middle = _WHISKER // 2
    below = threshold is not None and estimate.upper < threshold
    lower, upper = _WIDE * axis.share(estimate.lower), _WIDE * axis.share(estimate.upper)
    lines = [element("path", {"class": "grid", "d": f"M0 {middle}H{_WIDE}"})]
    if threshold is not None:
        lines.append(element("path", {"class": "threshold", "d": f"M{_WIDE * axis.share(threshold):.0f} 0V{_WHISKER}"}))
    if estimate.lower < estimate.upper:
        ends = f"M{lower:.0f} {middle - 4}v8M{upper:.0f} {middle - 4}v8"
        lines.append(element("path", {"class": "reach", "d": f"M{lower:.0f} {middle}H{upper:.0f}{ends}"}))
    at = percent(axis.share(estimate.value))
    dot = element("circle", {"class": "dot", "cx": at, "cy": middle, "r": 4})
    if below:
        diamond = element("path", {"class": "dot", "d": "M0-5L5 0L0 5L-5 0Z"})
        dot = element("svg", {"x": at, "y": middle, "overflow": "visible"}, diamond)
    box: Attributes = {"class": "whisker below" if below else "whisker", "aria-hidden": "true", "height": _WHISKER}
    return element("svg", box, stretched(_WIDE, _WHISKER, *lines), dot)


def stacked_bar(pieces: Sequence[tuple[str, float]], label: str) -> Markup:
    """Shares of a whole, side by side in the order given, in the colours `piece-0` to `piece-4`."""
    total = sum(amount for _, amount in pieces)
    if total <= 0:
        return Markup()
    starts = [0.0, *accumulate(amount / total for _, amount in pieces)]
    drawn = (
        titled("rect", _piece(number, start, amount / total), f"{name} {amount / total:.0%}")
        for number, (start, (name, amount)) in enumerate(zip(starts, pieces, strict=False))
    )
    return picture(label, "stack", _STACK, drawn)


def _piece(number: int, start: float, share: float) -> dict[str, str | float]:
    return {"class": f"piece-{number % 5}", "x": percent(start), "width": percent(share), "y": 0, "height": _STACK}


def share_bar(share: float) -> Markup:
    """A bar as long as the share, on a track. It is hidden from screen readers: the number stands beside it."""
    middle = _WHISKER / 2
    track: Attributes = {"class": "track", "x": 0, "width": "100%", "y": middle - 3, "height": 6, "rx": 3}
    fill: Attributes = {**track, "class": "bar", "width": percent(min(max(share, 0.0), 1.0))}
    box: Attributes = {"class": "share", "aria-hidden": "true", "width": "100%", "height": _WHISKER}
    return element("svg", box, element("rect", track), element("rect", fill))
