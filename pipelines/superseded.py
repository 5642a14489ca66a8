"""Outputs that no longer stand for any input: left in place, their rows would be there twice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from pathlib import PurePosixPath
from typing import Protocol

from pipelines import sink
from pipelines.finding import InputFile, relative_if_found
from pipelines.objects import Place

_CUT = re.compile(r"(.+)-(\d+)-(\d+)\.parquet", re.DOTALL)
"""How an output is named: after its input file, which is the only one of that name, and the row groups of it."""


class Sourced(Protocol):
    """A committed part, as far as it matters here."""

    @property
    def source(self) -> str:
        """Absolute path, or URI, of its input file."""


def superseded(
    files: Iterable[InputFile],
    *,
    path: str,
    folder: Place,
    current: AbstractSet[str],
    committed: Mapping[str, Sourced],
    rejected: AbstractSet[str],
    whole_drop: bool,
) -> set[str]:
    """Absolute paths (or URIs) in the output `folder` to remove, once all the `current` outputs are committed.

    Of a file that was scored whole (or now has no rows): every other part, committed or left by a run that died
    before it could be, also from before the file was moved. Of a `rejected` one only what has row groups of a part that is
    committed and current: rows must not be there twice, though of those that can't be read some may then be there no more.
    With `whole_drop` (the input's `path` has a date, so its files are all there is of that day): also the parts of files that
    are gone, unless anything was rejected.
    """
    found = {str(file.path): file for file in files}
    complete = [file for source, file in found.items() if source not in rejected]
    drop_is_whole = whole_drop and not rejected

    def outdated(source: str) -> bool:
        return (source in found and source not in rejected) or (drop_is_whole and source not in found)

    stems = {_stem(folder, file.relative) for file in complete}

    def stands_for(output: Place) -> bool:
        """Whether it is named, and signed, as a part of such a file: any other is somebody else's."""
        cut = None if str(output) in current else _CUT.fullmatch(str(output))
        source = sink.source_of(output) if cut else None
        if cut is None or source is None:
            return False
        gone = relative_if_found(path, source) if drop_is_whole and source not in found else None
        return cut[1] in stems or (gone is not None and cut[1] == _stem(folder, gone))

    known = {output for output, part in committed.items() if outdated(part.source)}
    on_disk = sink.files_below(folder) if drop_is_whole else _beside(complete, folder)
    left = map(str, filter(stands_for, on_disk))
    return {*known, *_cut_anew(committed.keys(), current), *left} - current - found.keys()


def _cut_anew(committed: AbstractSet[str], current: AbstractSet[str]) -> Iterator[str]:
    """Committed parts that have a row group which a current one has, too."""
    done: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for output in current & committed:
        if cut := _CUT.fullmatch(output):
            done[cut[1]].append((int(cut[2]), int(cut[3])))
    for output in committed - current:
        cut = _CUT.fullmatch(output)
        if cut and any(first <= int(cut[3]) and int(cut[2]) <= last for first, last in done[cut[1]]):
            yield output


def _beside(files: Iterable[InputFile], folder: Place) -> Iterator[Place]:
    """What lies where the outputs of these files go."""
    return chain.from_iterable(map(sink.files_in, {(folder / file.relative).parent for file in files}))


def _stem(folder: Place, relative: str) -> str:
    """How the outputs of that file begin."""
    return str(folder / str(PurePosixPath(relative).with_suffix("")))
