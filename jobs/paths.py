"""What a path in a job file means, without looking at the disk: its `{date}`, and what it would read."""

from __future__ import annotations

import re
from datetime import date
from glob import escape
from pathlib import Path
from string import Formatter

from pipelines.uris import matches

_MAGIC = re.compile(r"[*?\[]")


def dated(template: str) -> bool:
    """Whether a path template has `{date}`. Raises `ValueError` for any other field in it, and for one that leads elsewhere."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{template!r} is not a path template: {error}; a brace is written twice") from error
    fields = [(name, conversion) for _, name, _, conversion in parsed if name is not None]
    if any(name != "date" or conversion for name, conversion in fields):
        raise ValueError(f"{template!r}: the only field a path can have is {{date}}, or with a format {{date:%Y/%m/%d}}")
    try:
        path = template.format(date=date(2000, 1, 1))
    except (ValueError, LookupError) as error:
        raise ValueError(f"{template!r}: not a format for a date; write it like {{date:%Y/%m/%d}}") from error
    written = "".join(literal + ("x" if name is not None else "") for literal, name, _, _ in parsed)
    if _leads(path) != _leads(written):
        raise ValueError(f"{template!r}: a date must not lead to another folder; write it like {{date:%Y/%m/%d}}")
    return bool(fields)


def any_day(template: str) -> str:
    """A glob for the template's path on whatever day."""
    parts = []
    for literal, name, form, _ in Formatter().parse(template):
        parts.append(escape(literal))
        if name is not None:
            parts.append("/".join("*" * ((form or "").count("/") + 1)))
    return "".join(parts)


def _leads(path: str) -> tuple[bool, int]:
    """Whether a path is absolute, and how often it goes up."""
    return Path(path).is_absolute(), Path(path).parts.count("..")


def reads(path: str, folder: str) -> bool:
    """Whether an input `path` (file, folder or glob; absolute) would find Parquet files written to `folder`."""
    if not _MAGIC.search(path):
        return Path(folder) == Path(path) or Path(path) in Path(folder).parents
    pattern = Path(path).parts
    constant = next(index for index, step in enumerate(pattern) if _MAGIC.search(step))
    # What it may find, a file or a folder, goes to the output folder by the same steps, and from there it may be found again.
    steps = [_MAGIC.sub("x", step).replace("]", "") for step in pattern[constant:] if step != "**"] or ["x"]
    file = (*Path(folder).parts, *steps[:-1], f"{steps[-1].removesuffix('.parquet')}-0-0.parquet")
    below = (*Path(folder).parts, *steps, "x-0-0.parquet")
    return any(matches(written[:depth], pattern) for written in (file, below) for depth in range(1, len(written) + 1))
