"""Feature columns: which they are, how they are cast, and which rows are invalid."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.casting import REASONS
from pipelines.errors import DataError, UnreadableError
from pipelines.features import Features
from pipelines.inputs import Prepared
from pipelines.settings import InputSettings

HERE = Path(__file__).parent


def features(*names: str, folder: Path = HERE, **changes: Any) -> Features:
    return Features(InputSettings(path="in", features=names or ("*",), **changes), folder)


def prepare(table: pa.Table, folder: Path = HERE, **changes: Any) -> Prepared:
    return features(folder=folder, **changes).inputs(table).prepare(0, len(table))


def tensor(prepared: Prepared) -> torch.Tensor:
    assert isinstance(prepared.inputs, tuple)
    (value,) = prepared.inputs
    return value


def reasons(prepared: Prepared) -> list[str | None]:
    """Of each row. All valid has one way to be said."""
    if prepared.reasons is None:
        return [None] * prepared.valid
    assert prepared.reasons.any()
    assert (prepared.reasons == 0).sum() == prepared.valid
    return [REASONS[code] for code in prepared.reasons]


def schema(*names: str) -> pa.Schema:
    return pa.schema([(name, pa.float32()) for name in names])


def test_globs_are_sorted_by_name_with_numbers_as_numbers() -> None:
    """Whatever the file's order: a drop whose columns were written in another order must not be scored wrongly."""
    names = ("id", "px_0", "px_1", "px_10", "px_2", "worst b", "worst a", "px_03")
    assert features("px_*", id=("id",)).columns(schema(*names)) == ("px_0", "px_1", "px_2", "px_03", "px_10")
    for names_of_one_number in (("px_01", "px_1"), ("px_1", "px_01")):
        assert features("*").columns(schema(*names_of_one_number)) == ("px_01", "px_1")
    assert features("worst *").columns(schema(*names)) == ("worst a", "worst b")
    assert features("*").columns(schema("b2x", "a", "b10")) == features("*").columns(schema("b10", "b2x", "a"))
    assert features("*").columns(schema("a", "__index_level_0__")) == ("a",)
    assert features("worst a", "*", id=("id",)).columns(schema("id", "x", "worst a")) == ("worst a", "x")


def test_a_column_with_magic_in_its_name_is_itself() -> None:
    """A name is a name before it is a glob."""
    assert features("x[1]").columns(schema("x1", "x[1]")) == ("x[1]",)


@pytest.mark.parametrize(
    ("names", "of", "message"),
    [
        (("pixels_*",), schema("px_0"), r"no column matches feature 'pixels_\*'; it has 'px_0'"),
        (("lenght",), schema("length", "width"), "'lenght'; did you mean 'length'"),
        (("x",), pa.schema([("x", pa.string())]), "'x' is string, not a number"),
        (("x",), pa.schema([("x", pa.timestamp("us"))]), r"'x' is timestamp\[us\]"),
        (("x",), pa.schema([("x", pa.dictionary(pa.int8(), pa.string()))]), "'x' is string"),
        (("x",), pa.schema([("x", pa.float32()), ("x", pa.float32())]), "'x' is there 2 times"),
        (("x", "y"), pa.schema([("x", pa.list_(pa.float32(), 2)), ("y", pa.float32())]), "'x'.*the only feature"),
        (("x",), pa.schema([("x", pa.list_(pa.string(), 2))]), "lists must be of numbers"),
        (("x",), pa.schema([("x", pa.list_(pa.float32()))]), "of any length: say 'shape'"),
    ],
)
def test_a_column_that_cannot_serve_is_named(names: tuple[str, ...], of: pa.Schema, message: str) -> None:
    """A missing, doubled or wrongly typed feature is a DataError with its name, type and near matches."""
    with pytest.raises(DataError, match=message):
        features(*names).columns(of)


def test_a_shape_of_another_size_is_refused() -> None:
    """`shape` must have as many values as a row has."""
    with pytest.raises(DataError, match=r"3 values a row, but shape = \[2, 2\] has 4"):
        features("x", shape=(2, 2)).columns(pa.schema([("x", pa.list_(pa.float32(), 3))]))
    with pytest.raises(DataError, match=r"2 feature columns.*has 4"):
        features("*", shape=(2, 2)).columns(schema("a", "b"))


