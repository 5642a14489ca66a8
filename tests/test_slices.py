"""Slices: which slice a row is in, and how it is called."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.errors import DataError
from pipelines.settings import HoldoutSettings
from pipelines.slices import Coded, SliceDimension, dimensions


def settings(*slices: Any) -> HoldoutSettings:
    return HoldoutSettings.model_validate({"name": "labelled", "path": "p", "label": "digit", "slices": slices})


def dimension(entry: Any) -> SliceDimension:
    (only,) = dimensions(settings(entry))
    return only


def values(entry: Any, **columns: Any) -> list[str]:
    found = dimension(entry).code(pa.table(columns))
    names = found.values.to_pylist()
    assert len(set(names)) == len(names)
    return [names[code] for code in found.codes]


def test_dimensions_are_named_by_their_columns() -> None:
    """A column, a binned column, and a cross of both."""
    bins = {"column": "ink", "bins": [4.5, 5.5]}
    found = dimensions(settings("scanner", bins, ["scanner", bins]))
    assert [one.name for one in found] == ["scanner", "ink", "scanner,ink"]
    assert [one.columns for one in found] == [("scanner",), ("ink",), ("scanner", "ink")]
    assert dimensions(settings()) == ()


@pytest.mark.parametrize(
    "slices",
    [
        ["ink", {"column": "ink", "bins": [1.0]}],
        ["scanner", ["scanner"]],
        [["a", "b"], ["a", "b"]],
        ["a,b", ["a", "b"]],
    ],
)
def test_two_dimensions_of_one_name_are_refused(slices: list[Any]) -> None:
    """Their slices could not be told apart in the metrics."""
    with pytest.raises(ValidationError, match=r"two dimensions called"):
        settings(*slices)


@pytest.mark.parametrize(
    "slices", [[[]], [{"column": "ink", "bins": [float("nan")]}], [{"column": "ink", "bins": [float("inf")]}]]
)
def test_an_empty_cross_or_an_edge_that_is_no_number_is_refused(slices: list[Any]) -> None:
    """A cross of nothing and bins without a finite edge mean nothing."""
    with pytest.raises(ValidationError):
        settings(*slices)


PLAIN = {
    "text": (pa.array(["a", None, "b", "a"]), ["a", "null", "b", "a"]),
    "text view": (pa.array(["a", None], pa.string_view()), ["a", "null"]),
    "integers": (pa.array([7, -1, None], pa.int8()), ["7", "-1", "null"]),
    "floats": (pa.array([7.0, 0.1, float("nan"), None, -0.0, 0.0]), ["7", "0.1", "null", "null", "0", "0"]),
    "float32": (pa.array([0.1, 7], pa.float32()), ["0.1", "7"]),
    "float16": (pa.array([np.float16(0.5), None], pa.float16()), ["0.5", "null"]),
    "booleans": (pa.array([True, False, None]), ["true", "false", "null"]),
    "decimals": (pa.array([Decimal("1.50")], pa.decimal128(5, 2)), ["1.50"]),
    "dates": (pa.array([date(2026, 11, 22), None]), ["2026-11-22", "null"]),
    "dictionary": (
        pa.DictionaryArray.from_arrays([0, 1, None, 2, 0], pa.array(["x", None, "y"])),
        ["x", "null", "null", "y", "x"],
    ),
    "all null": (pa.nulls(2), ["null", "null"]),
    "empty": (pa.array([], pa.string()), []),
    "sliced": (pa.array(["a", "b", "c"]).slice(1), ["b", "c"]),
}


@pytest.mark.parametrize("case", PLAIN)
def test_values_are_text_as_arrow_writes_them(case: str) -> None:
    """Null and NaN are `null`, a whole float reads like the integer, -0.0 is 0."""
    array, expected = PLAIN[case]
    assert values("column", column=array) == expected


def test_chunks_with_their_own_dictionaries_share_their_values() -> None:
    """The same text is the same slice, whatever code a chunk's dictionary gives it."""
    chunks = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]
    assert values("column", column=pa.chunked_array(chunks)) == ["a", "b", "b", "c"]


