"""The label column: matched by value, and never by guessing."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import DataError
from pipelines.labels import UNLABELLED, Labels
from pipelines.slices import plain
from pipelines.values import ClassName


def indexes(labels: Labels, array: pa.Array) -> list[int]:
    labels.check(array.type)
    found: list[int] = labels.indexes(plain(pa.chunked_array([array]))).tolist()
    return found


DIGITS = Labels("digit", (0, 1, 2))

WHOLE = [
    *(pa.array([2, None, 0, 1], kind) for kind in (pa.int8(), pa.uint8(), pa.int16(), pa.int32(), pa.uint64(), pa.int64())),
    pa.array([2.0, float("nan"), 0.0, 1.0], pa.float64()),
    pa.array([2.0, None, -0.0, 1.0], pa.float32()),
    pa.array([np.float16(2), None, np.float16(0), np.float16(1)], pa.float16()),
    pa.array([Decimal("2.00"), None, Decimal(0), Decimal(1)], pa.decimal128(5, 2)),
    pa.array([2, None, 0, 1], pa.int64()).dictionary_encode(),
    pa.DictionaryArray.from_arrays([0, 1, 2, 3], pa.array([2, None, 0, 1])),
]


@pytest.mark.parametrize("array", WHOLE, ids=lambda array: str(array.type))
def test_whole_numbers_match_whatever_their_type(array: pa.Array) -> None:
    """A label is the class that equals it, in every numeric type; null and NaN are no label."""
    assert indexes(DIGITS, array) == [2, UNLABELLED, 0, 1]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_text_matches_whatever_its_type(kind: pa.DataType) -> None:
    """Text labels match text classes exactly, plain or as a dictionary."""
    labels = Labels("diagnosis", ("benign", "malignant"))
    array = pa.array(["malignant", None, "benign"], kind)
    assert indexes(labels, array) == [1, UNLABELLED, 0]
    assert indexes(labels, pa.array(array.to_pylist()).dictionary_encode()) == [1, UNLABELLED, 0]


@pytest.mark.parametrize("classes", [(False, True), (0, 1)])
def test_booleans_and_zero_and_one_are_the_same(classes: tuple[ClassName, ...]) -> None:
    """A boolean column serves classes 0 and 1, and numbers serve false and true."""
    labels = Labels("label", classes)
    assert indexes(labels, pa.array([True, False, None])) == [1, 0, UNLABELLED]
    assert indexes(labels, pa.array([1, 0, None])) == [1, 0, UNLABELLED]
    assert indexes(labels, pa.array([1, 0])) == [1, 0]
    turned = Labels("label", classes[::-1])
    assert indexes(turned, pa.array([1, 0])) == [0, 1]
    assert indexes(turned, pa.array([True, False])) == [0, 1]


def test_a_column_of_nulls_labels_nothing() -> None:
    """An all-null column, as pandas writes one without a type, is no error: no row has a label."""
    assert indexes(DIGITS, pa.nulls(2)) == [UNLABELLED, UNLABELLED]
    assert indexes(DIGITS, pa.array([], pa.int64())) == []


def test_labels_that_the_model_does_not_know_are_an_error() -> None:
    """The error says the column, how many rows, which labels (the first five), the classes, and what to do."""
    with pytest.raises(DataError) as caught:
        indexes(DIGITS, pa.array([9, 0, 9, 8, 7, 6, 5, 4]))
    message = str(caught.value)
    assert "'digit' has 7 rows of classes that the model does not know: 4, 5, 6, 7, 8, … (6 in all)" in message
    assert "the model's are 0, 1, 2." in message
    assert "[model] classes" in message


@pytest.mark.parametrize("array", [pa.array([1.5]), pa.array([float("inf")]), pa.array([-1]), pa.array([2**63], pa.uint64())])
def test_a_number_that_is_near_a_class_is_not_that_class(array: pa.Array) -> None:
    """A fraction, an infinity, a negative or a huge number is never rounded or wrapped into a class."""
    with pytest.raises(DataError, match="1 rows of classes that the model does not know"):
        indexes(DIGITS, array)


def test_text_for_numbers_says_so_with_an_example() -> None:
    """Text labels for number classes are refused by type, before any row is read."""
    with pytest.raises(DataError, match=r"'digit' has type string, but .* are numbers, and the text '0' is never 0; cast"):
        DIGITS.check(pa.string())


def test_numbers_for_text_say_so_with_an_example() -> None:
    """Number labels for text classes are refused by type, before any row is read."""
    labels = Labels("diagnosis", ("benign", "malignant"))
    with pytest.raises(DataError, match=r"has type int64, but .* are texts, and 0 is never the text 'benign'; cast"):
        labels.check(pa.int64())


@pytest.mark.parametrize("kind", [pa.date32(), pa.binary(), pa.list_(pa.int64()), pa.timestamp("us")], ids=str)
def test_other_types_can_be_no_label(kind: pa.DataType) -> None:
    """Dates, bytes and lists are refused, naming the column and its type."""
    with pytest.raises(DataError, match="'digit' has type "):
        DIGITS.check(kind)


def test_names_are_text() -> None:
    """Reports name classes by text; booleans as TOML and JSON write them."""
    assert DIGITS.names() == ["0", "1", "2"]
    assert Labels("label", (False, True)).names() == ["false", "true"]
