"""The label column of a holdout: which of the model's classes each row truly is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.errors import DataError
from pipelines.quality import Counts
from pipelines.values import ClassName

UNLABELLED = -1
_UNKNOWN = -2
_SHOWN = 5
_LONGEST_TABLE = 2**16


@dataclass(frozen=True, slots=True)
class Labels:
    """The column and the model's classes, in the order of the model's outputs.

    A label is a class when it equals its name: whole numbers of any type (also `3.0` for the class 3, and true
    for 1), booleans, or text; dictionaries by their values. Text never equals a number.
    """

    column: str
    classes: tuple[ClassName, ...]

    def check(self, kind: pa.DataType) -> None:
        """Raise DataError when no label of this type can ever be one of the classes."""
        family = _family(kind.value_type if pa.types.is_dictionary(kind) else kind)
        name = self.classes[0]
        wanted = "text" if isinstance(name, str) else "number"
        if family in {wanted, "nothing"}:
            return
        examples = {
            "text": f", and the text {_text(name)!r} is never {name!r}",
            "number": f", and 0 is never the text {name!r}",
        }
        raise DataError(
            f"label column {self.column!r} has type {kind}, but the model's classes are {wanted}s{examples.get(family, '')}; "
            "cast the column, or write [model] classes as the column has them"
        )

    def indexes(self, array: pa.Array) -> Counts:
        """The class index of each row, int64 `[n]`; `UNLABELLED` for null and NaN.

        Raises DataError for a label that isn't one of the classes: it would silently move every figure.
        """
        quick = self._of_small_numbers(array)
        if quick is not None:
            return quick
        encoded = array.dictionary_encode(null_encoding="encode")
        labels = encoded.dictionary.to_pylist()
        by_name: dict[Any, int] = {name: index for index, name in enumerate(self.classes)}
        known = [UNLABELLED if label is None else by_name.get(label, _UNKNOWN) for label in labels]
        positions: Counts = encoded.indices.to_numpy().astype(np.int64)
        true: Counts = np.asarray(known, np.int64)[positions]
        unknown = int((true == _UNKNOWN).sum())
        if unknown:
            strangers = sorted(label for label, index in zip(labels, known, strict=True) if index == _UNKNOWN)
            raise DataError(
                f"label column {self.column!r} has {unknown:,} rows of classes that the model does not know: "
                f"{listed(strangers)}; the model's are {listed(self.classes)}. "
                "Correct the labels, leave these rows out, or correct [model] classes"
            )
        return true

    def _of_small_numbers(self, array: pa.Array) -> Counts | None:
        """The same for whole numbers from 0 up that are all classes, by looking them up in a table; None for others."""
        if array.null_count or not pa.types.is_integer(array.type) or not len(array):
            return None
        names = [int(name) for name in self.classes if isinstance(name, int) and 0 <= name < _LONGEST_TABLE]
        if len(names) < len(self.classes):
            return None
        values = array.to_numpy()
        if not are_below(values, max(names) + 1):
            return None
        if names == list(range(len(names))):
            same: Counts = values.astype(np.int64, copy=False)
            return same
        table = np.full(max(names) + 1, _UNKNOWN, np.int64)
        table[names] = np.arange(len(names))
        true: Counts = table[values]
        return None if (true == _UNKNOWN).any() else true

    def names(self) -> list[str]:
        """The classes as text, in order; booleans as `true` and `false`."""
        return [_text(name) for name in self.classes]


def are_below(values: npt.NDArray[np.integer], size: int) -> bool:
    """Whether integers, of any type, are all from 0 up to, and without, `size`, in one pass; so it is of none."""
    # A negative number, read as one without a sign, is larger than any.
    return not values.size or int(values.view(f"u{values.itemsize}").max()) < size


def listed(names: Sequence[object]) -> str:
    """The first few names, and how many there are when that isn't all."""
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return f"{shown}, … ({len(names):,} in all)" if len(names) > _SHOWN else shown


def is_text(kind: pa.DataType) -> bool:
    """Whether it is one of Arrow's types of text."""
    return any(belongs(kind) for belongs in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _text(name: ClassName) -> str:
    return str(name).lower() if isinstance(name, bool) else str(name)


def _family(kind: pa.DataType) -> Literal["number", "text", "nothing", "neither"]:
    if pa.types.is_null(kind):
        return "nothing"
    if is_text(kind):
        return "text"
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return "number" if any(belongs(kind) for belongs in numeric) else "neither"
