"""Plots over an axis: a line with its band, or bars; with a threshold, marks below and changes along the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from markupsafe import Markup

from jobs.report.figures.axis import Axis
from jobs.report.figures.signs import SHAPES
from jobs.report.figures.svg import Attributes, element, percent, picture, stretched, titled

_TOP, _INSIDE, _MARKS, _TICKS = 18, 130, 14, 16
_BOTTOM = _TOP + _INSIDE
_HEIGHT = _BOTTOM + _MARKS + _TICKS
_WIDE = 1000  # units of the stretched picture in which paths are drawn
_DOTS = 60  # more points than this are a line only
_SIGNS = 60  # more marks than this are strokes
_NOTES = 120  # more notes than this would weigh more than the drawing
_ROOM = 0.16  # share of the width that the label of a change takes
_LONGEST_LABEL = 14
_EDGE = 0.96  # a label in the middle of its tick would be cut here

KINDS = ("failed", "missed", "partial", "skipped")
"""Of marks: the worst first."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value at `x`, with its bounds where it has them. Without a value the line is interrupted."""

    x: float
    y: float | None
    lower: float | None = None
    upper: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar around `x`, `width` wide in units of the axis."""

    x: float
    height: float
    width: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign under the plot at `x`, as `signs` draws its `kind` (of `KINDS`).

    Where there are very many they are strokes, a row for each kind.
    """

    x: float
    kind: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is different from `x` on: a vertical line with a short label."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Frame:
    """What a plot is drawn in. `label` says in words what it shows."""

    label: str
    x: Axis
    y: Axis
    threshold: float | None = None
    marks: Sequence[Mark] = ()
    changes: Sequence[Change] = ()


def line_plot(frame: Frame, points: Sequence[Point]) -> Markup:
    """Points joined by a line, in the order of `x`, over a band from their lower to their upper bounds."""
    drawn = (*_bands(frame, points), *_lines(frame, points))
    dots = _dots(frame, points)
    notes = _notes(frame, [(point.x, point.note) for point in points if point.y is not None])
    return _framed(frame, [stretched(_WIDE, _HEIGHT, *drawn), *dots, *notes])


def bar_plot(frame: Frame, bars: Sequence[Bar]) -> Markup:
    """Bars from the bottom of the axis up."""
    noted = len(bars) <= _NOTES
    return _framed(frame, [_bar(frame, bar, noted=noted) for bar in bars])


def _framed(frame: Frame, drawn: Iterable[Markup]) -> Markup:
    return picture(frame.label, "plot", _HEIGHT, (*_grid(frame), *_changes(frame), *drawn, *_threshold(frame), *_marks(frame)))


def _height(axis: Axis, value: float) -> float:
    return _BOTTOM - _INSIDE * axis.share(value)


def _grid(frame: Frame) -> Iterator[Markup]:
    for tick in frame.y.ticks:
        y = _height(frame.y, tick.value)
        css = "axis" if tick is frame.y.ticks[0] else "grid"
        yield element("line", {"class": css, "x1": 0, "x2": "100%", "y1": y, "y2": y})
        yield element("text", {"class": "tick", "x": -8, "y": y + 4, "text-anchor": "end"}, tick.label)
    for tick in frame.x.ticks:
        share = frame.x.share(tick.value)
        anchor = "end" if share > _EDGE else "middle"
        place: Attributes = {"x": percent(share), "y": _BOTTOM + _MARKS + 12, "text-anchor": anchor}
        yield element("text", {"class": "tick", **place}, tick.label)


def _threshold(frame: Frame) -> Iterator[Markup]:
    if frame.threshold is not None:
        y = _height(frame.y, frame.threshold)
        yield element("line", {"class": "threshold", "x1": 0, "x2": "100%", "y1": y, "y2": y})


def _marks(frame: Frame) -> Iterator[Markup]:
    if len(frame.marks) > _SIGNS:
        yield stretched(_WIDE, _HEIGHT, *_strokes(frame))
        return
    for mark in frame.marks:
        place: Attributes = {"x": percent(frame.x.share(mark.x)), "y": _BOTTOM + _MARKS / 2 + 1, "overflow": "visible"}
        yield element("svg", place, titled("path", {"class": f"sign {mark.kind}", "d": SHAPES[mark.kind]}, mark.note))