KINDS: list[pa.Array] = [
    *(pa.array([3, 0, 1], type_()) for type_ in (pa.int8, pa.uint8, pa.int16, pa.int32, pa.uint32, pa.int64, pa.uint64)),
    pa.array([3, 0, 1], pa.float32()),
    pa.array([3, 0, 1], pa.float64()),
    pa.array(np.array([3, 0, 1], np.float16)),
    pa.array([decimal.Decimal("3.00"), decimal.Decimal(0), decimal.Decimal(1)], pa.decimal128(9, 2)),
    pa.array([3, 0, 1], pa.float64()).dictionary_encode(),
]


@pytest.mark.parametrize("column", KINDS, ids=lambda column: str(column.type).partition("<")[0])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_every_numeric_type_is_cast(column: pa.Array, dtype: str) -> None:
    """Integers, floats, decimals and dictionaries of them, whole, in slices, and with nulls."""
    padded = pa.concat_arrays([column, column, pa.nulls(1, column.type)])
    values = prepare(pa.table({"x": padded}).slice(2, 5), dtype=dtype)
    assert tensor(values).dtype == getattr(torch, dtype)
    assert tensor(values).tolist() == [[1], [3], [0], [1]]
    assert reasons(values) == [None] * 4 + ["null"]


def test_booleans_and_columns_of_nothing_are_cast() -> None:
    """False is 0, true is 1; a column of type null makes every row invalid."""
    assert tensor(prepare(pa.table({"x": [True, False, None]}))).tolist() == [[1], [0]]
    nothing = prepare(pa.table({"x": [1.0, 2.0], "y": pa.nulls(2)}))
    assert reasons(nothing) == ["null", "null"]
    assert tensor(nothing).shape == (0, 2)


def test_the_reason_is_the_first_of_null_nan_infinity() -> None:
    """Reasons are found after the cast: 1e300 is infinity in float32."""
    nan, inf = float("nan"), float("inf")
    table = pa.table({"x": [1.0, nan, inf, nan, 1e300, None], "y": [1.0, None, nan, inf, 1.0, -inf]})
    assert reasons(prepare(table)) == [None, "null", "nan", "nan", "infinity", "null"]
    assert reasons(prepare(table, dtype="float64")) == [None, "null", "nan", "nan", None, "null"]
    assert reasons(prepare(table.slice(0, 4), dtype="int64")) == [None, "null", "nan", "nan"]


def test_large_values_whose_sum_overflows_are_valid() -> None:
    """The quick check by the sum must not reject finite values."""
    found = prepare(pa.table({"x": pa.array([3e38, 3e38, -3e38], pa.float32())}))
    assert reasons(found) == [None] * 3


def test_int64_takes_whole_numbers_exactly_and_nothing_else() -> None:
    """2^53 + 1 survives; a fraction or a number too large says which column and what to do."""
    assert tensor(prepare(pa.table({"x": [2**53 + 1, None]}), dtype="int64")).tolist() == [[2**53 + 1]]
    for values in (pa.array([0.5]), pa.array([2**63], pa.uint64()), pa.array([1e19])):
        with pytest.raises(UnreadableError, match="'x' has fractions or numbers too large"):
            prepare(pa.table({"x": values}), dtype="int64")


@settings(deadline=None)
@given(data=st.data())
def test_scalar_columns_match_numpy(data: st.DataObject) -> None:
    """Any slice of any columns: the tensor is the valid rows, row by row, and every row has its reason."""
    number = st.one_of(st.none(), st.floats(width=32), st.integers(-9, 9).map(float))
    rows = data.draw(st.integers(1, 12))
    columns = [data.draw(st.lists(number, min_size=rows, max_size=rows)) for _ in range(data.draw(st.integers(1, 4)))]
    start = data.draw(st.integers(0, rows - 1))
    table = pa.table({f"x{i}": pa.array(column, pa.float32()) for i, column in enumerate(columns)})
    found = prepare(table.slice(start))
    expected = [row for row in list(zip(*columns, strict=True))[start:] if all(v is not None and np.isfinite(v) for v in row)]
    assert tensor(found).tolist() == [list(row) for row in expected]
    assert found.valid == len(expected) == reasons(found).count(None)


LISTS = [
    pa.list_(pa.float32(), 4),
    pa.list_(pa.float32()),
    pa.large_list(pa.float64()),
    pa.list_(pa.uint8(), 4),
]


