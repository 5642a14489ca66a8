"""What an input path would read, without looking at the disk."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

_MAGIC = re.compile(r"[*?\[]")


def reads(path: str, folder: str) -> bool:
    """Whether an input `path` (file, folder or glob; absolute) would find Parquet files written to `folder`."""
    if not _MAGIC.search(path):
        return Path(folder) == Path(path) or Path(path) in Path(folder).parents
    pattern = Path(path).parts
    stem = _MAGIC.sub("x", pattern[-1]).replace("]", "").removesuffix(".parquet")
    return _matches((*Path(folder).parts, f"{stem}-0-0.parquet"), pattern)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or bool(parts and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
