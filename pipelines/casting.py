"""Arrow columns as numbers, and what is wrong with them, as codes. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import UnreadableError
from pipelines.report import Reason

REASONS = (None, Reason.NULL, Reason.NAN, Reason.INFINITY, Reason.OUTPUT)
"""What a code means: its position here. Of several flaws in a row, the lowest code is the row's reason."""

NULL, NAN, INFINITY, OUTPUT = (np.int8(code) for code in range(1, 5))

Array = np.ndarray[Any, Any]
Codes = np.ndarray[Any, np.dtype[np.int8]]


def storage_type(type_: pa.DataType) -> pa.DataType:
    """The type without extension and dictionary wrappings."""
    while isinstance(type_, pa.BaseExtensionType | pa.DictionaryType):
        type_ = type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_.value_type
    return type_


def is_list(type_: pa.DataType) -> bool:
    """Whether it is a list, large list or fixed-size list."""
    return bool(pa.types.is_fixed_size_list(type_) or pa.types.is_list(type_) or pa.types.is_large_list(type_))


def is_number(type_: pa.DataType) -> bool:
    """Whether its values can be cast to the model's dtype: integers, floats, decimals, booleans and null."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return any(kind(type_) for kind in kinds)


def plain(column: pa.Array) -> pa.Array:
    """The column without extension and dictionary wrappings."""
    while isinstance(column.type, pa.BaseExtensionType | pa.DictionaryType):
        column = column.storage if isinstance(column.type, pa.BaseExtensionType) else column.dictionary_decode()
    return column


def numbers(column: pa.Array, name: str, dtype: np.dtype[Any]) -> tuple[Array, Codes | None]:
    """The values [N] of a column of numbers, safe to cast to `dtype` (float32, float64 or int64); null becomes 0.

    With them int8 [N]: null for a null and, where `dtype` can't show them, NaN and infinity; None if there are no such
    values. Out of range for float32 becomes infinity in the cast.

    Raises:
        UnreadableError: `dtype` is int64 and a value is a fraction, or too large.

    """
    column = plain(column)
    flaws: Codes | None = None
    if column.null_count:
        flaws = np.where(column.is_null().to_numpy(zero_copy_only=False), NULL, np.int8(0))
    values = _numbers(column)
    if dtype == np.int64 and values.dtype != np.int64:
        found = float_flaws(values)
        if found is not None:
            flaws = found if flaws is None else worst(flaws, found)
            values = np.where(found == 0, values, values.dtype.type(0))
        _check_integers(values, name)
    return values, flaws


def float_flaws(values: Array) -> Codes | None:
    """NaN and infinity in floats of any shape, int8 of the same shape; None if there are none."""
    if values.dtype.kind != "f":
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        # A finite sum has finite terms only, and is the cheapest way to see that all is well.
        if np.isfinite(values.sum()):
            return None
    return np.where(np.isnan(values), NAN, np.where(np.isinf(values), INFINITY, np.int8(0)))


def row_flaws(block: Array, *, axis: int) -> Codes | None:
    """The worst of NaN and infinity in each row of a block that has a row's values along `axis`; None if there are none.

    Finite values may add up to infinity: the sums only say which few rows to look at.
    """
    if block.dtype.kind != "f":
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = np.flatnonzero(~np.isfinite(block.sum(axis=axis)))
    if not suspects.size:
        return None
    values = block.take(suspects, axis=1 - axis)
    flaws = np.zeros(block.shape[1 - axis], np.int8)
    flaws[suspects] = np.where(np.isinf(values).any(axis=axis), INFINITY, np.int8(0))
    flaws[suspects[np.isnan(values).any(axis=axis)]] = NAN
    return flaws if flaws.any() else None


def worst(*codes: Codes) -> Codes:
    """The lowest code that is not 0, element by element."""
    result = codes[0]
    for other in codes[1:]:
        result = np.where((other > 0) & ((result == 0) | (other < result)), other, result)
    return result


def table_flaws(batch: pa.RecordBatch) -> Codes:
    """The reason of each row, int8 [N]: a null in any column, or NaN or infinity in a float column."""
    reasons = np.zeros(batch.num_rows, np.int8)
    for column in map(plain, batch.columns):
        if column.null_count:
            reasons = worst(reasons, np.where(column.is_null().to_numpy(zero_copy_only=False), NULL, np.int8(0)))
        if pa.types.is_floating(column.type):
            found = float_flaws(_numbers(column))
            reasons = reasons if found is None else worst(reasons, found)
    return reasons


def _numbers(column: pa.Array) -> Array:
    """The column's values with 0 for null; a view of its memory where that can be."""
    type_ = column.type
    if pa.types.is_null(type_):
        return np.zeros(len(column), np.float32)
    if pa.types.is_decimal(type_):
        column = pc.cast(column, pa.float64(), safe=False)
    elif pa.types.is_float16(type_):
        column = pc.cast(column, pa.float32())
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(0, pa.int8()).cast(column.type))
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]  # pyarrow is untyped


def _check_integers(values: Array, name: str) -> None:
    limits = np.iinfo(np.int64)
    if values.dtype.kind == "f":
        fits = bool(((values == np.trunc(values)) & (values >= limits.min) & (values < -float(limits.min))).all())
    else:
        fits = not values.size or values.dtype.kind == "b" or int(values.max()) <= limits.max
    if not fits:
        raise UnreadableError(f'feature column {name!r} has fractions or numbers too large for int64; use dtype = "float32"')
