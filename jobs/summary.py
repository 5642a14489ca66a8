"""Reports for people: tables for a terminal. Machines get JSON: see `jobs.documents`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.breaches import Breach
from jobs.foreign import name
from monitoring import names
from monitoring.ledger import RunRecord
from monitoring.state import JobState
from pipelines.report import Estimate, HoldoutReport, Outcome, RunReport, SliceReport, Stage

if TYPE_CHECKING:  # a list of jobs needs neither the job file's model nor an HTTP client
    from jobs.doctor import Finding
    from jobs.request import RunResult
    from monitoring.push import Delivery

WORST_SLICES = 5
_REJECTIONS = 5
_LONGEST = 300
_STYLES = {
    Outcome.SUCCESS: "green",
    Outcome.PARTIAL: "yellow",
    Outcome.FAILED: "bold red",
    Outcome.SKIPPED: "dim",
    Outcome.MISSED: "red",
}


def run_summary(result: RunResult, breaches: tuple[Breach, ...]) -> RenderableType:
    """One run: outcome, rows, speed, quality with bounds, the worst slices, the push."""
    report = result.report
    parts: list[RenderableType] = [_headline(report)]
    if report.reason:
        parts.append(Text(report.reason, style="red" if report.outcome is Outcome.FAILED else "default"))
    if report.outcome.began:
        parts.append(_figures(report))
    for holdout in report.holdouts:
        parts.extend(_holdout(holdout))
    parts.extend(_troubles(report))
    parts.extend(Text(breach.sentence(), style="bold red") for breach in breaches)
    parts.append(push_line(result.delivery, result.push_error))
    return Group(*parts)


def _troubles(report: RunReport) -> list[Text]:
    """What was rejected whole, and warnings."""
    lines = [f"rejected: {rejection.error}" for rejection in report.rejections[:_REJECTIONS]]
    if len(report.rejections) > _REJECTIONS:
        lines.append(f"… and {len(report.rejections) - _REJECTIONS} more rejected files or parts")
    lines += [f"warning: {warning}" for warning in report.warnings]
    return [Text(line, style="yellow") for line in lines]


def push_line(delivery: Delivery | None, error: str | None) -> Text:
    """What became of the push: without a delivery it is owed, for the reason given."""
    if delivery is None:
        return Text(f"push owed: {error}\nthe state is safe in the ledger; 'batchgauge push' delivers it", style="yellow")
    where = " and ".join(delivery.destinations)
    return Text(f"pushed to {where}" if where else "not pushed: no gateway and no textfile folder is configured", style="dim")


def _headline(report: RunReport) -> Text:
    text = Text.assemble((name(report.job, longest=_LONGEST), "bold"), f" · {report.logical_date} · ")
    text.append(str(report.outcome), style=_STYLES[report.outcome])
    if report.elapsed_seconds:
        text.append(f" in {seconds(report.elapsed_seconds)}")
    return text


def _figures(report: RunReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    rows = f"{report.rows_scored:,} scored, {report.rows_rejected_total:,} rejected"
    if report.rows_rejected_total:
        rows += " (" + ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.rows_rejected.items())) + ")"
    table.add_row("rows", rows)
    table.add_row("parts", f"{report.parts_done:,} done, {report.parts_skipped:,} already there, of {report.parts_planned:,}")
    if report.throughput_rows_per_second is not None:
        using = f"batches of {report.batch_rows:,}, {report.workers} worker{'s' if report.workers != 1 else ''}"
        table.add_row("throughput", f"{report.throughput_rows_per_second:,.0f} rows/s ({using})")
    if report.hosts:
        table.add_row("hosts", Text(", ".join(report.hosts)))
    if report.latency_quantiles:
        quantiles = ", ".join(f"{which} {seconds(report.latency_quantiles[q])}" for which, q in _QUANTILES)
        table.add_row("batch latency", f"{quantiles} over {report.batches:,} batches")
    if report.batches_out_of_memory:
        table.add_row("out of memory", f"{report.batches_out_of_memory:,} batches, inferred again in smaller ones")
    if report.stage_seconds:
        total = sum(report.stage_seconds.values()) or 1.0
        shares = ((stage, report.stage_seconds.get(stage, 0.0) / total) for stage in Stage)
        table.add_row("time", ", ".join(f"{stage} {share:.0%}" for stage, share in shares))
    if report.model is not None:
        model = report.model
        table.add_row("model", f"{model.version} ({model.format}, {model.manner}, {model.sha256[:12]})")
    return table


_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))


def _holdout(holdout: HoldoutReport) -> list[RenderableType]:
    if holdout.error:
        return []  # it is among the warnings
    line = Text.assemble(
        ("holdout ", "dim"),
        (name(holdout.name, longest=_LONGEST), "bold"),
        f": accuracy {estimate(holdout.accuracy)}, recall {estimate(holdout.recall)} on {holdout.examples:,} examples",
    )
    if holdout.rejected:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in sorted(holdout.rejected.items()))
        line.append(f", {sum(holdout.rejected.values()):,} not judged ({reasons})", style="yellow")
    worst = worst_slices(holdout.slices)
    return [line, _slice_table(worst)] if worst else [line]


def worst_slices(slices: Iterable[SliceReport], count: int = WORST_SLICES) -> list[SliceReport]:
    """The judged slices with the lowest accuracy, worst first."""
    judged = [piece for piece in slices if piece.judged and piece.accuracy is not None]
    return sorted(judged, key=lambda piece: (piece.accuracy, piece.dimension, piece.value))[:count]


def _slice_table(slices: list[SliceReport]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("worst slices", "accuracy", "recall"):
        table.add_column(heading)
    table.add_column("examples", justify="right")
    for piece in slices:
        shown = name(f"{piece.dimension} = {piece.value}", longest=_LONGEST)
        table.add_row(Text(shown), estimate(piece.accuracy), estimate(piece.recall), f"{piece.examples:,}")
    return table


def job_list(states: Iterable[JobState], now: float) -> Table:
    """All jobs, a row each."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("job", "last run", "outcome", "rows", "accuracy", "recall", "next run", "push"):
        table.add_column(heading)
    for state in states:
        latest = state.latest
        quality = next(iter(state.quality.values()), None)
        table.add_row(
            Text(name(state.definition.job, longest=_LONGEST)),
            ago(latest.finished_at, now) if latest else "never",
            _state_name(state),
            f"{latest.rows_scored:,}" if latest else "",
            estimate(quality.accuracy if quality else None),
            estimate(quality.recall if quality else None),
            _due(state, now),
            "owed" if state.owed else "delivered" if state.pushed_at else "",
        )
    return table


