"""The metric table as Markdown: `python -m monitoring.metrics_reference` prints the reference that the README shows."""

from __future__ import annotations

import sys
from itertools import groupby

from monitoring.names import LAG_BUCKETS, LATENCY_BUCKETS, SCHEDULER_TABLE, TABLE, Metric

_INTRODUCTIONS = {
    "cumulative": "Over the job's life, never falling: `rate()` and `increase()` work across runs.",
    "latest run": "Of the run in progress (state, start, info, rows), else of the last one that ended.",
    "schedule and state": "When the next run is due, and which revision of the ledger is shown.",
    "quality": "From the labelled holdouts; absent, never 0, where there is nothing to divide by.",
    "thresholds": "From the job file; absent where it sets none.",
    "scheduler": "Of `batchgauge schedule` itself: scraped from it (`--listen`), never pushed, so without a `job` of its own.",
}


def markdown() -> str:
    """The reference, section by section in the table's order."""
    table = (*TABLE, *SCHEDULER_TABLE)
    return "\n".join(_section(name, list(metrics)) for name, metrics in groupby(table, lambda metric: metric.section))


def _section(name: str, metrics: list[Metric]) -> str:
    lines = [
        f"### {name.capitalize()}",
        "",
        _INTRODUCTIONS[name],
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_row, metrics), ""])


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    meaning = metric.help.replace("|", "\\|")
    if metric.kind == "histogram":
        bounds = LATENCY_BUCKETS if metric in TABLE else LAG_BUCKETS
        meaning += f" Buckets: {', '.join(map(repr, bounds))}."
    return f"| `{metric.name}` | {metric.kind} | {labels} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(markdown())
