"""Outputs that no longer stand for any input: left in place, their rows would be there twice."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol

from pipelines import sink
from pipelines.finding import InputFile
from pipelines.objects import Place

_PART = re.compile(r".+-\d+-\d+\.parquet")


class Sourced(Protocol):
    """A committed part, as far as it matters here."""

    @property
    def source(self) -> str:
        """Absolute path, or URI, of its input file."""


def superseded(
    files: Iterable[InputFile],
    *,
    folder: Place,
    current: AbstractSet[str],
    committed: Mapping[str, Sourced],
    rejected: AbstractSet[str],
    whole_drop: bool,
) -> set[str]:
    """Absolute paths (or URIs) in the output `folder` to remove, once all the `current` outputs are committed.

    Of a file that was scored whole (or now has no rows): every other part, committed or left by a run that died
    before it could be. With `whole_drop` (the input's path has a date, so its files are all there is of that
    day): also the parts of files that are gone, unless anything was rejected. Parts of `rejected` files stay.
    """
    found = {str(file.path): file for file in files}
    complete = {path: file for path, file in found.items() if path not in rejected}

    def outdated(source: str) -> bool:
        return source in complete or (whole_drop and not rejected and source not in found)

    known = {path for path, part in committed.items() if outdated(part.source)}
    return {*known, *_written(complete.values(), folder, current)} - current - found.keys()


def _written(files: Collection[InputFile], folder: Place, current: AbstractSet[str]) -> Iterator[str]:
    """Other outputs of these files, which may never have been committed: named like a part, and saying so inside."""
    sources = {str(file.path) for file in files}
    for parent in {(folder / file.relative).parent for file in files}:
        for path in sink.files_in(parent):
            if str(path) not in current and _PART.fullmatch(path.name) and sink.source_of(path) in sources:
                yield str(path)
