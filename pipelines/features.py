"""Feature columns to the model's inputs: chosen, cast once, and checked row by row."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipelines import entrypoint
from pipelines.casting import NULL, Codes, cast, float_flaws, is_list, is_number, plain, storage_type, table_flaws, worst
from pipelines.errors import DataError
from pipelines.settings import InputSettings
from pipelines.source import UnreadableError

_PANDAS_INDEX = "__index_level_"

Inputs = tuple[torch.Tensor, ...] | dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One batch: the model's inputs for the rows that are valid, and the reason of each row, int8 [N] (0: valid).

    `inputs` may share memory with the next batch that the same thread prepares.
    """

    inputs: Inputs
    reasons: Codes


class Features:
    """The feature columns of a job: which they are, and how they become tensors. Safe to share between threads."""

    def __init__(self, settings: InputSettings, folder: Path) -> None:
        self._settings = settings
        self._dtype = np.dtype(settings.dtype)
        self._collate = entrypoint.load(settings.collate, folder) if settings.collate else None
        self._buffers = threading.local()

    def columns(self, schema: pa.Schema) -> tuple[str, ...]:
        """The feature columns, in the model's order.

        A glob stands for its matches in the order of their names, numbers in them compared as numbers (`px_2` before
        `px_10`): the order of the file's columns says nothing, or a drop written in another order would be scored
        wrongly in silence. Id columns and the index that pandas adds match no glob.

        Raises:
            DataError: a column is missing, there twice, or of a type that is not a number.

        """
        found: dict[str, None] = {}
        for pattern in self._settings.features:
            matches = [pattern] if pattern in schema.names else self._expand(pattern, schema.names)
            if not matches:
                raise DataError(_missing(pattern, schema.names))
            found |= dict.fromkeys(matches)
        columns = tuple(found)
        self.check(schema, columns)
        return columns

    def check(self, schema: pa.Schema, columns: tuple[str, ...]) -> None:
        """Raise DataError unless the schema has these columns, each once, with types that can be cast."""
        for name in columns:
            times = schema.names.count(name)
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

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        """Inputs for a batch that has the feature columns, in the model's order, and nothing else.

        `[N, F]` from scalar columns (or `[N, *shape]`), `[N, *shape]` from one list column, otherwise whatever
        `collate` returns. N counts the valid rows only; when there are none, there are no inputs.

        Raises:
            UnreadableError: a value doesn't fit the dtype, or a list doesn't have the length that `shape` says.
            DataError: `collate` fails, or returns something else than tensors with one row for each row.

        """
        if self._collate is not None:
            return self._from_collate(batch, self._collate)
        if is_list(storage_type(batch.schema.field(0).type)):
            return self._from_list(batch)
        return self._from_scalars(batch)

    def first_flaw(self, batch: pa.RecordBatch, row: int) -> str:
        """The name of the first column that makes this row invalid."""
        if batch.num_columns > 1:
            for name in batch.schema.names:
                column = batch.select([name]).slice(row, 1)
                reasons = table_flaws(column) if self._collate else self._fill(column)[1]
                if reasons.any():
                    return str(name)
        return str(batch.schema.names[0])

    def _expand(self, pattern: str, names: list[str]) -> list[str]:
        own = (name for name in names if name not in self._settings.id and not name.startswith(_PANDAS_INDEX))
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

    def _from_scalars(self, batch: pa.RecordBatch) -> Prepared:
        """The transpose of an [F, N] block: filling it writes no strided memory, which is most of the cost."""
        block, reasons = self._fill(batch)
        inputs = torch.from_numpy(block).T
        if reasons.any():
            inputs = inputs[torch.from_numpy(reasons == 0)]
        return _prepared(inputs, self._settings.shape, reasons)

    def _fill(self, batch: pa.RecordBatch) -> tuple[np.ndarray[Any, Any], Codes]:
        reasons = np.zeros(batch.num_rows, np.int8)
        block = self._buffer(batch.num_columns, batch.num_rows)
        for row, name, column in zip(block, batch.schema.names, batch.columns, strict=True):
            flaws = cast(column, name, row)
            if flaws is not None:
                reasons = worst(reasons, flaws)
        flaws = float_flaws(block)
        return block, reasons if flaws is None else worst(reasons, worst(*flaws))

    def _from_list(self, batch: pa.RecordBatch) -> Prepared:
        name, column = batch.schema.names[0], plain(batch.column(0))
        width = math.prod(self._settings.shape) if self._settings.shape else column.type.list_size
        lists = column.drop_null()
        if wrong := [size for size in pc.unique(pc.list_value_length(lists)).to_pylist() if size != width]:
            raise UnreadableError(
                f"feature column {name!r} has a list of {wrong[0]} values, not {width}; make all of one length"
            )
        block = self._buffer(len(lists), width)
        flaws = cast(lists.flatten(), name, block.reshape(-1))
        found = np.zeros(len(lists), np.int8)
        for codes in (flaws, float_flaws(block)):
            if codes is not None:
                found = worst(found, *codes.reshape(block.shape).T)
        reasons = np.full(len(column), NULL)
        reasons[column.is_valid().to_numpy(zero_copy_only=False)] = found
        inputs = torch.from_numpy(block)
        return _prepared(inputs[torch.from_numpy(found == 0)] if found.any() else inputs, self._settings.shape, reasons)

    def _from_collate(self, batch: pa.RecordBatch, collate: Callable[..., Any]) -> Prepared:
        reasons = table_flaws(batch)
        valid = batch.filter(pa.array(reasons == 0)) if reasons.any() else batch
        if not len(valid):
            return Prepared((), reasons)
        try:
            result = collate(valid)
        except Exception as error:
            raise DataError(f"collate {self._settings.collate!r} failed: {type(error).__name__}: {error}") from error
        inputs: Inputs = result if isinstance(result, dict | tuple) else (result,)
        tensors: list[Any] = list(inputs.values() if isinstance(inputs, dict) else inputs)
        if not tensors or not all(isinstance(value, torch.Tensor) and value.shape[:1] == (len(valid),) for value in tensors):
            wanted = f"a tensor, or a tuple or dict of tensors, with {len(valid)} rows"
            raise DataError(f"collate {self._settings.collate!r} must return {wanted}")
        return Prepared(inputs, reasons)

    def _buffer(self, rows: int, columns: int) -> np.ndarray[Any, Any]:
        """A [rows, columns] block in this thread's memory, with whatever was in it."""
        flat = getattr(self._buffers, "flat", None)
        if flat is None or flat.size < rows * columns:
            flat = self._buffers.flat = np.empty(rows * columns, self._dtype)
        return flat[: rows * columns].reshape(rows, columns)


def _natural(name: str) -> list[tuple[int, str]]:
    """A sorting key that compares runs of digits as numbers, and everything else as text."""
    pieces = re.split(r"([0-9]+)", name)
    return [(int(piece), "") if position % 2 else (-1, piece) for position, piece in enumerate(pieces)]


def _prepared(inputs: torch.Tensor, shape: tuple[int, ...] | None, reasons: Codes) -> Prepared:
    return Prepared((inputs.reshape(len(inputs), *shape) if shape else inputs,), reasons)


def _missing(pattern: str, names: list[str]) -> str:
    near = get_close_matches(pattern, names, n=3)
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"it has {', '.join(map(repr, names[:10]))}"
    return f"no column matches feature {pattern!r}; {hint}"