def test_dictionaries_of_the_same_letters_are_told_apart() -> None:
    """One part's dictionary is remembered for the next: only if it is the same, text by text."""
    for texts in (["ab", "c"], ["a", "bc"], ["a", "bc", None], ["a", "bc", ""], ["ab", "c"], ["ab", "c", "ab"]):
        dictionary = pa.DictionaryArray.from_arrays(pa.array(range(len(texts)), pa.int32()), pa.array(texts))
        expected = [{None: "null", "": '""'}.get(text, text) for text in texts]
        assert values("column", column=pa.chunked_array([dictionary])) == expected


def test_data_that_reads_like_a_reserved_value_is_escaped() -> None:
    """Data's own `null`, `__other__`, `""` and backslashes can't be mistaken; empty text is shown, not empty."""
    texts = ["null", None, "__other__", '""', "", "\\null", "\\", "a,b"]
    assert values("column", column=pa.array(texts)) == [
        "\\null", "null", "\\__other__", '\\""', '""', "\\\\null", "\\\\", "a,b",
    ]  # fmt: skip


def test_a_comma_in_the_data_is_no_boundary_of_a_cross() -> None:
    """`n,l` with `u` and `n` with `l,u` are two slices."""
    found = values(["a", "b"], a=pa.array(["n,l", "n", "n\\"]), b=pa.array(["u", "l,u", "u"]))
    assert found == ["n\\,l,u", "n,l\\,u", "n\\\\,u"]


@given(st.lists(st.tuples(*[st.one_of(st.none(), st.text(alphabet=',\\"_nul ', max_size=5))] * 2), min_size=1, max_size=20))
def test_different_values_never_share_a_name(rows: list[tuple[str | None, str | None]]) -> None:
    """Two rows are in one slice exactly when they agree in every column of the dimension."""
    columns = {name: pa.array([row[position] for row in rows], pa.string()) for position, name in enumerate("ab")}
    crossed, alone = values(["a", "b"], **columns), values("a", **columns)
    assert len(set(crossed)) == len(set(rows))
    assert len(set(alone)) == len({first for first, _ in rows})
    assert "" not in crossed + alone


def test_long_text_is_cut_and_stays_apart() -> None:
    """200 characters are kept as they are; of more the end is a digest of all, the same for the same text."""
    texts = ["é" * 200, "é" * 201, "é" * 201, "é" * 202, None]
    table = pa.table({"text": pa.array(texts)})
    coded = SliceDimension("text", ("text",)).code(table)
    values = [coded.values[code].as_py() for code in coded.codes]
    assert values[0] == "é" * 200
    assert values[1] == values[2] != values[3]
    assert {len(value) for value in values[:4]} == {200}
    assert values[4] == "null"


def test_no_text_reads_like_one_that_was_cut() -> None:
    """Whatever the data has: a cut value of its own, escaped or not, or one that is cut within an escape."""
    long = "x" * 181 + "\\" + "y" * 50
    (cut,) = values("text", text=pa.array([long]))
    texts = [long, cut, cut.replace("\\\\", "\\"), cut.replace("\\…", "…"), "x" * 181 + cut[183:], long[:-1]]
    assert len(set(values("text", text=pa.array(texts)))) == len(set(texts))


