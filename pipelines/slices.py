r"""Slices of a holdout: which slice a row is in. `slice_counts` says what was counted in each.

A slice is one value of one dimension. A dimension is a column, a numeric column cut into bins, or a cross of
these; its name is its columns' names joined by `,`. A slice's value is text:

- a column's value as Arrow writes it (`a`, `7`, `true`, `2026-11-22`; a whole float as `7`);
- a bin as `< 4.5`, `4.5 to 5.5` (4.5 is in it, 5.5 is not) or `>= 5.5`;
- a null or NaN as `null`, empty text as `""`, and what is over the budget as `__other__`;
- in a cross, the values of its columns joined by `,`.

Text of more than 200 characters is cut, and ends in `\…` and a digest of all of it: a slice's value is stored, pushed and
drawn. So that two slices never share a value, data's own text is escaped: `\` is written `\\`, a comma inside a cross
`\,`, and data that reads `null`, `""` or `__other__` gets a `\` in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, reduce
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import DataError
from pipelines.labels import is_text
from pipelines.quality import Counts
from pipelines.settings import BinnedColumn, HoldoutSettings, dimension_columns

OTHER = "__other__"
NULL = "null"
EMPTY = '""'

_LONGEST, _DIGITS, _CUT = 200, 16, "\\…"
_KEPT = _LONGEST - _DIGITS - len(_CUT)
_REMEMBERED_BYTES = 2**17
_FEW_CELLS = 4096
"""So many are counted all, however few rows there are."""


class Coded(NamedTuple):
    """Rows of one dimension: `codes` (integers `[n]`) are positions in `values`, distinct texts. Not every one need occur."""

    codes: npt.NDArray[np.integer]
    values: pa.LargeStringArray


@dataclass(frozen=True, slots=True)
class SliceDimension:
    """One dimension of a holdout. Immutable."""

    name: str
    parts: tuple[str | BinnedColumn, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return dimension_columns(self.parts)

    def check(self, schema: pa.Schema) -> None:
        """Raise DataError as `code` would for rows of this schema."""
        self.code(schema.empty_table())

    def code(self, table: pa.Table) -> Coded:
        """The slice of each row; empty in, empty out.

        Raises DataError naming a column that can't be sliced by, or that isn't numeric and has bins.
        """
        crossed = len(self.parts) > 1
        return reduce(_cross, (_code_part(part, table, crossed=crossed) for part in self.parts))


def dimensions(settings: HoldoutSettings) -> tuple[SliceDimension, ...]:
    """The holdout's dimensions, in the order of the job file."""
    return tuple(
        SliceDimension(",".join(dimension_columns(entry)), entry if isinstance(entry, tuple) else (entry,))
        for entry in settings.slices
    )


def _is_numeric(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(belongs(kind) for belongs in numeric)


def _code_part(part: str | BinnedColumn, table: pa.Table, *, crossed: bool) -> Coded:
    (name,) = dimension_columns(part)
    column = table.column(name)
    if isinstance(part, BinnedColumn):
        if not _is_numeric(column.type):
            raise DataError(
                f"column {name!r} has type {column.type}, and only numbers can be cut into bins; "
                "cast it, or slice by its values"
            )
        return _code_bins(plain(column), part.bins)
    coded_text = pa.types.is_dictionary(column.type) and is_text(column.type.value_type)
    code = _code_dictionary if coded_text else _code_values
    try:
        return code(column, crossed=crossed)
    except pa.ArrowException as error:
        raise DataError(
            f"column {name!r} ({column.type}) can't be sliced by: {error}; slice by text, numbers, booleans or dates"
        ) from error


def _code_values(column: pa.ChunkedArray, *, crossed: bool) -> Coded:
    encoded = plain(column).dictionary_encode(null_encoding="encode")
    return Coded(encoded.indices.to_numpy(), _shown(encoded.dictionary.cast(pa.large_string()), crossed=crossed))


def _code_dictionary(column: pa.ChunkedArray, *, crossed: bool) -> Coded:
    """Text that was coded when it was read. A dictionary may have null, values twice, and some that no row has."""
    if column.num_chunks == 1 and not column.null_count:  # as of most parts
        entries, codes = column.chunk(0).dictionary, column.chunk(0).indices.to_numpy()
    else:
        entries, codes = _joined(column)
    few = entries.nbytes <= _REMEMBERED_BYTES
    distinct = (_remembered if few else _distinct)(_Entries(entries), crossed=crossed)
    return Coded(codes if distinct.places is None else distinct.places[codes], distinct.values)


def _joined(column: pa.ChunkedArray) -> tuple[pa.LargeStringArray, npt.NDArray[np.integer]]:
    """The dictionaries of all chunks, one after the other, with null last where there is any; and the rows' places in that."""
    dictionaries = [chunk.dictionary.cast(pa.large_string()) for chunk in column.chunks]
    entries = pa.concat_arrays([*dictionaries, pa.nulls(1 if column.null_count else 0, pa.large_string())])
    starts = np.cumsum([0, *map(len, dictionaries)])
    pieces = [_places(chunk.indices, start, len(entries) - 1) for chunk, start in zip(column.chunks, starts, strict=False)]
    return entries, np.concatenate([np.zeros(0, np.int64), *pieces])


class _Entries:
    """Texts as a key: by what they say."""

    def __init__(self, texts: pa.Array) -> None:
        self.texts = texts

    def __hash__(self) -> int:
        return hash(bytes(self.texts.buffers()[-1] or b""))  # their letters, whatever their type; texts need not be one

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Entries) and bool(self.texts.equals(other.texts))


