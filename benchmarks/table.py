"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import machine
from benchmarks.figures import Result
from benchmarks.rounds import Timings

_HEAD = ("figure", "what", "reach", "median", "min – max", "compared with")


def as_text(results: Sequence[Result]) -> str:
    """One line for each figure, as a Markdown table."""
    cells = [_HEAD, *map(_cells, results)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" if not line.startswith("-") else f"|-{line}-|" for line in lines)


def as_json(results: Sequence[Result], timings: Timings, *, rows: int, rounds: int, other_cores: float) -> dict[str, Any]:
    """Everything: the figures with the ratio of each round, every contender's settings and seconds, the machine.

    `other_cores` is how many cores other work took meanwhile.
    """
    return {
        "rows": rows,
        "rounds": rounds,
        "machine": {**machine.facts(), "other_cores": other_cores},
        "figures": {one.figure.name: _figure(one) for one in results},
        "contenders": {
            contender.label: {
                "settings": contender.settings,
                "scoring_seconds": [timing.scoring for timing in found],
                "elapsed_seconds": [timing.elapsed for timing in found],
                "batch_rows": [timing.batch_rows for timing in found],
                "peak_bytes": [timing.peak_bytes for timing in found],
            }
            for contender, found in timings.items()
        },
    }


def _figure(one: Result) -> dict[str, Any]:
    return {
        "meaning": one.figure.meaning,
        "span": one.figure.span,
        "reach": one.figure.reach,
        "measured": one.measured.label,
        "against": one.against.label,
        "median": one.median,
        "min": min(one.ratios),
        "max": max(one.ratios),
        "ratios": list(one.ratios),
    }


def _cells(one: Result) -> tuple[str, ...]:
    spread = f"{_ratio(min(one.ratios))} – {_ratio(max(one.ratios))}"
    return one.figure.name, one.figure.meaning, one.figure.reach, _ratio(one.median), spread, one.against.label


def _ratio(value: float) -> str:
    return f"{value:.3g}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004  three digits say enough
