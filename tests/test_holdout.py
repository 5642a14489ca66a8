"""A holdout: counted in any split of its rows, reported as scikit-learn would on all of them at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]  # pandas publishes no type information
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, recall_score

from pipelines.errors import DataError, ModelError
from pipelines.holdout import HoldoutCounter, HoldoutCounts
from pipelines.quality import Task, wilson
from pipelines.report import HoldoutReport, SliceReport
from pipelines.settings import HoldoutSettings
from pipelines.values import ClassName

DIGITS: tuple[ClassName, ...] = tuple(range(4))
SLICES: list[Any] = ["scanner", {"column": "ink", "bins": [4.5, 5.5]}, ["scanner", {"column": "ink", "bins": [4.5, 5.5]}]]


def counter(
    slices: list[Any] | None = None, *, classes: tuple[ClassName, ...] = DIGITS, task: Task = "multiclass", **more: Any
) -> HoldoutCounter:
    raw = {"name": "labelled", "path": "p", "label": "digit", "slices": SLICES if slices is None else slices, **more}
    return HoldoutCounter(HoldoutSettings.model_validate(raw), classes, task)


def reported(judge: HoldoutCounter, *counts: HoldoutCounts, **rejected: int) -> HoldoutReport:
    total = sum(counts, start=HoldoutCounts.empty())
    return judge.report(total, evaluated_at=1_000.0, rejected=rejected, seconds=2.0)


def labelled(rows: int, classes: int = 4, seed: int = 0) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    digits = generator.integers(0, classes, rows)
    predicted = np.where(generator.random(rows) < 0.8, digits, generator.integers(0, classes, rows))
    table = pa.table(
        {
            "digit": digits,
            "scanner": generator.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1]),
            "ink": generator.normal(5, 1, rows),
        }
    )
    return table, predicted


def by_value(report: HoldoutReport, dimension: str) -> dict[str, SliceReport]:
    return {one.value: one for one in report.slices if one.dimension == dimension}


def test_it_reads_the_label_and_the_slices_columns_once_each() -> None:
    """What scoring must carry along for this holdout."""
    assert counter().columns() == ("digit", "scanner", "ink")
    assert counter([]).columns() == ("digit",)


def test_slices_equal_a_groupby_with_scikit_learn() -> None:
    """Every slice's examples, accuracy and macro recall are those of pandas and scikit-learn on its rows."""
    table, predicted = labelled(3_000)
    report = reported(counter(), counter().count(table, predicted))

    frame = table.to_pandas().assign(predicted=predicted)
    frame["ink"] = pd.cut(frame["ink"], [-np.inf, 4.5, 5.5, np.inf], right=False, labels=["< 4.5", "4.5 to 5.5", ">= 5.5"])
    frame["scanner,ink"] = frame["scanner"].astype(str) + "," + frame["ink"].astype(str)
    for dimension in ("scanner", "ink", "scanner,ink"):
        found = by_value(report, dimension)
        groups = dict(iter(frame.groupby(dimension, observed=True)))
        assert set(found) == set(groups)
        for value, rows in groups.items():
            right = int((rows["digit"] == rows["predicted"]).sum())
            assert (found[value].examples, found[value].correct) == (len(rows), right)
            assert found[value].accuracy == wilson(right, len(rows))
            recall = found[value].recall
            assert recall is not None
            labels = sorted(rows["digit"].unique())
            assert recall.value == pytest.approx(recall_score(rows["digit"], rows["predicted"], labels=labels, average="macro"))
            assert found[value].judged == (len(rows) >= 30)


def test_the_whole_equals_scikit_learn() -> None:
    """Examples, correct, confusion and classes of the report are those of a confusion matrix over all rows."""
    table, predicted = labelled(500)
    report = reported(counter(), counter().count(table, predicted))
    matrix = confusion_matrix(table["digit"].to_numpy(), predicted)

    assert (report.examples, report.correct) == (500, int(np.trace(matrix)))
    assert {(true, said): rows for true, said, rows in report.confusion} == {
        (int(true), int(said)): int(matrix[true, said]) for true, said in np.argwhere(matrix)
    }
    assert [(one.examples, one.predicted, one.correct) for one in report.classes] == list(
        zip(matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix), strict=True)
    )
    assert report.accuracy == wilson(report.correct, 500)
    assert (report.name, report.min_examples, report.evaluated_at, report.seconds) == ("labelled", 30, 1_000.0, 2.0)


