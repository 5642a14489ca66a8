"""How good the model is: each holdout in whole, by slice and by class, with its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from markupsafe import Markup

from jobs.foreign import name
from jobs.report.facts import Facts
from jobs.report.figures.axis import Axis, ratio_axis
from jobs.report.figures.small import share_bar, whisker
from jobs.report.words import Clock, bounds, plural, ratio
from jobs.summary import worst_slices
from monitoring.state import Thresholds
from pipelines.report import ClassReport, Estimate, HoldoutReport, SliceReport

_MOST_HOLDOUTS = 12
_MOST_SLICES = 200  # on the whole page
_OPEN = 15  # shown without a click
_MOST_CLASSES = 25
_MOST_CONFUSED = 12
_SHADES = 6
_NAME = 48


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure with bounds: as text, drawn, and against its threshold in words."""

    label: str
    value: str
    bounds: str
    drawing: Markup
    threshold: str
    judgement: str
    tone: str


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice. `figures` are accuracy and recall: value, bounds, drawing. `tags` say in words what the drawing says."""

    dimension: str
    value: str
    examples: str
    figures: tuple[tuple[str, str, Markup], ...]
    tags: tuple[str, ...]
    faint: bool


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class."""

    name: str
    examples: str
    predicted: str
    recall: str
    drawing: Markup
    precision: str


@dataclass(frozen=True, slots=True)
class Cell:
    """Examples of one class that were said to be of one class; `shade` from 0 (none) to 6 (all of the class)."""

    examples: str
    shade: int
    right: bool


@dataclass(frozen=True, slots=True)
class Confusion:
    """Which class was taken for which: a row a true class, a column a predicted one."""

    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """One holdout, ready to be laid out."""

    name: str
    when: str
    facts: str
    measures: tuple[Measure, ...]
    ends: tuple[str, str]
    first_slices: tuple[SliceRow, ...]
    more_slices: tuple[SliceRow, ...]
    slices_note: str
    classes: tuple[ClassRow, ...]
    classes_note: str
    confusion: Confusion | None


@dataclass(frozen=True, slots=True)
class Quality:
    """All holdouts that were judged; `unsaid` more are left out. `configured`: there are some."""

    holdouts: tuple[Judged, ...]
    unsaid: int
    configured: bool


def quality(facts: Facts) -> Quality:
    """What is known of the model, from the last evaluation of each holdout."""
    standing = list(facts.state.quality.values())
    shown = standing[:_MOST_HOLDOUTS]
    most = _MOST_SLICES // max(len(shown), 1)
    limits = facts.state.definition.thresholds
    return Quality(
        holdouts=tuple(_judged(one, limits, facts.clock, most_slices=most, most_classes=_most_classes(shown)) for one in shown),
        unsaid=len(standing) - len(shown),
        configured=bool(facts.state.definition.holdouts),
    )


