"""A job's state as Prometheus's text format. Pure: state in, bytes out.

What is not known is absent, never 0. While a run is in progress, its state, start, info and rows are shown;
everything else is of the last run that ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from math import isfinite
from typing import NamedTuple

from monitoring import names
from monitoring.state import JobState
from pipelines.report import Estimate, HoldoutReport, RunReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RUN_STATES = ("idle", "running", "success", "partial", "failed")
_BUCKET, _SUM, _COUNT = (f"{names.BATCH_LATENCY.name}_{suffix}" for suffix in ("bucket", "sum", "count"))
_LARGEST_EXACT_INTEGER = 2**53


class Point(NamedTuple):
    """One series: its family, its label values in the family's order, its value."""

    metric: names.Metric
    labels: tuple[str, ...]
    value: float


class _Detail(NamedTuple):
    """The series of one class or slice, shown or cut together."""

    holdout: str
    examples: int
    points: tuple[Point, ...]


def render(state: JobState, *, pushed_at: float, labels: Mapping[str, str] | None = None) -> bytes:
    """The job's families in text format 0.0.4, without timestamps, in the metric table's order; empty ones are left out.

    `pushed_at` is a Unix timestamp. `labels` are added to every sample. At most `MAX_SERIES_PER_JOB` series: when there are
    more, the classes and slices with the fewest examples are cut, each with all its figures, and counted in
    `model_slices_dropped`. The rest (some 70 series, and about a dozen for each holdout) is never cut.

    Values are exact: whole numbers up to 2^53 are written as such. In a label value, what is not UTF-8 becomes `?`;
    should two series become one by that, the first is kept. Raises `ValueError` when a name in `labels` is not a
    label name, or is a label of the metric table.
    """
    extra = dict(labels or {})
    check_labels(extra)
    shown: dict[str, dict[str, float]] = {metric.name: {} for metric in names.TABLE}
    written: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}  # a slice's figures all have the same labels
    histogram = _histogram(state)
    for metric, values, value in _points(state, pushed_at, room=names.MAX_SERIES_PER_JOB - len(histogram)):
        key = (metric.labels, values)
        if key not in written:
            written[key] = _labels(dict(zip(metric.labels, values, strict=True)) | extra)
        shown[metric.name].setdefault(metric.name + written[key], value)
    for name, bounds, value in histogram:
        shown[names.BATCH_LATENCY.name][name + _labels(bounds | extra)] = value
    lines: list[str] = []
    for metric in names.TABLE:
        if series := shown[metric.name]:
            documentation = metric.help.replace("\\", r"\\").replace("\n", r"\n")
            lines += [f"# HELP {metric.name} {documentation}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [f"{name} {number(value)}" for name, value in series.items()]
    return "\n".join([*lines, ""]).encode()


def check_labels(labels: Iterable[str]) -> None:
    """Refuse labels that can't be added to a job's series.

    Raises `ValueError` naming the label: not a label name, or one of the metric table's own, so that series would
    be overwritten.
    """
    for label in labels:
        if not names.LABEL_NAME.fullmatch(label):
            raise ValueError(f"{label!r} is not a label name: use letters, digits and _, not starting with a digit or __")
        if label in names.RESERVED_LABELS:
            raise ValueError(f"label {label!r} is used by the metrics or the alerts themselves; choose another name")


def number(value: float) -> str:
    """The value as text that reads back as the same 64-bit float."""
    if not isfinite(value):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}[repr(float(value))]
    whole = int(value)
    return str(whole) if value == whole and abs(whole) <= _LARGEST_EXACT_INTEGER else repr(float(value))


def _points(state: JobState, pushed_at: float, *, room: int) -> list[Point]:
    """All but the histogram's, as far as there is room for so many."""
    details = sorted(_details(state), key=lambda detail: -detail.examples)
    fixed = [*_counters(state), *_run(state), *_schedule(state, pushed_at), *_thresholds(state)]
    fixed += [point for name, report in state.quality.items() for point in _holdout(name, report)]
    budget = room - len(fixed) - len(state.quality)
    used = accumulate(len(detail.points) for detail in details)
    shown = sum(total <= budget for total in used)
    fixed += _dropped(state, details[shown:])
    return [*fixed, *(point for detail in details[:shown] for point in detail.points)]


def _counters(state: JobState) -> Iterator[Point]:
    known = {metric.name: metric for metric in names.TABLE if metric.kind == "counter"}
    for (name, labels), value in sorted(state.counters.items()):
        if name in known:
            yield Point(known[name], labels, value)


def _histogram(state: JobState) -> list[tuple[str, dict[str, str], float]]:
    """Cumulative buckets, sum and count; empty when the ledger has no histogram for the job."""
    if (_SUM, ()) not in state.counters:
        return []
    bounds = [*map(number, names.LATENCY_BUCKETS), "+Inf"]
    cumulative = list(accumulate(state.counters.get((_BUCKET, (str(index),)), 0) for index in range(len(bounds))))
    buckets = [(_BUCKET, {"le": bound}, value) for bound, value in zip(bounds, cumulative, strict=True)]
    return [*buckets, (_SUM, {}, state.counters[_SUM, ()]), (_COUNT, {}, cumulative[-1])]


