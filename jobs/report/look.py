"""What all our pages have in common: the look, the policy that protects them, and how their templates are read."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jobs.report.figures.signs import sign

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Style:
    """The one style sheet of a page, and the content security policy that allows it and nothing else."""

    css: Markup
    policy: str


@cache
def style(*own: Path, forms: bool = False) -> Style:
    """The common look, and then a page's own style sheets. `forms`: its forms may be sent to where it came from."""
    css = "".join(file.read_text(encoding="utf-8") for file in (_HERE / "look.css", *own, _HERE / "figures" / "figures.css"))
    digest = b64encode(sha256(css.encode()).digest()).decode()
    sent = "'self'" if forms else "'none'"
    return Style(
        css=Markup(css),  # noqa: S704  our own files
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action {sent}",
    )


@cache
def templates(*folders: Path) -> Environment:
    """Templates from these folders; `words.html.j2` has what all of them use. Whatever is put in comes out escaped."""
    loader = FileSystemLoader([*folders, _HERE])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals["sign"] = sign
    return made