class _Distinct(NamedTuple):
    """A dictionary's entries, each once, as they are shown; `places` int64 says where each is, None if none is there twice."""

    values: pa.LargeStringArray
    places: npt.NDArray[np.integer] | None


def _distinct(entries: _Entries, *, crossed: bool) -> _Distinct:
    encoded = entries.texts.cast(pa.large_string()).dictionary_encode(null_encoding="encode")
    places = encoded.indices.to_numpy() if len(encoded.dictionary) < len(entries.texts) else None
    return _Distinct(_shown(encoded.dictionary, crossed=crossed), places)


_remembered = lru_cache(maxsize=64)(_distinct)
"""One part's dictionary is mostly the next one's too, and to look at its texts takes as long as to count the rows."""


def _places(indices: pa.Array, start: int, null: int) -> npt.NDArray[np.integer]:
    """Indices of a dictionary whose entries begin at `start`, and where null is."""
    codes: npt.NDArray[np.int64] = indices.fill_null(0).to_numpy().astype(np.int64) + start
    if indices.null_count:
        codes[indices.is_null().to_numpy(zero_copy_only=False)] = null
    return codes


def plain(column: pa.ChunkedArray) -> pa.Array:
    """One array without dictionaries, in which NaN is null and -0.0 is 0.0."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    # Text of more than 2 GiB doesn't combine into one plain array, and pyarrow 26 dictionary-encodes a view's null as empty.
    if pa.types.is_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_binary(column.type) or pa.types.is_binary_view(column.type):
        column = column.cast(pa.large_binary())
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    if pa.types.is_floating(array.type):
        array = pc.add(pc.if_else(pc.is_nan(array), None, array), pa.scalar(0.0, array.type))
    return array


def _shown(texts: pa.LargeStringArray, *, crossed: bool) -> pa.LargeStringArray:
    """Values as the module says: no two of them the same. Raises Arrow's error for bytes that aren't UTF-8."""
    texts.validate(full=True)
    too_long = pc.greater(pc.utf8_length(texts), _LONGEST).fill_null(False)
    if not pc.any(too_long).as_py():
        return _escaped(texts, crossed=crossed)
    # What is cut is marked after the rest was escaped, by a `\` that stands alone: no text of the data's reads so.
    begun = _escaped(pc.if_else(too_long, pc.utf8_slice_codeunits(texts, 0, _KEPT), texts), crossed=crossed)
    digests = [f"{_CUT}{sha256(text.encode()).hexdigest()[:_DIGITS]}" for text in texts.filter(too_long).to_pylist()]
    ends = pc.replace_with_mask(pa.repeat(_text(""), len(texts)), too_long, pa.array(digests, pa.large_string()))
    return pc.binary_join_element_wise(begun, ends, _text(""))


def _escaped(texts: pa.LargeStringArray, *, crossed: bool) -> pa.LargeStringArray:
    reserved = pc.is_in(texts, value_set=pa.array([NULL, EMPTY, OTHER], pa.large_string()))
    texts = pc.replace_substring(texts, "\\", "\\\\")
    if crossed:
        texts = pc.replace_substring(texts, ",", "\\,")
    texts = pc.if_else(reserved, pc.binary_join_element_wise(_text("\\"), texts, _text("")), texts)
    return pc.if_else(pc.equal(texts, ""), EMPTY, texts).fill_null(NULL)


def _code_bins(array: pa.Array, edges: tuple[float, ...]) -> Coded:
    # Not a safe cast: an integer that float64 can't hold exactly may still be told from an edge.
    numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    codes = np.searchsorted(np.asarray(edges), numbers, side="right")
    codes[np.isnan(numbers)] = len(edges) + 1
    shown = [_edge_text(edge) for edge in edges]
    between = [f"{low} to {high}" for low, high in pairwise(shown)]
    return Coded(codes, pa.array([f"< {shown[0]}", *between, f">= {shown[-1]}", NULL], pa.large_string()))


def _edge_text(edge: float) -> str:
    return repr(edge).removesuffix(".0")


def _cross(left: Coded, right: Coded) -> Coded:
    width = max(1, len(right.values))
    pairs, codes = _renumbered(left.codes.astype(np.int64) * width + right.codes, len(left.values) * width)
    first, second = np.divmod(pairs, width)
    return Coded(
        codes, pc.binary_join_element_wise(left.values.take(pa.array(first)), right.values.take(pa.array(second)), _text(","))
    )


def countable(cells: int, rows: int) -> bool:
    """Whether to count all cells that there can be: where they are more than the rows, sorting those takes less."""
    return cells <= max(rows, _FEW_CELLS)


def _renumbered(numbers: Counts, size: int) -> tuple[Counts, Counts]:
    """The numbers below `size` that occur, rising, and each one's place among them."""
    if not countable(size, len(numbers)):
        return np.unique(numbers, return_inverse=True)
    occurring = np.flatnonzero(np.bincount(numbers, minlength=size))
    places = np.zeros(size, np.int64)
    places[occurring] = np.arange(len(occurring))
    return occurring, places[numbers]


def _text(text: str) -> Any:
    return pa.scalar(text, pa.large_string())
