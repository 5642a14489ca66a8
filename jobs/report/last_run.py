"""The last finished run: all its figures, where its time went, its batches, and what it rejected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from jobs.foreign import LONGEST_NAME, name, text
from jobs.report.batch_figures import batch_figures
from jobs.report.facts import Facts
from jobs.report.figures.small import stacked_bar
from jobs.report.quantities import Figure
from jobs.report.words import binary_bytes, duration
from jobs.summary import seconds
from pipelines.report import Outcome, RunReport, Stage, TuningReport

_MOST_REJECTIONS = 20
_PERCENTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (1.0, "slowest"))


@dataclass(frozen=True, slots=True)
class Share:
    """A stage's part of the time: its name, seconds and share in words, and its colour's number."""

    name: str
    seconds: str
    share: str
    colour: int


@dataclass(frozen=True, slots=True)
class Time:
    """Where the time went."""

    drawing: Markup
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """What was not scored: rows by reason, and files or parts with their error; `unsaid` more are left out."""

    reasons: tuple[tuple[str, str, str], ...]
    wholes: tuple[tuple[str, str, str], ...]
    unsaid: int


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last finished run, ready to be laid out. `groups` are headed lists of (label, value)."""

    outcome: str
    run_id: str
    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    time: Time | None
    batches: tuple[Figure, ...]
    batches_note: str
    rejected: Rejected | None


def last_run(facts: Facts) -> LastRun | None:
    """The last finished run; None before there is one."""
    report = facts.state.latest
    if report is None:
        return None
    figures = batch_figures(facts.batches) if facts.batches else ()
    return LastRun(
        outcome=str(report.outcome),
        run_id=name(report.run_id),
        groups=tuple((heading, tuple(rows)) for heading, rows in _groups(report, facts)),
        time=_time(report),
        batches=figures,
        batches_note=_batches_note(facts, report),
        rejected=_rejected(report),
    )


def _groups(report: RunReport, facts: Facts) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    yield "Run", _run_rows(report, facts)
    yield "Data", _data_rows(report)
    yield "Speed", _speed_rows(report, facts.state.definition.thresholds.latency_seconds)
    if report.tuning is not None:
        yield "What auto was settled to", _tuning_rows(report.tuning, facts)
    yield "Model and machine", _model_rows(report)


def _run_rows(report: RunReport, facts: Facts) -> Iterator[tuple[str, str]]:
    clock = facts.clock
    yield "For the day", str(report.logical_date)
    yield "Started", clock.moment(report.started_at)
    yield "Ended", clock.moment(report.finished_at)
    yield "Started by", str(report.trigger)
    if facts.state.last_success_at and report.outcome is not Outcome.SUCCESS:
        yield "Last success", f"{clock.moment(facts.state.last_success_at)}, {clock.ago(facts.state.last_success_at)}"


def _data_rows(report: RunReport) -> Iterator[tuple[str, str]]:
    yield "Rows read", f"{report.rows_read:,}"
    yield "Rows scored", f"{report.rows_scored:,}"
    yield "Rows rejected", f"{report.rows_rejected_total:,}"
    yield "Parts done", f"{report.parts_done:,} of {report.parts_planned:,}"
    yield "Parts there before", f"{report.parts_skipped:,}"


def _speed_rows(report: RunReport, limit: float | None) -> Iterator[tuple[str, str]]:
    if report.latency_seconds is not None:
        needs = "" if limit is None else f", may be {duration(limit)}"
        yield "Mean time of a row", f"{seconds(report.latency_seconds)}{needs}"
    for quantile, label in _PERCENTILES:
        if quantile in report.latency_quantiles:
            yield f"Batch latency, {label}", seconds(report.latency_quantiles[quantile])
    if report.batches:
        yield "Batches", f"{report.batches:,}" + (f" of {report.batch_rows:,} rows" if report.batch_rows else "")
    if report.batches_out_of_memory:
        yield "Batches out of memory", f"{report.batches_out_of_memory:,}, inferred again in smaller ones"
    if report.workers:
        yield "Workers", f"{report.workers:,}"