def test_binary_slices_report_the_positive_class() -> None:
    """Recall of a slice is of index 1, absent in a slice without positives."""
    judge = counter(["site"], classes=("benign", "malignant"), task="binary")
    table = pa.table({"digit": ["malignant", "malignant", "benign", "benign"], "site": ["x", "x", "x", "y"]})
    report = reported(judge, judge.count(table, np.array([1, 0, 0, 0])))
    found = by_value(report, "site")
    assert found["x"].recall == wilson(1, 2)
    assert found["y"].recall is None
    assert report.recall == wilson(1, 2)
    assert [one.name for one in report.classes] == ["benign", "malignant"]


rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 3)),
        st.integers(0, 3),
        st.sampled_from(["a", "b", "c,d", None]),
        st.one_of(st.none(), st.floats(0, 10)),
    ),
    max_size=40,
)


def split(judge: HoldoutCounter, part: list[tuple[int | None, int, str | None, float | None]]) -> HoldoutCounts:
    table = pa.table(
        {
            "digit": pa.array([row[0] for row in part], pa.int8()),
            "scanner": pa.array([row[2] for row in part], pa.string()).dictionary_encode(),
            "ink": pa.array([row[3] for row in part], pa.float64()),
        }
    )
    return judge.count(table, np.array([row[1] for row in part], np.int64))


@settings(deadline=None)
@given(drawn=rows, random=st.randoms(use_true_random=False), parts=st.integers(1, 5))
def test_any_split_and_order_of_the_rows_gives_the_same_report(drawn: Any, random: Any, parts: int) -> None:
    """Rows shuffled, cut into parts whose dictionaries differ, added in any order: one report."""
    judge = counter(max_slices=5)
    whole = reported(judge, split(judge, drawn))
    shuffled = random.sample(drawn, len(drawn))
    counts = [split(judge, shuffled[start::parts]) for start in range(parts)]
    assert reported(judge, *counts) == whole
    assert reported(judge, *reversed(counts)) == whole


@settings(deadline=None)
@given(st.lists(rows, min_size=3, max_size=3))
def test_addition_is_associative_and_empty_is_neutral(drawn: Any) -> None:
    """(a + b) + c reports as a + (b + c), and adding nothing changes nothing."""
    judge = counter(max_slices=3)
    a, b, c = (split(judge, part) for part in drawn)
    assert reported(judge, (a + b) + c) == reported(judge, a + (b + c))
    assert reported(judge, a + HoldoutCounts.empty()) == reported(judge, a) == reported(judge, HoldoutCounts.empty() + a)


@pytest.mark.parametrize("counted", [False, True])
def test_an_empty_holdout_has_no_figures(*, counted: bool) -> None:
    """Without rows, or without a part at all, every figure is absent and nothing is made up."""
    judge = counter()
    table, predicted = labelled(0)
    report = reported(judge, *([judge.count(table, predicted)] if counted else []))
    assert (report.examples, report.correct, report.confusion, report.slices) == (0, 0, (), ())
    assert (report.accuracy, report.recall, report.precision, report.f1_score) == (None, None, None, None)
    assert [(one.name, one.recall, one.precision) for one in report.classes] == [(str(n), None, None) for n in range(4)]


def test_rows_without_a_label_are_counted_and_not_judged() -> None:
    """They are rejected as `label`, beside what scoring rejected, and are in no slice."""
    judge = counter(["scanner"])
    table = pa.table({"digit": pa.array([1, None, 2]), "scanner": ["a", "b", "a"]})
    report = reported(judge, judge.count(table, np.array([1, 1, 1])), nan=3)
    assert report.rejected == {"nan": 3, "label": 1}
    assert (report.examples, report.correct) == (2, 1)
    assert list(by_value(report, "scanner")) == ["a"]