def _most_classes(shown: list[HoldoutReport]) -> int:
    return max(5, 4 * _MOST_CLASSES // max(len(shown), 4))


def _judged(holdout: HoldoutReport, limits: Thresholds, clock: Clock, *, most_slices: int, most_classes: int) -> Judged:
    axis = ratio_axis(min(_lower_ends(holdout, limits), default=0.0))
    slices = _ordered(holdout.slices)
    rows = tuple(_slice_row(piece, axis, limits) for piece in slices[:most_slices])
    classes = sorted(holdout.classes, key=lambda one: (one.recall is None, one.recall or 0.0))
    return Judged(
        name=name(holdout.name),
        when=f"{clock.moment(holdout.evaluated_at)}, {clock.ago(holdout.evaluated_at)}",
        facts=_about(holdout),
        measures=tuple(_measures(holdout, axis, limits)),
        ends=(axis.ticks[0].label, axis.ticks[-1].label),
        first_slices=rows[:_OPEN],
        more_slices=rows[_OPEN:],
        slices_note=_slices_note(holdout, left=len(slices) - len(rows)),
        classes=tuple(_class_row(one) for one in classes[:most_classes]),
        classes_note=f"and {plural(len(classes) - most_classes, 'better class', 'better classes')}"
        if len(classes) > most_classes
        else "",
        confusion=_confusion(holdout) if 1 < len(holdout.classes) <= _MOST_CONFUSED else None,
    )


def _lower_ends(holdout: HoldoutReport, limits: Thresholds) -> Iterator[float]:
    judged = (one for one in holdout.slices if one.judged)
    bounded = (holdout.accuracy, holdout.recall, *(figure for one in judged for figure in (one.accuracy, one.recall)))
    yield from (value.lower for value in bounded if value is not None)
    plain = (holdout.precision, holdout.f1_score, limits.accuracy, limits.recall)
    yield from (value for value in plain if value is not None)


def _about(holdout: HoldoutReport) -> str:
    told = f"{plural(holdout.examples, 'labelled example')}, {holdout.correct:,} predicted right"
    if holdout.rejected:
        reasons = ", ".join(f"{name(reason)} {rows:,}" for reason, rows in sorted(holdout.rejected.items())[:10])
        told += f"; {plural(sum(holdout.rejected.values()), 'row')} could not be judged ({reasons})"
    return told


def _measures(holdout: HoldoutReport, axis: Axis, limits: Thresholds) -> Iterator[Measure]:
    for label, value, threshold in (
        ("Accuracy", holdout.accuracy, limits.accuracy),
        ("Recall", holdout.recall, limits.recall),
    ):
        if value is not None:
            judgement, tone = _judgement(value, threshold)
            needs = "no threshold" if threshold is None else f"needs {threshold:g}"
            drawing = whisker(value, axis, threshold=threshold)
            yield Measure(label, ratio(value.value), bounds(value), drawing, needs, judgement, tone)
    for label, plain in (("Precision", holdout.precision), ("F1", holdout.f1_score)):
        if plain is not None:
            yield Measure(label, ratio(plain), "", whisker(Estimate(plain, plain, plain), axis), "", "", "")


def _judgement(value: Estimate, threshold: float | None) -> tuple[str, str]:
    if threshold is None:
        return "", ""
    if value.upper < threshold:
        return "surely below", "failed"
    if value.value < threshold:
        return "below, but not surely", "partial"
    return ("surely met", "success") if value.lower >= threshold else ("met, but not surely", "success")


def _ordered(slices: tuple[SliceReport, ...]) -> list[SliceReport]:
    """The worst first; then those too small to judge, the largest first."""
    judged = worst_slices(slices, count=len(slices))
    known = {id(piece) for piece in judged}
    return judged + sorted((piece for piece in slices if id(piece) not in known), key=lambda piece: -piece.examples)


def _slice_row(piece: SliceReport, axis: Axis, limits: Thresholds) -> SliceRow:
    return SliceRow(
        dimension=name(piece.dimension, longest=_NAME),
        value=name(piece.value, longest=_NAME),
        examples=f"{piece.examples:,}",
        figures=(
            _bounded(piece.accuracy, axis, limits.accuracy, drawn=piece.judged),
            _bounded(piece.recall, axis, limits.recall, drawn=piece.judged),
        ),
        tags=tuple(_tags(piece, limits)),
        faint=not piece.judged,
    )


def _bounded(value: Estimate | None, axis: Axis, threshold: float | None, *, drawn: bool) -> tuple[str, str, Markup]:
    """Bounds of what is too small to judge reach from side to side: a drawing of them would only distract."""
    if value is None:
        return ratio(None), "", Markup()
    return ratio(value.value), bounds(value), whisker(value, axis, threshold=threshold) if drawn else Markup()


def _tags(piece: SliceReport, limits: Thresholds) -> Iterator[str]:
    if not piece.judged:
        yield "too small to judge"
        return
    low = [
        figure
        for figure, value, limit in (
            ("accuracy", piece.accuracy, limits.accuracy),
            ("recall", piece.recall, limits.recall),
        )
        if value is not None and limit is not None and value.upper < limit
    ]
    if low:
        yield "surely below" if len(low) > 1 else f"{low[0]} surely below"


def _slices_note(holdout: HoldoutReport, *, left: int) -> str:
    notes = [f"Slices with fewer than {plural(holdout.min_examples, 'example')} are too small to judge and stand last."]
    if left:
        notes.append(f"{plural(left, 'more slice is', 'more slices are')} not shown here.")
    if holdout.slices_dropped:
        notes.append(f"{plural(holdout.slices_dropped, 'small slice is', 'small slices are')} summed as __other__.")
    return " ".join(notes)


def _class_row(one: ClassReport) -> ClassRow:
    return ClassRow(
        name=name(one.name, longest=_NAME),
        examples=f"{one.examples:,}",
        predicted=f"{one.predicted:,}",
        recall=ratio(one.recall),
        drawing=Markup() if one.recall is None else share_bar(one.recall),
        precision=ratio(one.precision),
    )


def _confusion(holdout: HoldoutReport) -> Confusion:
    counts = {(true, predicted): examples for true, predicted, examples in holdout.confusion}
    names = tuple(name(one.name, longest=24) for one in holdout.classes)
    places = range(len(names))

    def cell(true: int, predicted: int) -> Cell:
        examples, of = counts.get((true, predicted), 0), holdout.classes[true].examples
        shade = min(_SHADES, ceil(_SHADES * examples / of)) if of else 0
        return Cell(f"{examples:,}" if examples else "·", shade, true == predicted)

    return Confusion(names, tuple((names[true], tuple(cell(true, other) for other in places)) for true in places))
