"""Accuracy and recall of 400 slices: `pipelines.holdout` against pandas, on the same rows, already in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from time import perf_counter

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]  # it publishes no types
import pyarrow as pa
from sklearn.metrics import accuracy_score, recall_score

from benchmarks.rounds import Contender, Timing, of
from benchmarks.workload import CLASSES, SEED
from pipelines.holdout import HoldoutCounter, HoldoutCounts
from pipelines.settings import HoldoutSettings

SLICES = 400
HOLDOUT, SKLEARN_LOOP, GROUPBY_MEANS, METRIC_FRAME = "holdout", "scikit-learn loop", "groupby means", "MetricFrame"
AT_ONCE, SCORED = "beside MetricFrame", "the job's number of rows"
_PART_ROWS = 131_072

Quality = Mapping[str, tuple[float | None, float | None]]
"""Accuracy and recall by slice; None where there is nothing to divide by."""


class JudgedRows:
    """Rows with their true and predicted class and a slice, random from a fixed seed; nine of ten are predicted right.

    `what` is added to the contenders' names; `answers` has what each found in its last run.
    """

    def __init__(self, rows: int, what: str = "") -> None:
        self._what = what
        generator = np.random.default_rng(SEED)
        truth = generator.integers(0, 2, rows)
        self._predicted = np.where(generator.random(rows) < 0.9, truth, 1 - truth)  # noqa: PLR2004  nine of ten
        # As text of few values comes from Parquet: coded, in Arrow as in pandas.
        names = pa.array([f"region {number}" for number in range(SLICES)])
        region = pa.DictionaryArray.from_arrays(generator.integers(0, SLICES, rows, np.int32), names)
        self._table = pa.table({"truth": truth, "region": region})
        self._frame = self._table.to_pandas().assign(predicted=self._predicted)
        self.answers: dict[str, Quality] = {}

    def contenders(self) -> tuple[Contender, ...]:
        """All of them."""
        counting = f"HoldoutCounter, parts of {_PART_ROWS:,} rows, one thread; with bounds, confusion and the whole"
        missing = "" if find_spec("fairlearn") else "not measured: fairlearn is not installed; pip install fairlearn"
        framed = "fairlearn's MetricFrame, accuracy_score and recall_score by region"
        looping = "DataFrame.groupby, then accuracy_score and recall_score of numpy arrays for each slice"
        return (
            self._contender(HOLDOUT, counting, lambda: _counted(self._table, self._predicted)),
            self._contender(SKLEARN_LOOP, looping, lambda: _looped(self._frame)),
            self._contender(GROUPBY_MEANS, "two vectorised groupby means, no loop", lambda: _grouped(self._frame)),
            self._contender(METRIC_FRAME, framed, lambda: _framed(self._frame), missing),
        )

    def _contender(self, name: str, settings: str, judge: Callable[[], Quality], missing: str = "") -> Contender:
        def run() -> Timing:
            started = perf_counter()
            self.answers[name] = judge()
            seconds = perf_counter() - started
            return Timing(seconds, seconds)

        return Contender(of(name, self._what) if self._what else name, settings, run, missing=missing)


def _counted(table: pa.Table, predicted: npt.NDArray[np.int64]) -> Quality:
    settings = HoldoutSettings(name="judged", path="in memory", label="truth", slices=("region",), max_slices=SLICES)
    counter = HoldoutCounter(settings, CLASSES, "binary")
    counts = HoldoutCounts.empty()
    for first in range(0, len(table), _PART_ROWS):
        counts += counter.count(table.slice(first, _PART_ROWS), predicted[first : first + _PART_ROWS])
    report = counter.report(counts, evaluated_at=0.0, rejected={}, seconds=0.0)
    return {
        found.value: (found.accuracy.value if found.accuracy else None, found.recall.value if found.recall else None)
        for found in report.slices
    }


def _looped(frame: pd.DataFrame) -> Quality:
    found = {}
    for name, rows in frame.groupby("region", sort=False, observed=True):
        truth, predicted = rows["truth"].to_numpy(), rows["predicted"].to_numpy()
        recall = recall_score(truth, predicted, zero_division=np.nan)
        found[str(name)] = (float(accuracy_score(truth, predicted)), None if np.isnan(recall) else float(recall))
    return found


def _grouped(frame: pd.DataFrame) -> Quality:
    right, positive = frame["truth"] == frame["predicted"], frame["truth"] == 1
    accuracies = right.groupby(frame["region"], sort=False, observed=True).mean()
    recalls = right[positive].groupby(frame["region"][positive], sort=False, observed=True).mean().to_dict()
    return {name: (value, recalls.get(name)) for name, value in accuracies.items()}


def _framed(frame: pd.DataFrame) -> Quality:
    from fairlearn.metrics import MetricFrame  # noqa: PLC0415  an extra, that the others do without

    recall = partial(recall_score, zero_division=np.nan)
    found = MetricFrame(
        metrics={"accuracy": accuracy_score, "recall": recall},
        y_true=frame["truth"],
        y_pred=frame["predicted"],
        sensitive_features=frame["region"],
    ).by_group
    recalls = found["recall"]
    return {name: (value, None if np.isnan(recalls[name]) else recalls[name]) for name, value in found["accuracy"].items()}
