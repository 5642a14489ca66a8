"""Being fast counts only for the same answer: what the contenders wrote and found, compared."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.sliced import Quality
from pipelines.errors import BatchgaugeError

_ROUNDING = 1e-5
"""Two batch sizes, or two numbers of threads, add the same products up in another order."""


class DifferentAnswers(BatchgaugeError):  # noqa: N818  it says what was found
    """Two contenders did not do the same work."""


def check_predictions(folders: Mapping[str, Path], *, rows: int) -> None:
    """Raise DifferentAnswers unless all folders have each row once, with the same prediction and score.

    Scores may differ by rounding, and so may the prediction of a row whose score is that near to the threshold.
    """
    first: tuple[str, pa.Table] | None = None
    for name, folder in folders.items():
        table = pq.read_table(folder, partitioning=None).sort_by("id")
        if not np.array_equal(table["id"].to_numpy(), np.arange(rows)):
            raise DifferentAnswers(f"{name}: {folder} has not each of the {rows:,} rows once")
        if first is not None:
            _check_same(first[1], table, f"{first[0]} and {name}")
        first = first or (name, table)


def _check_same(one: pa.Table, other: pa.Table, who: str) -> None:
    scores, others = one["score"].to_numpy(), other["score"].to_numpy()
    apart = float(np.abs(scores - others).max())
    if not apart < _ROUNDING:
        raise DifferentAnswers(f"{who}: scores differ by up to {apart:g}")
    differ = one["prediction"].to_numpy() != other["prediction"].to_numpy()
    if (np.abs(scores[differ] - 0.5) > _ROUNDING).any():
        raise DifferentAnswers(f"{who}: {differ.sum():,} predictions differ")


def check_quality(answers: Mapping[str, Quality]) -> None:
    """Raise DifferentAnswers unless all found the same slices, accuracies and recalls."""
    (name, wanted), *others = answers.items()
    for other, found in others:
        if wanted.keys() != found.keys():
            raise DifferentAnswers(f"{name} and {other}: {len(wanted)} and {len(found)} slices, or others")
        for value, figures in wanted.items():
            if not all(map(_same, figures, found[value])):
                raise DifferentAnswers(f"{name} and {other}: {value}: {figures} and {found[value]}")


def _same(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else isclose(one, other, rel_tol=1e-12)