@pytest.mark.parametrize("type_", LISTS, ids=str)
def test_a_list_column_becomes_a_block_of_the_shape(type_: pa.DataType) -> None:
    """Null lists and lists with null items are invalid rows; slices start where they start."""
    values = [[9, 9, 9, 9], [1, 2, 3, 4], None, [1, None, 3, 4], [5, 6, 7, 8]]
    found = prepare(pa.table({"x": pa.array(values, type_)}).slice(1), shape=(1, 2, 2))
    assert tensor(found).tolist() == [[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]]
    assert reasons(found) == [None, "null", "null", None]


def test_what_is_not_finite_in_a_list_is_found() -> None:
    """NaN and infinity count after the cast, item by item; the worst one names the row."""
    nan, inf = float("nan"), float("inf")
    column = pa.array([[1.0, nan], [inf, 1.0], [inf, nan], [None, nan], [1.0, 2.0], [1e300, 0.0]], pa.list_(pa.float64(), 2))
    found = prepare(pa.table({"x": column}))
    assert reasons(found) == ["nan", "infinity", "nan", "null", None, "infinity"]
    assert tensor(found).tolist() == [[1, 2]]


def test_lists_that_are_all_null_give_no_rows() -> None:
    """Nothing is left, and it has the right shape."""
    found = prepare(pa.table({"x": pa.array([None, None], pa.list_(pa.float32()))}), shape=(2,))
    assert tensor(found).shape == (0, 2)
    assert reasons(found) == ["null", "null"]


def test_a_list_of_another_length_is_named() -> None:
    """A ragged column can't be reshaped, and must not be read shifted."""
    ragged = pa.array([[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]])
    with pytest.raises(UnreadableError, match="'x' has a list of 1 values, not 2"):
        prepare(pa.table({"x": ragged}), shape=(2,))
    with pytest.raises(UnreadableError, match="'x' has a list of 0 values, not 2"):
        prepare(pa.table({"x": pa.array([[], [1.0, 2.0]])}), shape=(2,))


def test_fixed_shape_tensors_are_lists() -> None:
    """Arrow's extension types are their storage."""
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    assert features("x", shape=(2, 2)).columns(pa.schema([("x", column.type)])) == ("x",)
    assert tensor(prepare(pa.table({"x": column}), shape=(2, 2))).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_scalar_columns_can_take_a_shape() -> None:
    """Four columns are a two by two image, in the columns' order."""
    table = pa.table({name: [float(i), None] for i, name in enumerate("abcd")})
    assert tensor(prepare(table, shape=(1, 2, 2))).tolist() == [[[[0, 1], [2, 3]]]]


