"""Figures by their values: a point lies where it should."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.report.figures.axis import Axis, Tick, amount_axis, count_axis, day_axis, number, ratio_axis, seconds_axis
from jobs.report.figures.plot import Bar, Change, Frame, Mark, Point, bar_plot, line_plot
from jobs.report.figures.signs import SHAPES, sign
from jobs.report.figures.small import share_bar, sparkline, stacked_bar, whisker
from pipelines.report import Estimate, Outcome

TEN = Axis(0.0, 10.0, (Tick(0.0, "0"), Tick(10.0, "10")))
TOP, BOTTOM = 18.0, 148.0  # of the plot, in pixels


def drawn(markup: str) -> ET.Element:
    return ET.fromstring(markup)  # noqa: S314  our own figures


def classed(figure: ET.Element, css_class: str) -> list[ET.Element]:
    return [one for one in figure.iter() if css_class in one.get("class", "").split()]


def labels(axis: Axis) -> list[str]:
    return [tick.label for tick in axis.ticks]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (count_axis(1500), ["0", "500", "1,000", "1,500"]),
        (count_axis(3), ["0", "1", "2", "3"]),
        (count_axis(0), ["0", "1"]),
        (count_axis(12_345_678), ["0", "5M", "10M", "15M"]),
        (amount_axis(0.7), ["0", "0.2", "0.4", "0.6", "0.8"]),
        (ratio_axis(0.74), ["0.7", "0.8", "0.9", "1"]),
        (ratio_axis(0.999), ["0.98", "0.985", "0.99", "0.995", "1"]),
        (ratio_axis(0.0), ["0", "0.5", "1"]),
        (ratio_axis(-0.1), ["0", "0.5", "1"]),
        (seconds_axis(0.0021), ["0 ms", "1 ms", "2 ms", "3 ms"]),
        (seconds_axis(100.0), ["0 s", "50 s", "100 s"]),
        (seconds_axis(130.0), ["0 min", "1 min", "2 min", "3 min"]),
        (seconds_axis(0.0), ["0 µs", "1 µs"]),
    ],
)
def test_ticks_are_those_that_a_person_would_choose(axis: Axis, expected: list[str]) -> None:
    """Round steps, a unit that suits, thousands separators."""
    assert labels(axis) == expected


@given(st.floats(0, 1e18))
def test_an_axis_reaches_over_its_values(high: float) -> None:
    """From nothing to at least the highest, in few steps, none of them twice."""
    for axis in (count_axis(high), amount_axis(high), seconds_axis(high)):
        assert axis.low == 0.0
        assert axis.high >= high * (1 - 1e-6)
        assert 2 <= len(axis.ticks) <= 6
        assert len({tick.value for tick in axis.ticks}) == len(axis.ticks)


@given(st.floats(0, 1))
def test_a_ratio_axis_ends_at_one(low: float) -> None:
    """And begins at or below the lowest."""
    axis = ratio_axis(low)
    assert axis.low <= low + 1e-9 or low > 0.98
    assert axis.high == pytest.approx(1.0)
    assert axis.ticks[-1].label == "1"


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (1, ["1 Oct 2026"]),
        (3, ["1 Oct", "2 Oct", "3 Oct"]),
        (12, ["1 Oct", "4 Oct", "7 Oct", "10 Oct"]),
        (30, ["5 Oct", "12 Oct", "19 Oct", "26 Oct"]),
        (90, ["Oct 2026", "Nov 2026", "Dec 2026"]),
        (400, ["Oct 2026", "Jan 2027", "Apr 2027", "Jul 2027", "Oct 2027"]),
        (4000, ["2028", "2030", "2032", "2034", "2036"]),
    ],
)
def test_days_are_ticked_by_the_calendar(days: int, expected: list[str]) -> None:
    """Days, Mondays, months, quarters, years; a tick stands at the middle of its day."""
    first = date(2026, 10, 1)
    axis = day_axis(first, first + timedelta(days=days - 1))
    assert labels(axis) == expected
    assert (axis.low, axis.high) == (first.toordinal(), first.toordinal() + days)
    assert all(tick.value % 1 == 0.5 for tick in axis.ticks)


@given(st.dates(), st.integers(0, 200_000))
def test_any_days_have_an_axis(first: date, span: int) -> None:
    """From the year 1 to 9999, with at most five ticks, all within."""
    last = date.fromordinal(min(first.toordinal() + span, date.max.toordinal()))
    axis = day_axis(first, last)
    assert 1 <= len(axis.ticks) <= 5
    assert all(axis.low <= tick.value <= axis.high for tick in axis.ticks)


def test_numbers_are_short() -> None:
    """Thousands separators, then millions."""
    assert [number(value) for value in (0, 12.624, 1500, 60_544.3, 999_999, 1_500_000, 2.5e9, 3e13)] == [
        "0", "12.62", "1,500", "60,544", "999,999", "1.5M", "2.5B", "30T",
    ]  # fmt: skip


def test_a_line_goes_through_its_points() -> None:
    """0 is at the bottom and 10 at the top; the width has 1000 units; a gap interrupts the line and its band."""
    points = [
        Point(0, 0.0, 0.0, 1.0),
        Point(5, 5.0, 4.0, 6.0),
        Point(6, None),
        Point(8, 10.0, 9.0, 10.0),
        Point(10, 2.5),
    ]
    figure = drawn(line_plot(Frame("label", TEN, TEN), points))
    assert [line.get("d") for line in classed(figure, "line")] == ["M0.0 148.0L500.0 83.0", "M800.0 18.0L1000.0 115.5"]
    assert classed(figure, "band")[0].get("d") == "M0.0 135.0L500.0 70.0L500.0 96.0L0.0 148.0Z"
    assert [(dot.get("cx"), dot.get("cy")) for dot in classed(figure, "dot")] == [
        ("0%", "148"),
        ("50%", "83"),
        ("80%", "18"),
        ("100%", "115.5"),
    ]
    assert (figure.get("role"), figure.get("aria-label"), figure.get("width")) == ("img", "label", "100%")


def test_a_point_alone_is_seen_among_many() -> None:
    """A long line has no dots, but where there is no line there is one."""
    many = [Point(x / 10, 5.0) for x in range(80)]
    figure = drawn(line_plot(Frame("", TEN, TEN), [*many, Point(9, None), Point(10, 10.0)]))
    assert [(dot.get("cx"), dot.get("cy")) for dot in classed(figure, "dot")] == [("100%", "18")]


def test_bars_stand_on_the_axis() -> None:
    """As wide as they are told, as high as their value."""
    figure = drawn(bar_plot(Frame("", TEN, TEN), [Bar(2, 5.0, 2.0, "five"), Bar(9.5, 10.0, 2.0)]))
    places = [tuple(bar.get(key) for key in ("x", "width", "y", "height")) for bar in classed(figure, "bar")]
    assert places == [("10%", "20%", "83", "65"), ("85%", "15%", "18", "130")]
    assert [note.text for note in figure.iter("title")] == ["five"]


def test_threshold_marks_and_changes_have_their_places() -> None:
    """The threshold at its height, marks under the axis, changes from top to bottom."""
    marks = (Mark(5, "failed", "Monday"), Mark(10, "partial"))
    frame = Frame(
        "", TEN, TEN, threshold=9.0, marks=marks, changes=(Change(2.5, "v2"), Change(3, "v3"), Change(9, "a very long version"))
    )
    figure = drawn(line_plot(frame, []))
    assert [line.get("y1") for line in classed(figure, "threshold")] == ["31"]
    assert [[one.get("d") for one in classed(figure, kind)] for kind in ("failed", "partial")] == [
        [SHAPES["failed"]],
        [SHAPES["partial"]],
    ]
    assert [(line.get("x1"), line.get("y2")) for line in classed(figure, "change")] == [
        ("25%", "148"),
        ("30%", "148"),
        ("90%", "148"),
    ]
    texts = [text.text for text in figure.iter("text")]
    assert "v2" in texts
    assert "v3" not in texts  # it would lie on v2
    assert "a very long ve…" in texts


def test_many_marks_are_strokes_in_a_row_for_each_kind() -> None:
    """Hundreds of signs would be a blot, and weigh more than the page."""
    marks = [Mark(x / 10, "failed" if x % 2 else "partial") for x in range(100)]
    figure = drawn(line_plot(Frame("", TEN, TEN, marks=marks), []))
    strokes = {kind: classed(figure, kind)[0].get("d", "") for kind in ("failed", "partial")}
    assert strokes["failed"].startswith("M10 149v3M30 149v3")
    assert strokes["partial"].startswith("M0 153v3M20 153v3")
    assert [text.count("M") for text in strokes.values()] == [50, 50]
    assert classed(figure, "skipped") == []


def test_a_whisker_reaches_from_bound_to_bound() -> None:
    """Surely below the threshold it is a diamond, else a dot; with one value there is nothing to reach."""
    figure = drawn(whisker(Estimate(5, 2.5, 7.5), TEN, threshold=7.0))
    assert [line.get("d") for line in classed(figure, "reach")] == ["M250 9H750M250 5v8M750 5v8"]
    assert [dot.get("cx") for dot in classed(figure, "dot")] == ["50%"]
    assert [line.get("d") for line in classed(figure, "threshold")] == ["M700 0V18"]
    below = drawn(whisker(Estimate(5, 2.5, 7.5), TEN, threshold=8.0))
    assert [dot.tag for dot in classed(below, "dot")] == ["path"]
    assert "below" in (below.get("class") or "")
    assert classed(drawn(whisker(Estimate(5, 5, 5), TEN)), "reach") == []


def test_a_sparkline_fills_its_height() -> None:
    """The lowest value is at the bottom and the highest at the top; the dot is at the last."""
    figure = drawn(sparkline([1.0, None, 3.0], "label"))
    assert [line.get("d") for line in classed(figure, "line")] == ["M0.0 25.0L100.0 3.0"]
    assert [(dot.get("cx"), dot.get("cy")) for dot in classed(figure, "dot")] == [("100%", "3")]
    assert [line.get("d") for line in classed(drawn(sparkline([2.0, 2.0], "")), "line")] == ["M0.0 14.0L100.0 14.0"]
    assert sparkline([None], "label") == ""


def test_a_stacked_bar_adds_up() -> None:
    """Side by side, as wide as their share; nothing when there is nothing to share."""
    figure = drawn(stacked_bar([("read", 1.0), ("infer", 3.0)], "label"))
    assert [(piece.get("x"), piece.get("width")) for piece in figure.iter("rect")] == [("0%", "25%"), ("25%", "75%")]
    assert [note.text for note in figure.iter("title")] == ["read 25%", "infer 75%"]
    assert stacked_bar([("read", 0.0)], "label") == ""
    assert [bar.get("width") for bar in classed(drawn(share_bar(0.6)), "bar")] == ["60%"]


@pytest.mark.parametrize("words", ["<script>", "\"onload='x'", "&amp;", "{{ 1 }}", "]]>"])
def test_words_in_figures_are_words(words: str) -> None:
    """Whatever a job is called, it comes out as it went in, and as nothing else."""
    frame = Frame(words, TEN, TEN, marks=(Mark(1, "failed", words),), changes=(Change(1, words),))
    figure = drawn(line_plot(frame, [Point(1, 1.0, note=words)]))
    assert figure.get("aria-label") == words
    assert [note.text for note in figure.iter("title")] == [words, words]
    assert words in [text.text for text in figure.iter("text")]
    assert [one for one in figure.iter() if one.tag not in {"svg", "line", "text", "circle", "rect", "path", "title"}] == []


def test_every_state_has_a_sign_of_its_own() -> None:
    """Nobody needs to see colours."""
    assert len(set(SHAPES.values())) == len(SHAPES)
    for kind in (*Outcome, "running", "idle"):
        assert drawn(sign(kind)).get("aria-hidden") == "true"
