"""The last runs as a strip for a table's cell: a bar for what each scored, and a sign where one went wrong."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from markupsafe import Markup

from jobs.report.figures.svg import Attributes, element

PLACES = 20
"""As many runs as a strip has room for."""

_PITCH, _WIDTH, _HEIGHT = 6, 4, 26
_GROUND = _HEIGHT - 0.5
_TALLEST, _LOWEST = _HEIGHT - 3, 2
_SIGNS = {
    "failed": "m-2-2l4 4m0-4l-4 4",
    "missed": "m0-2.5l2.5 2.5l-2.5 2.5l-2.5-2.5z",
    "skipped": "m-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0z",
}
"""Small ones of those in `signs`, around the point where they stand."""


@lru_cache(maxsize=8192)
def strip(runs: tuple[tuple[str, int], ...], label: str) -> Markup:
    """The runs (outcome, rows scored), oldest first; the newest stands at the right end, whatever their number.

    Bars are measured against the strip's own highest: of full runs filled, of partial ones hollow. Nothing without runs.
    Only the newest `PLACES` are drawn. It is small on purpose: a page has hundreds.
    """
    shown = runs[-PLACES:]
    if not shown:
        return Markup()
    highest = max(rows for _, rows in shown) or 1
    first = PLACES - len(shown)
    paths: dict[str, list[str]] = {}
    for place, (kind, rows) in enumerate(shown, start=first):
        paths.setdefault(kind, []).append(_drawn(kind, place * _PITCH + 1, rows / highest))
    box: Attributes = {"class": "strip", "role": "img", "aria-label": label, "width": PLACES * _PITCH, "height": _HEIGHT}
    ground = element("path", {"class": "ground", "d": f"M0 {_GROUND}h{PLACES * _PITCH}"})
    return element("svg", box, ground, *_by_kind(paths.items()))


def _by_kind(paths: Iterable[tuple[str, list[str]]]) -> Iterable[Markup]:
    return (element("path", {"class": kind, "d": "".join(drawn)}) for kind, drawn in paths)


def _drawn(kind: str, left: int, share: float) -> str:
    if kind in _SIGNS:
        return f"M{left + _WIDTH / 2:g} {_GROUND - 5:g}{_SIGNS[kind]}"
    inset = 0.5 if kind == "partial" else 0
    height = max(_TALLEST * share, _LOWEST)
    return f"M{left + inset:g} {_GROUND - inset:g}h{_WIDTH - 2 * inset:g}v-{height - inset:.1f}h-{_WIDTH - 2 * inset:g}z"