def test_bins_hold_their_lower_edge() -> None:
    """Below the first edge, from edge to edge (lower one included), and from the last edge on; null and NaN apart."""
    entry = {"column": "ink", "bins": [4.5, 5, 1e20]}
    numbers = [4.4, 4.5, 4.9, 5.0, 1e30, -np.inf, np.inf, np.nan, None]
    expected = ["< 4.5", "4.5 to 5", "4.5 to 5", "5 to 1e+20", ">= 1e+20", "< 4.5", ">= 1e+20", "null", "null"]
    assert values(entry, ink=pa.array(numbers, from_pandas=False)) == expected
    assert values({"column": "ink", "bins": [5]}, ink=pa.array([4, 5])) == ["< 5", ">= 5"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([4, None, 6], pa.uint8()),
        pa.array([4, None, 2**62 + 1], pa.int64()),
        pa.array([Decimal(4), None, Decimal(6)], pa.decimal128(5, 2)),
        pa.array([4, None, 6]).dictionary_encode(),
        pa.array([np.float16(4), None, np.float16(6)], pa.float16()),
    ],
    ids=lambda array: str(array.type),
)
def test_bins_take_every_numeric_type(array: pa.Array) -> None:
    """Integers, also those that float64 can't hold exactly, decimals, half floats and dictionaries are cut alike."""
    assert values({"column": "ink", "bins": [5]}, ink=array) == ["< 5", "null", ">= 5"]
    dimension({"column": "ink", "bins": [5]}).check(pa.schema({"ink": array.type}))


@pytest.mark.parametrize("kind", [pa.string(), pa.bool_(), pa.date32(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_bins_of_what_is_not_a_number_are_refused(kind: pa.DataType) -> None:
    """The error names the column and its type, and says what to do."""
    with pytest.raises(DataError, match=r"column 'ink' has type .*, and only numbers can be cut into bins; cast it"):
        dimension({"column": "ink", "bins": [5]}).check(pa.schema({"ink": kind}))


@pytest.mark.parametrize("kind", [pa.list_(pa.int8()), pa.struct({"a": pa.int8()})], ids=str)
def test_nested_columns_are_refused(kind: pa.DataType) -> None:
    """A list or a struct has no text that could name a slice."""
    with pytest.raises(DataError, match=r"column 'ink' .* can't be sliced by"):
        dimension("ink").check(pa.schema({"ink": kind}))


def test_bytes_that_are_no_text_are_refused() -> None:
    """A value that isn't UTF-8 could not be shown: the error names the column."""
    with pytest.raises(DataError, match=r"column 'ink' .* can't be sliced by"):
        dimension("ink").code(pa.table({"ink": pa.array([b"\xff\xfe"])}))


def test_a_cross_of_many_wide_columns_does_not_overflow() -> None:
    """Five columns of 10,000 values have more combinations than int64 can count; those that occur are all there."""
    rows = 10_000
    columns = {name: pa.array(np.random.default_rng(seed).permutation(rows)) for seed, name in enumerate("abcde")}
    assert len(set(values(list("abcde"), **columns))) == rows


def test_an_empty_table_has_no_slices() -> None:
    """No rows, no values."""
    coded = dimension(["a", {"column": "b", "bins": [1]}]).code(
        pa.table({"a": pa.array([], pa.string()), "b": pa.array([], pa.int8())})
    )
    assert isinstance(coded, Coded)
    assert len(coded.values) == 0


TEXT = st.none() | st.sampled_from(["a", "b", "", "null", "a,b", "\\", "ü"])


@given(
    st.sampled_from([pa.string(), pa.large_string()]),
    st.lists(TEXT, min_size=1, max_size=6),
    st.lists(st.lists(st.none() | st.integers(0, 5), max_size=8), max_size=3),
)
def test_coded_text_is_sliced_as_plain_text_is(
    kind: pa.DataType, entries: list[str | None], pieces: list[list[int | None]]
) -> None:
    """In one dictionary or several, with null as an entry, values twice, and some that no row has."""
    chunks = [
        pa.DictionaryArray.from_arrays(
            pa.array([None if row is None else row % len(entries) for row in rows], pa.int32()),
            pa.array(entries[turn % len(entries) :] + entries[: turn % len(entries)], kind),
        )
        for turn, rows in enumerate(pieces)
    ]
    coded = pa.chunked_array(chunks, pa.dictionary(pa.int32(), kind))
    plain = pa.chunked_array([chunk.cast(kind) for chunk in chunks], kind)
    assert values("x", x=coded) == values("x", x=plain)
    assert values(["x", "x2"], x=coded, x2=coded) == values(["x", "x2"], x=plain, x2=plain)
