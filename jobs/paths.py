"""What a path in a job file means, without looking at the disk: its `{date}`, and what it would read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path, PurePath
from string import Formatter

from pipelines.uris import SUFFIXES, finds

_MAGIC = re.compile(r"[*?\[]")
_EACH = re.compile(r"\[!?\]?[^\]]*\]|[*?]")


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


def outputs(path: str, folder: str) -> list[PurePath]:
    """Examples of what is written to `folder` for what an input `path` (file, folder or glob; absolute) finds."""
    steps = PurePath(path).parts
    literal = len(steps) - 1 if steps[-1].endswith(SUFFIXES) else len(steps)
    constant = next((index for index, step in enumerate(steps) if _MAGIC.search(step)), literal)
    found = [_EACH.sub(_example, step) for step in steps[constant:] if step != "**"]
    stem = PurePath(found.pop()).stem if found and found[-1].endswith(SUFFIXES) else "x"
    deeper = [[], ["x"]] if "**" in steps else [[]]
    return [PurePath(folder, *more, *found, f"{stem}-0-0.parquet") for more in deeper]


def _example(sign: re.Match[str]) -> str:
    """What stands for a sign of a glob: something that it matches."""
    return next((character for character in "x0aA_-" if fnmatchcase(character, sign[0])), "x")


def reads(path: str, written: Iterable[PurePath]) -> bool:
    """Whether a `path` (file, folder or glob; absolute) would find any of these files, by itself or in a folder."""
    if not _MAGIC.search(path):
        return any(PurePath(path) in (file, *file.parents) for file in written)
    pattern = PurePath(path).parts
    return any(finds(pattern, file.parts) for file in written)
