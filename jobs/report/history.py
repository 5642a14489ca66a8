"""How it went over the runs: figures over the days they were for, and the newest runs as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from statistics import median

from jobs.foreign import name
from jobs.report.facts import Facts
from jobs.report.figures.axis import Axis, count_axis, day_axis, ratio_axis
from jobs.report.figures.plot import KINDS, Bar, Change, Frame, Mark, Point, bar_plot, line_plot
from jobs.report.quantities import DURATION, LATENCY, SPEED, Figure, Quantity
from jobs.report.tiles import held_out
from jobs.report.words import duration, plural, ratio
from jobs.summary import estimate, seconds
from monitoring.ledger import RunRecord
from pipelines.report import Estimate, Outcome, RunReport

_MOST_ROWS = 30
_MOST_HOLDOUTS = 3
_MOST_CHANGES = 30
_FAR = 35  # days without a run, after which runs are another story; jobs that run rarely get four times their own pace


@dataclass(frozen=True, slots=True)
class Placed:
    """A finished run and where it is drawn: on the day it was for, several of one day side by side."""

    x: float
    width: float
    report: RunReport

    @property
    def counts(self) -> bool:
        """Whether it has figures to draw."""
        return self.report.outcome.began


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the table."""

    started: str
    day: str
    trigger: str
    outcome: str
    took: str
    scored: str
    rejected: str
    speed: str
    latency: str
    accuracy: str
    recall: str


@dataclass(frozen=True, slots=True)
class History:
    """The figures, what the signs in them stand for (`marks`), and the table, the newest first."""

    figures: tuple[Figure, ...]
    marks: tuple[str, ...]
    changes: bool
    bands: bool
    thresholds: bool
    note: str
    rows: tuple[RunRow, ...]
    rows_note: str


def history(facts: Facts) -> History:
    """Of all the runs that the facts hold."""
    ended = [run.report for run in facts.runs if run.report is not None]
    placed = placed_runs(ended)
    holdouts = facts.state.definition.holdouts[:_MOST_HOLDOUTS]
    figures = tuple(_figures(placed, holdouts, facts)) if placed else ()
    limits = facts.state.definition.thresholds
    judged = any(one.report.holdouts for one in placed)
    rows = facts.runs[:_MOST_ROWS]
    return History(
        figures=figures,
        marks=tuple(kind for kind in KINDS if any(one.report.outcome == kind for one in placed)),
        changes=bool(_changes(placed)),
        bands=judged,
        thresholds=judged and (limits.accuracy is not None or limits.recall is not None),
        note=_note(facts, placed, ended),
        rows=tuple(_row(run, facts) for run in rows),
        rows_note="" if len(rows) == len(facts.runs) else f"The newest {len(rows)}; 'batchgauge history' has the others.",
    )


def _note(facts: Facts, placed: list[Placed], ended: list[RunReport]) -> str:
    notes = [f"{plural(len(placed), 'run')}, each on the day that it was for."]
    if facts.older_runs:
        notes.append("Older runs are in the ledger and not drawn.")
    if len(placed) < len(ended):
        far = len(ended) - len(placed)
        notes.append(f"{plural(far, 'run')} for days far from the others {'is' if far == 1 else 'are'} not drawn.")
    if len(facts.state.definition.holdouts) > _MOST_HOLDOUTS:
        notes.append(f"Quality is drawn for the first {_MOST_HOLDOUTS} holdouts.")
    return " ".join(notes)


def placed_runs(reports: Sequence[RunReport]) -> list[Placed]:
    """Finished runs (newest first) on their days, in the order of the axis; without those for days far from the others."""
    if not reports:
        return []
    near = _near({report.logical_date for report in reports}, _anchor(reports))
    drawn = sorted((one for one in reports if one.logical_date in near), key=lambda one: (one.logical_date, one.started_at))
    of_day = Counter(one.logical_date for one in drawn)
    before: Counter[date] = Counter()
    placed = []
    for report in drawn:
        day = report.logical_date
        width = 1 / of_day[day]
        placed.append(Placed(day.toordinal() + (before[day] + 0.5) * width, width, report))
        before[day] += 1
    return placed


def _near(days: set[date], anchor: date) -> set[date]:
    """The days that no long gap parts from the anchor: one backfill of 1999 must not squeeze a year into a line."""
    ordered = sorted(days)
    gaps = [(later - earlier).days for earlier, later in pairwise(ordered)]
    if not gaps:
        return days
    longest = max(_FAR, 4 * median(gaps))
    groups: list[list[date]] = [[ordered[0]]]
    for day, gap in zip(ordered[1:], gaps, strict=True):
        if gap > longest:
            groups.append([])
        groups[-1].append(day)
    return next(set(group) for group in groups if anchor in group)


def _anchor(reports: Sequence[RunReport]) -> date:
    """The day of the newest run that was for a day near its own; a backfill isn't."""
    for report in reports:
        late = datetime.fromtimestamp(report.started_at, UTC).date() - report.logical_date
        if abs(late.days) <= _FAR:
            return report.logical_date
    return reports[0].logical_date


