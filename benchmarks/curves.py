"""A curve as an SVG file that stands by itself: the report's own plot, with its style inside."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.report.figures.axis import Axis, count_axis
from jobs.report.figures.plot import Frame, Point, line_plot

_STYLE = (
    ":root { --accent: #2563eb; --muted: #6b7280; --hairline: #d1d5db; --ink: #111827; font-family: sans-serif; }"
    " @media (prefers-color-scheme: dark) { :root { --accent: #60a5fa; --muted: #9ca3af; --hairline: #374151; } }"
    " .tick { fill: var(--muted); font-size: 12px; } .title { fill: var(--muted); font-size: 13px; }"
    " .grid { stroke: var(--hairline); } .axis { stroke: var(--muted); } .note { fill: transparent; }"
    " .line { fill: none; stroke: var(--accent); stroke-width: 2; vector-effect: non-scaling-stroke; }"
    " .dot { fill: var(--accent); } svg svg { overflow: visible; }"
)


def curve(title: str, against: str, y: Axis, values: Sequence[tuple[float, float]]) -> str:
    """`title` against what `against` names, from 0 on."""
    most = max(x for x, _ in values)
    plot = line_plot(Frame(title, count_axis(most), y), [Point(*value) for value in values])
    words = f'<text class="title" x="64" y="14">{title}, against {against} (to {most:,})</text>'
    inside = f'<svg x="64" y="22" width="560">{plot}</svg>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="660" height="215"><style>{_STYLE}</style>{words}{inside}</svg>\n'
