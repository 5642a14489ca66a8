"""A part's tables as they are written: predictions, and rejected rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.batches import Batches
from pipelines.casting import REASONS, Codes
from pipelines.planning import Part

Array = np.ndarray[Any, Any]


def predictions(
    ids: pa.Table, batches: Batches, columns: Sequence[str], *, names: pa.Array, float_type: type[np.floating[Any]]
) -> pa.Table:
    """The id columns [n] of the rows that were scored, then the `columns` that the job asks for.

    `names` are the classes' names, by position; scores and probabilities are of `float_type`.
    """
    made = {
        "prediction": lambda: names.take(pa.array(batches.predicted())),
        "score": lambda: pa.array(batches.score().astype(float_type, copy=False)),
        "probabilities": lambda: _lists(batches.probabilities().astype(float_type, copy=False)),
    }
    for name in columns:
        ids = ids.append_column(name, made[name]())
    return ids


def scored(table: pa.Table, reasons: Codes | None) -> pa.Table:
    """The rows without a reason; all of them where there are no `reasons`, int8 [N]."""
    return table if reasons is None else table.filter(pa.array(reasons == 0))


def rejects(table: pa.Table, reasons: Codes, part: Part) -> pa.Table:
    """The rows with a reason (int8 [N], 0 for none), with that, the input file, and the row's number in it (from 0)."""
    rows = np.flatnonzero(reasons)
    found = table.filter(pa.array(reasons != 0))  # not `take`: of a table without columns that would be no rows
    found = found.append_column("reason", pa.array(REASONS, pa.string()).take(pa.array(reasons[rows])))
    found = found.append_column("source", pa.array([part.source] * len(rows), pa.string()))
    found = found.append_column("row", pa.array(rows + part.first_row, pa.int64()))
    return found.replace_schema_metadata(None)  # what pandas says of the input's columns


def _lists(values: Array) -> pa.Array:
    """A list column from [n, C]."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))
