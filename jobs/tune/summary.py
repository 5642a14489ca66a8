"""What tuning found: a table and advice for people, a document for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.summary import seconds
from jobs.tune.advice import Advice
from jobs.tune.request import TuneResult
from jobs.tune.words import count, per_row
from pipelines.measuring import Measurement, WholeParts

_COLUMNS = ("device", "workers × threads", "batch", "rows/s", "±", "a row", "batch p50", "p95", "")


def tune_summary(result: TuneResult, advice: Advice) -> RenderableType:
    """Headline, table, warnings, advice, and the lines for the job file."""
    parts: list[RenderableType] = [_headline(result), _table(result)]
    parts += [Text(f"warning: {note}", style="yellow") for note in result.notes]
    verdict, *others = advice.sentences
    parts += [Text(), Text(verdict, style="bold"), *(Text(f"- {sentence}") for sentence in others)]
    if advice.settings:
        parts += [Text(), Text("In the job file:", style="dim"), *(Text(line, style="green") for line in advice.lines())]
    return Group(*parts)


def tune_document(result: TuneResult, advice: Advice) -> dict[str, Any]:
    """The same; seconds and ratios as numbers, `spread` null for what was tried once."""
    limit, comparison = result.limit, result.comparison
    return {
        "job": result.job,
        "logical_date": str(result.logical_date),
        "model_version": result.model_version,
        "cores": result.cores,
        "rows": asdict(result.rows),
        "limit": asdict(limit) if limit else None,
        "measurements": [_measurement(one) for one in result.measurements],
        "current": asdict(result.current),
        "chosen": asdict(result.chosen),
        "comparison": comparison and {"ratio": comparison.ratio, "interval": comparison.interval, "ratios": comparison.ratios},
        "whole_parts": result.whole and _whole(result.whole),
        "rewriting": result.rewriting and asdict(result.rewriting),
        "failures": [{**asdict(one), "error": error} for one, error in result.failures.items()],
        "unaffordable": [asdict(one) for one in result.unaffordable],
        "slow_seconds": result.slow_seconds,
        "notes": result.notes,
        "advice": {"settings": advice.settings, "sentences": advice.sentences},
    }


def _headline(result: TuneResult) -> Text:
    rows = result.rows
    text = Text.assemble((result.job, "bold"), f" · {result.logical_date} · model {result.model_version} · ")
    where = f"holdout {rows.holdout}" if rows.holdout is not None else "input"
    text.append(f"{count(rows.rows, 'row')} of its {where} in {count(rows.parts, 'part')}")
    return text.append(f" · {count(result.cores, 'core')}")


def _table(result: TuneResult) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in {"device", ""} else "right", no_wrap=True)
    in_reach = result.of(result.chosen).within(result.limit.seconds if result.limit else None)
    marked = (("best", result.chosen if in_reach else None), ("now", result.current))
    for one in result.measurements:
        marks = [mark for mark, which in marked if one.configuration == which]
        table.add_row(*_cells(one), " and ".join(marks), style="bold" if marks else "" if len(one.trials) > 1 else "dim")
    return table


def _cells(one: Measurement) -> tuple[str, ...]:
    configuration, (middle, late) = one.configuration, one.batch_seconds
    return (
        configuration.device,
        f"{configuration.workers} × {configuration.kernel_threads}",
        f"{configuration.rows:,}",
        f"{one.rows_per_second:,.0f}",
        "once" if one.spread is None else f"{one.spread:.0%}",
        per_row(one),
        seconds(middle),
        seconds(late),
    )


def _measurement(one: Measurement) -> dict[str, Any]:
    middle, late = one.batch_seconds
    return {
        **asdict(one.configuration),
        "rounds": len(one.trials),
        "rows_per_second": one.rows_per_second,
        "spread": one.spread,
        "seconds_per_row": one.seconds_per_row,
        "batch_seconds": {"p50": middle, "p95": late},
    }


def _whole(whole: WholeParts) -> dict[str, Any]:
    return {
        "rows": whole.rows,
        "parts": whole.parts,
        "workers": whole.workers,
        "elapsed_seconds": whole.elapsed_seconds,
        "stage_seconds": {str(stage): taken for stage, taken in whole.stage_seconds.items()},
        "shares": {str(stage): whole.share(stage) for stage in whole.stage_seconds},
    }