COLLATE = """
import torch

def lengths(batch):
    return {"n": torch.tensor([len(t) for t in batch["text"].to_pylist()]), "w": torch.tensor(batch["w"].to_pylist())}

def pair(batch):
    return torch.ones(len(batch), 2), torch.zeros(len(batch))

def short(batch):
    return torch.ones(len(batch) - 1)

def scalar(batch):
    return torch.tensor(1.0)

def text(batch):
    return "text"

def nothing(batch):
    return ()

def fails(batch):
    raise ValueError("no such word")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(COLLATE)
    return tmp_path


TEXTS = pa.table({"text": ["a", None, "ccc", "dd"], "w": [1.0, 2.0, float("nan"), 4.0]})


def test_collate_is_given_the_valid_rows(folder: Path) -> None:
    """It sees no null and no NaN, whatever the columns' types; its dict names the model's arguments."""
    found = prepare(TEXTS, folder, collate="code.py:lengths")
    assert isinstance(found.inputs, dict)
    assert {name: value.tolist() for name, value in found.inputs.items()} == {"n": [1, 2], "w": [1, 4]}
    assert reasons(found) == [None, "null", "nan", None]
    assert features("text", folder=folder, collate="code.py:lengths").columns(TEXTS.schema) == ("text",)
    assert len(prepare(TEXTS, folder, collate="code.py:pair").inputs) == 2


def test_collate_is_not_called_without_rows(folder: Path) -> None:
    """Few functions expect an empty batch."""
    assert prepare(TEXTS.slice(1, 1), folder, collate="code.py:fails").inputs == ()


@pytest.mark.parametrize("name", ["short", "scalar", "text", "nothing"])
def test_what_collate_returns_is_checked(folder: Path, name: str) -> None:
    """A result with too few rows would shift predictions against ids."""
    with pytest.raises(DataError, match=f"collate 'code.py:{name}' must return a tensor.* with 2 rows"):
        prepare(TEXTS, folder, collate=f"code.py:{name}")


def test_a_failing_collate_says_why(folder: Path) -> None:
    """Its error is in the message, and kept as the cause."""
    with pytest.raises(DataError, match=r"collate 'code\.py:fails' failed: ValueError: no such word") as caught:
        prepare(TEXTS, folder, collate="code.py:fails")
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_flawed_column_is_named(folder: Path) -> None:
    """A row is invalid for the first column that makes it so."""
    table = pa.table({"a": [1.0, 1.0], "b": [2, None], "c": [float("nan"), 1.0]})
    assert [features().first_flaw(table, row) for row in (0, 1)] == ["c", "b"]
    assert features(collate="code.py:pair", folder=folder).first_flaw(TEXTS, 2) == "w"


NUMBERS: dict[str, pa.DataType] = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "list": pa.list_(pa.float32(), 2),
    "uint8 list": pa.list_(pa.uint8(), 2),
    "dictionary": pa.dictionary(pa.int32(), pa.float64()),
}


def values(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """Null or a value of the type; floats may be NaN, infinite, or too large for float32."""
    if isinstance(type_, pa.DictionaryType):
        return values(type_.value_type)
    if pa.types.is_fixed_size_list(type_):
        return st.none() | st.lists(values(type_.value_type), min_size=2, max_size=2)
    if pa.types.is_integer(type_):
        return st.none() | st.integers(0, 255)
    return st.none() | st.sampled_from([0.5, -3.0, 3e38, float("nan"), float("inf"), -float("inf")])


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(NUMBERS)), dtype=st.sampled_from(["float32", "float64"]))
def test_no_batch_size_and_no_chunks_change_a_row(data: st.DataObject, kind: str, dtype: str) -> None:
    """In batches of any size, of columns in any chunks, each row is what it is alone."""
    type_ = NUMBERS[kind]
    rows = data.draw(st.lists(values(type_), min_size=1, max_size=12))
    cut = data.draw(st.integers(0, len(rows)))
    chunks = [pa.array(rows[:cut], type_), pa.array(rows[cut:], type_)]
    columns = {"x": chunks} if "list" in kind else {"x": chunks, "y": [pa.array(range(len(rows)), pa.int32())]}
    table = pa.table({name: pa.chunked_array(column) for name, column in columns.items()})
    found = features(dtype=dtype).inputs(table)
    size = data.draw(st.integers(1, len(rows)))
    together = [found.prepare(first, min(first + size, len(rows))) for first in range(0, len(rows), size)]
    alone = [prepare(table.slice(row, 1), dtype=dtype) for row in range(len(rows))]
    assert [reason for batch in together for reason in reasons(batch)] == [reason for row in alone for reason in reasons(row)]
    for first, batch in zip(range(0, len(rows), size), together, strict=True):
        again = found.prepare(first, min(first + size, len(rows)))  # the block holds the last batch only
        expected = [row for one in alone[first : first + size] for row in tensor(one).tolist()]
        assert tensor(again).tolist() == expected
        assert batch.valid == len(expected)


def test_collate_is_given_batches_of_a_column_in_chunks(folder: Path) -> None:
    """The rows from where the batch begins, whatever the chunks."""
    table = pa.concat_tables([TEXTS, TEXTS])
    found = features(collate="code.py:lengths", folder=folder).inputs(table).prepare(3, 6)
    assert isinstance(found.inputs, dict)
    assert {name: value.tolist() for name, value in found.inputs.items()} == {"n": [2, 1], "w": [4, 1]}
    assert reasons(found) == [None, None, "null"]


def test_a_model_may_write_to_its_inputs() -> None:
    """They are a copy: the column may be an id, too."""
    for table in (
        pa.table({"x": pa.array([1.0, 2.0], pa.float32())}),
        pa.table({"x": pa.array([[1.0]], pa.list_(pa.float32(), 1))}),
    ):
        before = table.to_pylist()
        tensor(prepare(table)).zero_()
        assert table.to_pylist() == before
