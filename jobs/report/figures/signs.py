"""Signs for states, told apart by their shape as well as by their colour."""

from __future__ import annotations

from markupsafe import Markup

from jobs.report.figures.svg import Attributes, element

SHAPES = {
    "success": "M-4 .5L-1 3.5L4.5-3",
    "partial": "M0-4L4.5 4H-4.5Z",
    "missed": "M0-4.5L4.5 0L0 4.5L-4.5 0Z",
    "failed": "M-3.5-3.5L3.5 3.5M3.5-3.5L-3.5 3.5",
    "running": "M-3-4L4.5 0L-3 4Z",
    "idle": "M-3.5 0H3.5",
    "skipped": "M-3 0A3 3 0 1 0 3 0A3 3 0 1 0-3 0Z",
}
"""Paths of about 8 pixels around the origin."""


def sign(kind: str) -> Markup:
    """A state's sign for a line of text, in the colour of the state. The words beside it say what it means."""
    box: Attributes = {"class": "inline-sign", "viewBox": "-7 -7 14 14", "width": 14, "height": 14, "aria-hidden": "true"}
    return element("svg", box, element("path", {"class": f"sign {kind}", "d": SHAPES[kind]}))
