"""A part's feature columns as the model's inputs: converted once, then cast and checked batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipelines.casting import NULL, Codes, numbers, plain, row_flaws, table_flaws, worst
from pipelines.devices import Inputs, Staging
from pipelines.errors import DataError, UnreadableError
from pipelines.settings import InputSettings

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One batch: the model's inputs for the `valid` rows of it, and the reason of each row, int8 [N] (0: valid).

    `reasons` is None when all rows are valid. `inputs` may lie in a block of the staging's.
    """

    inputs: Inputs
    valid: int
    reasons: Codes | None


class PartInputs(Protocol):
    """The feature columns of one part."""

    def together(self, rows: int) -> int:
        """How many rows are best prepared at once for batches of so many: a multiple of that."""

    def prepare(self, first: int, last: int) -> Prepared:
        """Inputs for the rows from `first` up to, and without, `last`; none when none of them is valid.

        Raises:
            DataError: `collate` fails, or returns something else than tensors with one row for each row.

        """


class ScalarInputs:
    """`[N, F]` from F columns of numbers, or `[N, *shape]`.

    A batch is the transpose of an [F, N] block: filling it writes no strided memory, which would be most of the cost.
    """

    def __init__(self, table: pa.Table, settings: InputSettings, staging: Staging) -> None:
        self._shape = settings.shape
        self._staging = staging
        self._columns: list[Array] = []
        self._flaws: Codes | None = None
        for name, column in zip(table.column_names, table.columns, strict=True):
            values, flaws = numbers(whole(column), name, staging.dtype)
            self._columns.append(values)
            self._flaws = _either(self._flaws, flaws)
        self._may_be_infinite = any(map(_floating, self._columns))

    def together(self, rows: int) -> int:
        """As `PartInputs.together` promises."""
        return _together(self._staging, rows, len(self._columns))

    def prepare(self, first: int, last: int) -> Prepared:
        """As `PartInputs.prepare` promises."""
        block = self._staging.shaped(len(self._columns), last - first)
        _cast([column[first:last] for column in self._columns], block)
        reasons = None if self._flaws is None else self._flaws[first:last]
        if self._may_be_infinite:
            reasons = _either(reasons, row_flaws(block, axis=0))
        return _prepared(torch.from_numpy(block).T, self._shape, reasons)


class ListInputs:
    """`[N, *shape]` from one column of lists. Lists that are null have no items: `_starts` says where those of a row are."""

    def __init__(self, table: pa.Table, settings: InputSettings, staging: Staging) -> None:
        (name,), column = table.column_names, plain(whole(table.column(0)))
        self._shape = settings.shape
        self._staging = staging
        self._width = math.prod(settings.shape) if settings.shape else column.type.list_size
        self._present: Array | None = None
        self._starts: Array | None = None
        if column.null_count:
            self._present = column.is_valid().to_numpy(zero_copy_only=False)
            self._starts = np.concatenate([[0], np.cumsum(self._present)])
            column = column.drop_null()
        _check_lengths(column, name, self._width)
        self._values, flaws = numbers(column.flatten(), name, staging.dtype)
        self._flaws = None if flaws is None else worst(*flaws.reshape(-1, self._width).T)

    def together(self, rows: int) -> int:
        """As `PartInputs.together` promises."""
        return _together(self._staging, rows, self._width)

    def prepare(self, first: int, last: int) -> Prepared:
        """As `PartInputs.prepare` promises."""
        begin, end = (first, last) if self._starts is None else self._starts[[first, last]].tolist()
        block = self._staging.shaped(end - begin, self._width)
        _cast([self._values[begin * self._width : end * self._width]], block)
        flaws = None if self._flaws is None else self._flaws[begin:end]
        if _floating(self._values):
            flaws = _either(flaws, row_flaws(block, axis=1))
        prepared = _prepared(torch.from_numpy(block), self._shape, flaws)
        if self._present is None or end - begin == last - first:
            return prepared
        reasons = np.full(last - first, NULL)
        reasons[self._present[first:last]] = np.int8(0) if flaws is None else flaws
        return Prepared(prepared.inputs, prepared.valid, reasons)


class CollatedInputs:
    """Whatever the user's function makes of a batch's valid rows."""

    def __init__(self, table: pa.Table, settings: InputSettings, collate: Callable[..., Any]) -> None:
        self._table = table
        self._name = settings.collate
        self._collate = collate

    def together(self, rows: int) -> int:
        """One batch: the function is the user's, who said how many rows it gets."""
        return rows

    def prepare(self, first: int, last: int) -> Prepared:
        """As `PartInputs.prepare` promises."""
        batch = record_batch(self._table.slice(first, last - first))
        reasons = table_flaws(batch)
        flawed = bool(reasons.any())
        valid = batch.filter(pa.array(reasons == 0)) if flawed else batch
        inputs = self._collated(valid) if len(valid) else ()
        return Prepared(inputs, len(valid), reasons if flawed else None)

    def _collated(self, valid: pa.RecordBatch) -> Inputs:
        try:
            result = self._collate(valid)
        except Exception as error:
            raise DataError(f"collate {self._name!r} failed: {type(error).__name__}: {error}") from error
        inputs: Inputs = result if isinstance(result, dict | tuple) else (result,)
        tensors: list[Any] = list(inputs.values() if isinstance(inputs, dict) else inputs)
        if not tensors or not all(isinstance(value, torch.Tensor) and value.shape[:1] == (len(valid),) for value in tensors):
            wanted = f"a tensor, or a tuple or dict of tensors, with {len(valid)} rows"
            raise DataError(f"collate {self._name!r} must return {wanted}")
        return inputs


def whole(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece: no copy, unless it is in several chunks."""
    if column.num_chunks == 1:
        return column.chunk(0)
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        raise DataError(f"{len(column)} rows of {column.type} don't fit into one array: lower input.part_rows, or batch.rows")
    return found


def record_batch(table: pa.Table) -> pa.RecordBatch:
    """The table as one batch: no copy, unless a column is in several chunks."""
    return pa.RecordBatch.from_arrays([whole(column) for column in table.columns], schema=table.schema)


def _together(staging: Staging, rows: int, width: int) -> int:
    return rows * max(1, staging.together // max(1, rows * width))


def _floating(values: Array) -> bool:
    """Whether they may be NaN or infinity, also after the cast."""
    return bool(values.dtype.kind == "f")


def _cast(columns: list[Array], block: Array) -> None:
    """Fill the block with the columns, one after the other; out of range for its dtype is infinity."""
    with np.errstate(over="ignore"):
        np.concatenate(columns, out=block.reshape(-1), casting="unsafe")


def _either(one: Codes | None, other: Codes | None) -> Codes | None:
    """The worst of both, where both are known."""
    if one is None or other is None:
        return one if other is None else other
    return worst(one, other)


def _prepared(inputs: torch.Tensor, shape: tuple[int, ...] | None, reasons: Codes | None) -> Prepared:
    """Inputs [N, F] and the reasons of their rows, without the rows that have one."""
    if reasons is not None:
        kept = reasons == 0
        if kept.all():
            reasons = None
        else:
            inputs = inputs[torch.from_numpy(kept)]
    return Prepared((inputs.reshape(len(inputs), *shape) if shape else inputs,), len(inputs), reasons)


def _check_lengths(lists: pa.Array, name: str, width: int) -> None:
    if pa.types.is_fixed_size_list(lists.type) and lists.type.list_size == width:
        return
    if wrong := [size for size in pc.unique(pc.list_value_length(lists)).to_pylist() if size != width]:
        raise UnreadableError(f"feature column {name!r} has a list of {wrong[0]} values, not {width}; make all of one length")