def test_the_largest_slices_are_kept_and_the_rest_is_summed() -> None:
    """The budget is the holdout's: over all dimensions the largest stay, ties by name, the rest is in `__other__`."""
    judge = counter(["user", "site"], max_slices=3)
    table = pa.table({"digit": [0] * 6, "user": ["u1", "u1", "u2", "u3", "__other__", "u4"], "site": ["s"] * 5 + ["t"]})
    report = reported(judge, judge.count(table, np.array([0, 0, 1, 0, 0, 1])))
    assert [(one.dimension, one.value, one.examples, one.correct) for one in report.slices] == [
        ("user", "u1", 2, 2),
        ("user", "__other__", 4, 2),
        ("site", "s", 5, 4),
        ("site", "t", 1, 0),
    ]
    assert report.slices_dropped == 4


def test_slices_of_a_dimension_add_up_to_the_holdout() -> None:
    """Whatever is folded, each dimension's slices hold every example once."""
    table, predicted = labelled(2_000)
    table = table.append_column("user", pa.array(np.arange(2_000) % 700))
    judge = counter(["user", "scanner", ["user", "scanner"]], max_slices=10)
    report = reported(judge, judge.count(table, predicted))
    for dimension in ("user", "scanner", "user,scanner"):
        found = by_value(report, dimension).values()
        assert sum(one.examples for one in found) == report.examples
        assert sum(one.correct for one in found) == report.correct
    assert sum(one.value != "__other__" for one in report.slices) == 10


def test_a_thousand_classes_stay_sparse() -> None:
    """The confusion matrix holds the cells that occur, not a million of them."""
    table, predicted = labelled(5_000, classes=1_000)
    judge = counter(["scanner"], classes=tuple(range(1_000)))
    counts = judge.count(table, predicted)
    assert len(counts.cells) <= 5_000
    report = reported(judge, counts)
    labels = np.unique(table["digit"].to_numpy())
    expected = recall_score(table["digit"].to_numpy(), predicted, labels=labels, average="macro")
    assert report.recall is not None
    assert report.recall.value == pytest.approx(expected)


SCHEMA = pa.schema({"digit": pa.int64(), "scanner": pa.string(), "ink": pa.float64()})


def test_a_holdout_that_fits_passes_the_check() -> None:
    """The columns are there and of types that serve; further columns don't matter."""
    counter().check(SCHEMA.append(pa.field("px", pa.list_(pa.int8()))))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (SCHEMA.remove(0), r"no column 'digit' \(label\); its columns are 'scanner', 'ink'"),
        (SCHEMA.set(0, pa.field("digits", pa.int64())), r"no column 'digit' \(label\); did you mean 'digits'\?"),
        (SCHEMA.set(1, pa.field("scaner", pa.string())), r"no column 'scanner' \(slices\); did you mean 'scaner'\?"),
        (SCHEMA.append(pa.field("ink", pa.float64())), r"column 'ink' \(slices\) is there 2 times"),
        (SCHEMA.set(0, pa.field("digit", pa.string())), r"label column 'digit' has type string"),
        (SCHEMA.set(2, pa.field("ink", pa.string())), r"column 'ink' has type string, and only numbers"),
        (SCHEMA.set(1, pa.field("scanner", pa.list_(pa.int8()))), r"column 'scanner' .* can't be sliced by"),
    ],
)
def test_a_schema_that_does_not_fit_names_the_column(schema: pa.Schema, message: str) -> None:
    """Missing (with near matches), ambiguous or wrongly typed: one error before any row is read."""
    with pytest.raises(DataError, match=message):
        counter().check(schema)


def test_an_unknown_label_stops_the_count() -> None:
    """A label that the model does not know must not silently move a figure."""
    with pytest.raises(DataError, match="1 rows of classes that the model does not know: 9"):
        counter([]).count(pa.table({"digit": [0, 9]}), np.array([0, 0]))


@pytest.mark.parametrize("predicted", [np.array([0]), np.array([0, 4]), np.array([-1, 0]), np.array([[0, 1]])])
def test_predictions_that_do_not_fit_are_refused(predicted: npt.NDArray[np.int64]) -> None:
    """One class index for each row, within the classes."""
    with pytest.raises(ModelError, match="predict"):
        counter([]).count(pa.table({"digit": [0, 1]}), predicted)