def _state_name(state: JobState) -> Text:
    if state.running:
        return Text("running", style="cyan")
    if state.latest is None:
        return Text("idle", style="dim")
    return Text(str(state.latest.outcome), style=_STYLES[state.latest.outcome])


def _due(state: JobState, now: float) -> Text:
    if state.next_expected_at is None:
        return Text("by hand", style="dim")
    late = state.late(now)
    return Text(
        f"missed: {moment(state.next_expected_at)}" if late else moment(state.next_expected_at), style="red" if late else ""
    )


def job_status(state: JobState, now: float, *, retrained: Text | None = None) -> RenderableType:
    """One job in detail; `retrained` says what its latest retraining came to."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    definition = state.definition
    table.add_row("job", Text(name(definition.job, longest=_LONGEST), style="bold"))
    table.add_row("state", _state_name(state))
    table.add_row("job file", Text(definition.spec_path))
    table.add_row("schedule", Text(f"{definition.schedule} ({definition.timezone})" if definition.schedule else "by hand"))
    table.add_row("next run", _due(state, now))
    if missed := state.counters.get((names.RUNS.name, (Outcome.MISSED,))):
        table.add_row("missed runs", Text(f"{missed:,.0f} in all; 'batchgauge history' shows when", style="red"))
    table.add_row(
        "last success",
        f"{moment(state.last_success_at)}, {ago(state.last_success_at, now)}" if state.last_success_at else "never",
    )
    if state.running:
        table.add_row("running", f"since {moment(state.running.started_at)}, {state.running.rows_read:,} rows so far")
    if retrained is not None:
        table.add_row("retrained", retrained)
    table.add_row("push", _push_state(state, now))
    parts: list[RenderableType] = [table]
    if state.latest:
        parts += [Text("latest run", style="dim"), _headline(state.latest)]
        parts += [Text(state.latest.reason, style="red")] if state.latest.reason else []
        parts += [_figures(state.latest), *_troubles(state.latest)]
    for holdout in state.quality.values():
        parts.extend(_holdout(holdout))
    return Group(*parts)


def _push_state(state: JobState, now: float) -> Text:
    if not (state.definition.destination.gateway or state.definition.destination.textfile):
        return Text("nowhere configured", style="dim")
    before = f"last delivered {ago(state.pushed_at, now)}" if state.pushed_at else "never delivered"
    if not state.owed:
        return Text(before)
    return Text(f"owed, {before}" + (f": {state.push_error}" if state.push_error else ""), style="yellow")


def run_history(runs: Iterable[RunRecord]) -> RenderableType:
    """Runs, newest first, and below them why some went wrong."""
    reasons: list[Text] = []
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("started", "date", "trigger", "outcome", "took", "scored", "rejected", "rows/s", "accuracy", "recall"):
        table.add_column(heading)
    for run in runs:
        report = run.report
        if report and report.reason:
            reasons.append(Text(f"{moment(run.started_at)} {run.outcome}: {report.reason.splitlines()[0]}", style="dim"))
        judged = next((holdout for holdout in report.holdouts if not holdout.error), None) if report else None
        speed = report.throughput_rows_per_second if report else None
        began = run.outcome is None or run.outcome.began
        table.add_row(
            moment(run.started_at),
            str(run.logical_date),
            str(run.trigger),
            Text(str(run.outcome), style=_STYLES[run.outcome]) if run.outcome else Text("running", style="cyan"),
            seconds(report.elapsed_seconds) if report and began else "",
            f"{run.rows_scored:,}" if began else "",
            f"{run.rows_rejected:,}" if began else "",
            f"{speed:,.0f}" if speed else "",
            estimate(judged.accuracy if judged else None),
            estimate(judged.recall if judged else None),
        )
    return Group(table, *(Text(), *reasons) if reasons else ())


def estimate(value: Estimate | None) -> str:
    """A ratio with its bounds, `0.934 (0.91–0.95)`; a dash where there is none."""
    return "–" if value is None else f"{value.value:.3f} ({value.lower:.2f}–{value.upper:.2f})"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if value < 1e-3:  # noqa: PLR2004  a millisecond
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.1f} ms"
    minute = 60
    if value < 2 * minute:
        return f"{value:.1f} s"
    return f"{value // 3600:.0f} h {value % 3600 // minute:.0f} min" if value >= 120 * minute else f"{value / minute:.1f} min"


def moment(timestamp: float) -> str:
    """A time in UTC, to the minute."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M} UTC"


def ago(timestamp: float, now: float) -> str:
    """How long ago that was."""
    return f"{seconds(max(now - timestamp, 0.0))} ago"


def findings_table(findings: Iterable[Finding]) -> Table:
    """What the doctor found."""
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("not ok", style="bold red")
        table.add_row(mark, Text(finding.subject), Text(finding.detail))
    return table
