"""SVG elements as safe markup: whatever goes in as text or attribute comes out escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from markupsafe import Markup

Attributes = Mapping[str, str | float | None]


def element(name: str, attributes: Attributes, *children: str | Markup) -> Markup:
    """One element. Attributes that are None are left out, numbers are shortened; a child that is no Markup is text."""
    if not children:
        return Markup("<{}{}/>").format(Markup(name), _written(attributes))  # noqa: S704  names are ours
    inside = Markup().join(children)
    return Markup("<{}{}>{}</{}>").format(Markup(name), _written(attributes), inside, Markup(name))  # noqa: S704  names are ours


def titled(name: str, attributes: Attributes, note: str) -> Markup:
    """An element that says `note` when a pointer rests on it; nothing where `note` is empty."""
    return element(name, attributes, element("title", {}, note)) if note else element(name, attributes)


def stretched(width: int, height: int, *children: Markup) -> Markup:
    """Paths, which know no percent: drawn in units of `width` and stretched to all the width there is."""
    box = {"viewBox": f"0 0 {width} {height}", "preserveAspectRatio": "none", "width": "100%", "height": str(height)}
    return element("svg", box, *children)


def picture(label: str, css_class: str, height: int, children: Iterable[Markup]) -> Markup:
    """A whole figure, `height` pixels high and as wide as there is room; `label` says what it shows."""
    attributes: Attributes = {"class": css_class, "role": "img", "aria-label": label, "width": "100%", "height": height}
    return element("svg", attributes, *children)


def percent(share: float) -> str:
    """A share of the width."""
    return f"{_short(100 * share)}%"


def _written(attributes: Attributes) -> Markup:
    given = ((name, value) for name, value in attributes.items() if value is not None)
    return Markup().join(
        Markup(' {}="{}"').format(Markup(name), value if isinstance(value, str) else _short(value))  # noqa: S704  names are ours
        for name, value in given
    )


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
