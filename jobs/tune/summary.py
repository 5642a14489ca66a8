"""What tuning found out, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.summary import seconds
from jobs.tune.advice import Advice, in_order, within
from jobs.tune.request import Tuned
from pipelines.measuring import Measurement


def tuned_summary(tuned: Tuned, advice: Advice) -> RenderableType:
    """What was measured on, the table, the advice, and the lines for the job file."""
    where = f"{tuned.rows:,} rows in {tuned.parts:,} part{'' if tuned.parts == 1 else 's'} of {tuned.path}"
    parts: list[RenderableType] = [
        Text.assemble((tuned.job, "bold"), f", measured on {where}, written to {tuned.scratch}"),
        *(Text(f"note: {note}", style="yellow") for note in tuned.notes),
        Text(),
        _table(tuned, advice),
        Text(),
        *(Text(sentence) for sentence in advice.sentences),
    ]
    if advice.settings:
        parts += [Text("\nIn the job file:\n"), Text(toml(advice.settings), style="bold")]
    return Group(*parts)


def toml(settings: Sequence[tuple[str, str, str]]) -> str:
    """The lines to set, section by section."""
    lines = []
    for section, entries in groupby(settings, key=lambda setting: setting[0]):
        lines += [f"[{section}]", *(f"{key} = {value}" for _, key, value in entries)]
    return "\n".join(lines)


def tuned_document(tuned: Tuned, advice: Advice) -> dict[str, Any]:
    """For a machine. Seconds, rows a second, shares from 0 to 1."""
    return {
        "job": tuned.job,
        "path": tuned.path,
        "rows": tuned.rows,
        "parts": tuned.parts,
        "cores": tuned.cores,
        "bound_seconds": tuned.bound_seconds,
        "notes": list(tuned.notes),
        "measurements": [_document(one, tuned, advice) for one in in_order(tuned.measurements)],
        "settings": [{"section": section, "key": key, "value": value} for section, key, value in advice.settings],
        "advice": list(advice.sentences),
    }


def _document(measurement: Measurement, tuned: Tuned, advice: Advice) -> dict[str, Any]:
    return {
        **asdict(measurement.configuration),
        "current": measurement is tuned.current,
        "best": measurement is advice.best,
        "within_bound": within(measurement, tuned.bound_seconds),
        "rounds": len(measurement.passes),
        "rows_per_second": measurement.throughput,
        "rows_per_second_of_rounds": [one.throughput for one in measurement.passes],
        "batch_latency_seconds": {"p50": measurement.latency(0.5), "p95": measurement.latency(0.95)},
        "latency_seconds": measurement.seconds_for_each_row,
        "stage_shares": {str(stage): share for stage, share in measurement.shares.items()},
    }


def _table(tuned: Tuned, advice: Advice) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("device")
    for name in ("workers", "threads", "batch rows", "rows/s", "±", "batch p50", "p95", "each row"):
        table.add_column(name, justify="right")
    table.add_column("")
    for measurement in in_order(tuned.measurements):
        used = measurement.configuration
        table.add_row(
            used.device,
            f"{used.workers}",
            f"{used.kernel_threads}",
            f"{used.batch_rows:,}",
            f"{measurement.throughput:,.0f}",
            f"{measurement.spread / 2:.0%}" if len(measurement.passes) > 1 else "",
            seconds(measurement.latency(0.5)),
            seconds(measurement.latency(0.95)),
            f"{measurement.seconds_for_each_row * 1e6:,.3g} µs",
            _mark(measurement, tuned, advice),
            style="bold" if measurement is advice.best else "",
        )
    return table


def _mark(measurement: Measurement, tuned: Tuned, advice: Advice) -> Text:
    marks = []
    if measurement is advice.best:
        marks.append("best")
    if measurement is tuned.current:
        marks.append("now")
    if not within(measurement, tuned.bound_seconds):
        marks.append("over the bound")
    return Text(", ".join(marks))
