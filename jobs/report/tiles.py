"""The figures that one looks at first, each with how it went over the last runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from jobs.report.facts import Facts
from jobs.report.figures.axis import number
from jobs.report.figures.small import sparkline
from jobs.report.words import bounds, duration, plural, ratio
from jobs.summary import seconds
from pipelines.report import HoldoutReport, RunReport

_SPARKS = 30
_LONG = 10_000_000  # from here on a tile shows millions


@dataclass(frozen=True, slots=True)
class Tile:
    """A main figure: what it is called, its value, what belongs to it, and how it went over the last runs."""

    label: str
    value: str
    aside: str
    spark: Markup


def tiles(facts: Facts) -> tuple[Tile, ...]:
    """The figures that one looks at first; none before the first run has ended."""
    report = facts.state.latest
    if report is None:
        return ()
    ended = [run.report for run in facts.runs if run.report and run.report.outcome.began]
    past = ended[:_SPARKS][::-1]

    def spark(label: str, value: Callable[[RunReport], float | None]) -> Markup:
        return sparkline([value(one) for one in past], f"{label} over the last {plural(len(past), 'run')}")

    speed, latency = report.throughput_rows_per_second, report.latency_quantiles
    return (
        Tile(
            "Rows scored",
            f"{report.rows_scored:,}" if report.rows_scored < _LONG else number(report.rows_scored),
            _of_read(report),
            spark("Rows scored", lambda one: one.rows_scored),
        ),
        Tile("Took", duration(report.elapsed_seconds), _resting(report), spark("Duration", lambda one: one.elapsed_seconds)),
        Tile(
            "Throughput",
            "–" if speed is None else number(speed),
            "rows per second",
            spark("Throughput", lambda one: one.throughput_rows_per_second),
        ),
        Tile(
            "Batch latency, p95",
            seconds(latency[0.95]) if 0.95 in latency else "–",  # noqa: PLR2004  the percentile's key
            f"slowest {seconds(latency[1.0])}" if 1.0 in latency else "no batches",
            spark("Batch latency, p95", lambda one: one.latency_quantiles.get(0.95)),
        ),
        *_quality_tiles(facts, spark),
    )


def _of_read(report: RunReport) -> str:
    if report.parts_skipped and not report.rows_read:
        return "all was scored before"
    return f"of {report.rows_read:,} read"


def _resting(report: RunReport) -> str:
    return f"{seconds(report.scoring_seconds)} of it scoring" if report.scoring_seconds else "no time for scoring"


def _quality_tiles(facts: Facts, spark: Callable[[str, Callable[[RunReport], float | None]], Markup]) -> Iterator[Tile]:
    standing = next(iter(facts.state.quality.values()), None)
    if standing is None:
        return
    limits = facts.state.definition.thresholds
    for label, threshold in (("Accuracy", limits.accuracy), ("Recall", limits.recall)):
        figure = label.lower()
        estimate = getattr(standing, figure)
        if estimate is None:
            continue
        aside = bounds(estimate) + (f", needs {threshold:g}" if threshold is not None else "")

        def past(report: RunReport, figure: str = figure) -> float | None:
            held = held_out(report, standing.name)
            found = getattr(held, figure) if held else None
            return found.value if found else None

        yield Tile(label, ratio(estimate.value), aside, spark(label, past))


def held_out(report: RunReport, holdout: str) -> HoldoutReport | None:
    """What a run found on a holdout; None when it didn't judge it."""
    return next((one for one in report.holdouts if one.name == holdout and not one.error), None)