def _strokes(frame: Frame) -> Iterator[Markup]:
    """Many marks, as strokes in a row for each kind that there is: the worst on top."""
    there = {mark.kind for mark in frame.marks}
    for row, kind in enumerate(kind for kind in KINDS if kind in there):
        y = _BOTTOM + 1 + 4 * row
        strokes = "".join(f"M{_WIDE * frame.x.share(mark.x):.0f} {y}v3" for mark in frame.marks if mark.kind == kind)
        yield element("path", {"class": f"sign {kind}", "d": strokes})


def _changes(frame: Frame) -> Iterator[Markup]:
    free_from = 0.0
    for change in frame.changes:
        share = frame.x.share(change.x)
        yield element("line", {"class": "change", "x1": percent(share), "x2": percent(share), "y1": _TOP - 4, "y2": _BOTTOM})
        if free_from <= share:
            free_from = share + _ROOM
            label = change.label if len(change.label) <= _LONGEST_LABEL else f"{change.label[:_LONGEST_LABEL]}…"
            anchor = "end" if share > 1 - _ROOM else "start"
            yield element("text", {"class": "tick", "x": percent(share), "y": _TOP - 8, "text-anchor": anchor}, label)


def _lines(frame: Frame, points: Sequence[Point]) -> Iterator[Markup]:
    for run in _unbroken(points, lambda point: point.y is not None):
        if len(run) > 1:
            yield element("path", {"class": "line", "d": "M" + "L".join(_at(frame, point.x, point.y) for point in run)})


def _bands(frame: Frame, points: Sequence[Point]) -> Iterator[Markup]:
    for run in _unbroken(points, lambda point: point.lower is not None and point.upper is not None):
        above = [_at(frame, point.x, point.upper) for point in run]
        below = [_at(frame, point.x, point.lower) for point in reversed(run)]
        yield element("path", {"class": "band", "d": f"M{'L'.join((*above, *below))}Z"})


def _unbroken(points: Sequence[Point], there: Callable[[Point], bool]) -> Iterator[list[Point]]:
    return (list(run) for found, run in groupby(points, key=there) if found)


def _at(frame: Frame, x: float, y: float | None) -> str:
    return f"{_WIDE * frame.x.share(x):.1f} {_height(frame.y, y or 0.0):.1f}"


def _dots(frame: Frame, points: Sequence[Point]) -> Iterator[Markup]:
    """All of them when they are few; else those that no line reaches."""
    for run in _unbroken(points, lambda point: point.y is not None):
        if len(points) > _DOTS and len(run) > 1:
            continue
        for point in run:
            place: Attributes = {"cx": percent(frame.x.share(point.x)), "cy": _height(frame.y, point.y or 0.0)}
            yield element("circle", {"class": "dot", "r": 2.5, **place})


def _notes(frame: Frame, notes: Sequence[tuple[float, str]]) -> Iterator[Markup]:
    """Unseen columns, from halfway to the left neighbour to halfway to the right one: easier to hit than a dot."""
    if not 0 < len(notes) <= _NOTES:
        return
    shares = [frame.x.share(x) for x, _ in notes]
    edges = [0.0, *((one + other) / 2 for one, other in pairwise(shares)), 1.0]
    for (_, note), (left, right) in zip(notes, pairwise(edges), strict=True):
        place: Attributes = {"x": percent(left), "width": percent(right - left), "y": _TOP, "height": _INSIDE}
        yield titled("rect", {"class": "note", **place}, note)


def _bar(frame: Frame, bar: Bar, *, noted: bool) -> Markup:
    left, right = frame.x.share(bar.x - bar.width / 2), frame.x.share(bar.x + bar.width / 2)
    top = _height(frame.y, bar.height)
    place: Attributes = {"x": percent(left), "width": percent(right - left), "y": top, "height": _BOTTOM - top}
    return titled("rect", {"class": "bar", **place}, bar.note if noted else "")