def _figures(placed: list[Placed], holdouts: Sequence[str], facts: Facts) -> Iterator[Figure]:
    x = day_axis(placed[0].report.logical_date, placed[-1].report.logical_date)
    marks = [
        Mark(one.x, str(one.report.outcome), f"{one.report.logical_date}: {one.report.outcome}")
        for one in placed
        if one.report.outcome is not Outcome.SUCCESS
    ]
    changes = _changes(placed)[-_MOST_CHANGES:]

    def frame(caption: str, y: Axis, threshold: float | None = None) -> Frame:
        signs = Counter(mark.kind for mark in marks)
        told = "".join(f", {count:,} {kind}" for kind, count in sorted(signs.items()))
        return Frame(f"{caption} over {plural(len(placed), 'run')}{told}", x, y, threshold, marks, changes)

    limits = facts.state.definition.thresholds
    for holdout in holdouts:
        where = f" on {name(holdout)}"
        for figure, threshold in (("accuracy", limits.accuracy), ("recall", limits.recall)):
            points = [_judged(one, holdout, figure) for one in placed if one.counts]
            lower = [point.lower for point in points if point.lower is not None]
            if lower:
                y = ratio_axis(min(*lower, *([threshold] if threshold is not None else []), 1.0))
                caption = f"{figure.capitalize()}{where}"
                drawing = line_plot(frame(_with_ends(caption, points), y, threshold), points)
                yield Figure(caption, "with 95 % bounds" + (f"; needs {threshold:g}" if threshold is not None else ""), drawing)
    scored = [
        Bar(one.x, float(one.report.rows_scored), 0.7 * one.width, _said(one, f"{one.report.rows_scored:,} rows"))
        for one in placed
        if one.counts
    ]
    yield Figure(
        "Rows scored", "", bar_plot(frame("Rows scored", count_axis(max((bar.height for bar in scored), default=0.0))), scored)
    )
    for caption, hint, quantity, value in _LINES:
        points = [_measured(one, value, quantity.said) for one in placed if one.counts]
        known = [point.y for point in points if point.y is not None]
        if known:
            told = frame(_with_ends(caption, points, quantity.said), quantity.axis(max(known)))
            yield Figure(caption, hint, line_plot(told, points))


_Value = Callable[[RunReport], float | None]
_LINES: tuple[tuple[str, str, Quantity, _Value], ...] = (
    ("Throughput", "rows per second", SPEED, lambda report: report.throughput_rows_per_second),
    ("Batch latency, p95", "", LATENCY, lambda report: report.latency_quantiles.get(0.95)),
    ("Duration", "of the whole run", DURATION, lambda report: report.elapsed_seconds),
)


def _with_ends(caption: str, points: Sequence[Point], said: Callable[[float], str] = ratio) -> str:
    known = [point.y for point in points if point.y is not None]
    return f"{caption}: {said(known[0])} at first, {said(known[-1])} at last, {said(min(known))} to {said(max(known))},"


def _measured(one: Placed, value: _Value, said: Callable[[float], str]) -> Point:
    found = value(one.report)
    return Point(one.x, found, note="" if found is None else _said(one, said(found)))


def _judged(one: Placed, holdout: str, figure: str) -> Point:
    held = held_out(one.report, holdout)
    found: Estimate | None = getattr(held, figure) if held else None
    if found is None:
        return Point(one.x, None)
    return Point(one.x, found.value, found.lower, found.upper, _said(one, estimate(found)))


def _said(one: Placed, value: str) -> str:
    return f"{one.report.logical_date}: {value}"


def _changes(placed: list[Placed]) -> list[Change]:
    """Where another model version takes over; runs that never got as far as a model are passed over."""
    known = [(one.x - one.width / 2, one.report.model.version) for one in placed if one.report.model is not None]
    return [Change(x, name(version)) for (_, before), (x, version) in pairwise(known) if version != before]


def _row(run: RunRecord, facts: Facts) -> RunRow:
    report = run.report
    judged = next((held_out(report, holdout) for holdout in facts.state.definition.holdouts), None) if report else None
    speed = report.throughput_rows_per_second if report else None
    latency = report.latency_quantiles.get(0.95) if report else None
    began = run.outcome is None or run.outcome.began
    return RunRow(
        started=facts.clock.short(run.started_at),
        day=str(run.logical_date),
        trigger=str(run.trigger),
        outcome=str(run.outcome or "running"),
        took=duration(report.elapsed_seconds) if report and began else "–",
        scored=f"{run.rows_scored:,}" if began else "–",
        rejected=f"{run.rows_rejected:,}" if began else "–",
        speed=f"{speed:,.0f}" if speed else "–",
        latency=seconds(latency) if latency is not None else "–",
        accuracy=estimate(judged.accuracy if judged else None),
        recall=estimate(judged.recall if judged else None),
    )