def _run(state: JobState) -> Iterator[Point]:
    for name in RUN_STATES:
        yield Point(names.RUN_STATE, (name,), int(name == state.name))
    if state.latest is not None:
        yield from _latest(state.latest)
    if state.running is not None:
        run = state.running
        yield Point(names.RUN_STARTED, (), run.started_at)
        yield Point(names.RUN_INFO, (run.run_id, run.trigger, run.model_version, run.host), 1)
        yield from _rows(run.rows_read, run.rows_scored, run.rows_rejected)
    elif state.latest is not None:
        last = state.latest
        yield Point(names.RUN_STARTED, (), last.started_at)
        version = last.model.version if last.model else ""
        yield Point(names.RUN_INFO, (last.run_id, last.trigger, version, last.host), 1)
        yield from _rows(last.rows_read, last.rows_scored, last.rows_rejected_total)
    yield from _gauge(names.RUN_LAST_SUCCESS, (), state.last_success_at)


def _latest(run: RunReport) -> Iterator[Point]:
    yield from _gauge(names.LATENCY, (), run.latency_seconds)
    yield from _gauge(names.THROUGHPUT, (), run.throughput_rows_per_second)
    for quantile, seconds in sorted(run.latency_quantiles.items()):
        yield from _gauge(names.LATENCY_QUANTILE, (number(round(100 * quantile, 6)),), seconds)
    yield from _gauge(names.BATCH_ROWS, (), run.batch_rows)
    for disposition, parts in (("done", run.parts_done), ("skipped", run.parts_skipped)):
        yield Point(names.RUN_PARTS, (disposition,), parts)
    yield Point(names.RUN_FINISHED, (), run.finished_at)
    yield Point(names.RUN_DURATION, (), run.elapsed_seconds)
    yield from _gauge(names.RUN_CPU, (), run.resources.cpu_usage_ratio)
    yield from _gauge(names.RUN_MEMORY, (), run.resources.max_resident_memory_bytes)
    yield from _gauge(names.RUN_ACCELERATOR_MEMORY, (), run.resources.accelerator_memory_peak_bytes)
    for holdout in run.holdouts:
        yield Point(names.EVALUATION_FAILED, (holdout.name,), int(holdout.error is not None))


def _rows(read: int, scored: int, rejected: int) -> Iterator[Point]:
    for disposition, rows in (("read", read), ("scored", scored), ("rejected", rejected)):
        yield Point(names.RUN_ROWS, (disposition,), rows)


def _schedule(state: JobState, pushed_at: float) -> Iterator[Point]:
    yield from _gauge(names.NEXT_EXPECTED, (), state.next_expected_at)
    yield Point(names.GRACE, (), state.definition.grace_seconds)
    yield from _gauge(names.TIMEOUT, (), state.definition.timeout_seconds)
    yield Point(names.PUSH_INTERVAL, (), state.definition.destination.every_seconds)
    yield Point(names.SEQUENCE, (), state.sequence)
    yield Point(names.PUSHED, (), pushed_at)
    if state.model is not None:
        yield Point(names.MODEL_INFO, (state.model.version, state.model.sha256, state.model.format), 1)


def _thresholds(state: JobState) -> Iterator[Point]:
    limits = state.definition.thresholds
    yield from _gauge(names.LATENCY_THRESHOLD, (), limits.latency_seconds)
    yield from _gauge(names.ACCURACY_THRESHOLD, (), limits.accuracy)
    yield from _gauge(names.RECALL_THRESHOLD, (), limits.recall)


def _holdout(name: str, report: HoldoutReport) -> Iterator[Point]:
    labels = (name,)
    yield from _estimate(names.ACCURACY, names.ACCURACY_LOWER, names.ACCURACY_UPPER, labels, report.accuracy)
    yield from _estimate(names.RECALL, names.RECALL_LOWER, names.RECALL_UPPER, labels, report.recall)
    yield from _gauge(names.PRECISION, labels, report.precision)
    yield from _gauge(names.F1_SCORE, labels, report.f1_score)
    yield Point(names.SLICE_MIN_EXAMPLES, labels, report.min_examples)
    yield Point(names.EVALUATED, labels, report.evaluated_at)


def _dropped(state: JobState, cut: Iterable[_Detail]) -> Iterator[Point]:
    dropped = {name: report.slices_dropped for name, report in state.quality.items()}
    for detail in cut:
        dropped[detail.holdout] += 1
    for name, slices in dropped.items():
        yield Point(names.SLICES_DROPPED, (name,), slices)


def _details(state: JobState) -> Iterator[_Detail]:
    for name, report in state.quality.items():
        for one in report.classes:
            points = (
                *_gauge(names.CLASS_RECALL, (name, one.name), one.recall),
                *_gauge(names.CLASS_PRECISION, (name, one.name), one.precision),
            )
            yield _Detail(name, one.examples, points)
        for part in report.slices:
            labels = (name, part.dimension, part.value)
            accuracy = _estimate(
                names.SLICE_ACCURACY, names.SLICE_ACCURACY_LOWER, names.SLICE_ACCURACY_UPPER, labels, part.accuracy
            )
            recall = _estimate(names.SLICE_RECALL, names.SLICE_RECALL_LOWER, names.SLICE_RECALL_UPPER, labels, part.recall)
            yield _Detail(name, part.examples, (*accuracy, *recall, Point(names.SLICE_EXAMPLES, labels, part.examples)))


def _estimate(
    value: names.Metric, lower: names.Metric, upper: names.Metric, labels: tuple[str, ...], estimate: Estimate | None
) -> Iterator[Point]:
    if estimate is not None:
        yield from _gauge(value, labels, estimate.value)
        yield from _gauge(lower, labels, estimate.lower)
        yield from _gauge(upper, labels, estimate.upper)


def _gauge(metric: names.Metric, labels: tuple[str, ...], value: float | None) -> Iterator[Point]:
    if value is not None and isfinite(value):
        yield Point(metric, labels, value)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    clean = value.encode(errors="replace").decode()
    return clean.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
