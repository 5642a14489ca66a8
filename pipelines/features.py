"""Feature columns: which they are, whether their types can serve, and how they become the model's inputs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import entrypoint
from pipelines.casting import is_list, is_number, storage_type, table_flaws
from pipelines.devices import Staging
from pipelines.errors import DataError
from pipelines.inputs import CollatedInputs, ListInputs, PartInputs, ScalarInputs, record_batch
from pipelines.settings import InputSettings

_PANDAS_INDEX = "__index_level_"


class Features:
    """The feature columns of a job: which they are, and how they become tensors. Safe to share between threads.

    `staging` says where batches are prepared for a device; by itself, for the host. `labels` are what the model is to tell.
    """

    def __init__(
        self,
        settings: InputSettings,
        folder: Path,
        staging: Callable[[np.dtype[Any]], Staging] = Staging,
        *,
        labels: frozenset[str] = frozenset(),
    ) -> None:
        self._settings = settings
        self._apart = labels | frozenset(settings.id)
        self._collate = entrypoint.load(settings.collate, folder) if settings.collate else None
        self._staging = staging(np.dtype(settings.dtype))

    def columns(self, schema: pa.Schema) -> tuple[str, ...]:
        """The feature columns, in the model's order.

        A glob stands for its matches in the order of their names, numbers in them compared as numbers (`px_2` before
        `px_10`): the order of the file's columns says nothing, or a drop written in another order would be scored
        wrongly in silence. Id columns, labels and the index that pandas adds match no glob.

        Raises:
            DataError: a column is missing, there twice, or of a type that is not a number.

        """
        found: dict[str, None] = {}
        names = schema.names  # made anew each time that it is asked for
        there = frozenset(names)
        for pattern in self._settings.features:
            matches = [pattern] if pattern in there else self._expand(pattern, names)
            if not matches:
                raise DataError(_missing(pattern, names))
            found |= dict.fromkeys(matches)
        columns = tuple(found)
        self.check(schema, columns)
        return columns

    def check(self, schema: pa.Schema, columns: tuple[str, ...]) -> None:
        """Raise DataError unless the schema has these columns, each once, with types that can be cast."""
        counted = Counter(schema.names)
        for name in columns:
            times = counted[name]
            if times != 1:
                twice = f"column {name!r} is there {times} times; rename all but one"
                raise DataError(twice if times else _missing(name, schema.names))
        if self._collate is not None:
            return
        types = {name: storage_type(schema.field(name).type) for name in columns}
        for name, type_ in types.items():
            self._check_type(name, type_, alone=len(columns) == 1)
        if self._settings.shape and not any(map(is_list, types.values())):
            self._check_width(len(columns), f"{len(columns)} feature columns")

    def inputs(self, table: pa.Table) -> PartInputs:
        """The inputs of a part, from a table that has the feature columns, in the model's order, and nothing else.

        `[N, F]` from scalar columns (or `[N, *shape]`), `[N, *shape]` from one list column, otherwise whatever
        `collate` returns. N counts the valid rows only.

        Raises:
            UnreadableError: a value doesn't fit the dtype, or a list doesn't have the length that `shape` says.

        """
        if self._collate is not None:
            return CollatedInputs(table, self._settings, self._collate)
        kind = ListInputs if is_list(storage_type(table.schema.field(0).type)) else ScalarInputs
        return kind(table, self._settings, self._staging)

    def first_flaw(self, table: pa.Table, row: int) -> str:
        """The name of the first column that makes this row invalid."""
        if table.num_columns > 1:
            for name in table.column_names:
                cell = table.select([name]).slice(row, 1)
                if self._flawed(cell):
                    return str(name)
        return str(table.column_names[0])

    def _flawed(self, cell: pa.Table) -> bool:
        if self._collate is not None:
            return bool(table_flaws(record_batch(cell)).any())
        return self.inputs(cell).prepare(0, 1).reasons is not None

    def _expand(self, pattern: str, names: list[str]) -> list[str]:
        own = (name for name in names if name not in self._apart and not name.startswith(_PANDAS_INDEX))
        matches = [name for name in own if fnmatchcase(name, pattern)]
        return sorted(matches, key=_natural)

    def _check_type(self, name: str, type_: pa.DataType, *, alone: bool) -> None:
        if not is_list(type_):
            if not is_number(type_):
                raise DataError(f"feature column {name!r} is {type_}, not a number; convert it or use 'collate'")
            return
        if not is_number(storage_type(type_.value_type)) or not alone:
            raise DataError(
                f"feature column {name!r} is {type_}: lists must be of numbers and the only feature; or use 'collate'"
            )
        if pa.types.is_fixed_size_list(type_):
            self._check_width(type_.list_size, f"feature column {name!r} ({type_})")
        elif self._settings.shape is None:
            raise DataError(f"feature column {name!r} is {type_}, of any length: say 'shape'")

    def _check_width(self, width: int, what: str) -> None:
        shape = self._settings.shape
        if shape is not None and math.prod(shape) != width:
            raise DataError(f"{what}: {width} values a row, but shape = {list(shape)} has {math.prod(shape)}")


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sorting key that compares runs of digits as numbers, and everything else as text; `px_01` and `px_1` as text."""
    pieces = re.split(r"([0-9]+)", name)
    return [(int(piece), "") if position % 2 else (-1, piece) for position, piece in enumerate(pieces)], name


def _missing(pattern: str, names: list[str]) -> str:
    near = get_close_matches(pattern, names, n=3)
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"it has {', '.join(map(repr, names[:10]))}"
    return f"no column matches feature {pattern!r}; {hint}"