def _tuning_rows(tuning: TuningReport, facts: Facts) -> Iterator[tuple[str, str]]:
    """What was tried, and what it took."""
    yield "Measured", f"{facts.clock.moment(tuning.measured_at)}, for {tuning.rows:,} rows"
    for trial in tuning.batch_trials:
        used = ", used" if trial.rows == tuning.batch_rows else ""
        yield f"A batch of {trial.rows:,}", f"{seconds(trial.seconds)}, {trial.rows / trial.seconds:,.0f} rows/s{used}"
    for trial in tuning.together_trials:
        yield f"A batch of {trial.rows:,}, with all workers at it", seconds(trial.seconds)
    for number, way in enumerate(tuning.workers_trials):
        label = (
            f"{way.workers:,} worker{'s' * (way.workers > 1)}, {way.kernel_threads:,} thread{'s' * (way.kernel_threads > 1)}"
        )
        yield label, f"{way.rows_per_second:,.0f} rows/s{'' if number else ', used'}"


def _model_rows(report: RunReport) -> Iterator[tuple[str, str]]:
    model, cost = report.model, report.resources
    if model is not None:
        yield "Model", name(model.version)
        yield "Weights", f"{model.format}, {model.parameters:,} parameters, {name(model.sha256, longest=12)}"
        yield "Device", name(model.manner)
    yield "Host", name(report.host)
    if cost.cpu_usage_ratio is not None:
        yield "CPU", f"{cost.cpu_usage_ratio:.0%} of all cores"
    if cost.max_resident_memory_bytes is not None:
        yield "Memory, peak", binary_bytes(cost.max_resident_memory_bytes)
    if cost.accelerator_memory_peak_bytes:
        yield "Accelerator memory, peak", binary_bytes(cost.accelerator_memory_peak_bytes)


def _time(report: RunReport) -> Time | None:
    spent = [(stage, report.stage_seconds.get(stage, 0.0)) for stage in Stage]
    total = sum(amount for _, amount in spent)
    if total <= 0:
        return None
    shares = tuple(
        Share(str(stage), seconds(amount), f"{amount / total:.0%}", colour) for colour, (stage, amount) in enumerate(spent)
    )
    label = "Where the time went: " + ", ".join(f"{one.name} {one.share}" for one in shares)
    return Time(stacked_bar([(str(stage), amount) for stage, amount in spent], label), shares)


def _batches_note(facts: Facts, report: RunReport) -> str:
    if facts.batches_error:
        return text(facts.batches_error, longest=1000)
    if facts.batches is None or not facts.batches.stretches:
        if not report.batches:
            return "The run scored no batch."
        return "There are no records of this run's batches: batch.keep_runs keeps none, or not for this long."
    return ""


_REASONS = {
    "null": "a feature is null",
    "nan": "a feature is not a number",
    "infinity": "a feature is infinite",
    "output": "the model returned NaN or infinity",
    "unreadable": "the part can't be read",
    "schema": "a column is missing, or has another type",
}


def _rejected(report: RunReport) -> Rejected | None:
    if not report.rows_rejected_total and not report.rejections:
        return None
    ordered = sorted(report.rows_rejected.items(), key=lambda item: (-item[1], item[0]))
    return Rejected(
        reasons=tuple((str(reason), _REASONS.get(reason, ""), f"{rows:,}") for reason, rows in ordered if rows),
        wholes=tuple(
            (name(one.source, longest=2 * LONGEST_NAME), text(one.error, longest=500), f"{one.rows:,}" if one.rows else "–")
            for one in report.rejections[:_MOST_REJECTIONS]
        ),
        unsaid=max(0, len(report.rejections) - _MOST_REJECTIONS),
    )
