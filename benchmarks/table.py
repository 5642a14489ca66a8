"""What was measured, as JSON for programs and, from that, as Markdown for people: `python -m benchmarks.table FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.figures import Result
from benchmarks.rounds import Timings

_HEAD = ("figure", "what", "reach", "measured", "", "min – max", "best rounds", "rounds", "compared with")


def as_json(results: Sequence[Result], timings: Timings, *, rows: int, other_cores: float, seconds: float) -> dict[str, Any]:
    """Everything: the figures with the value of each round, every contender's settings and times, the machine.

    `other_cores` is how many cores other work took meanwhile, `seconds` what all of it took.
    """
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
        "seconds": seconds,
        "machine": {**machine.facts(), "other_cores": other_cores},
        "figures": {one.figure.name: _figure(one) for one in results},
        "contenders": {
            contender.label: {
                "settings": contender.settings,
                "missing": contender.missing,
                "scoring_seconds": [timing.scoring for timing in found],
                "elapsed_seconds": [timing.elapsed for timing in found],
                "cpu_seconds": [timing.cpu for timing in found],
                "batch_rows": [timing.batch_rows for timing in found],
                "peak_bytes": [timing.peak_bytes for timing in found],
            }
            for contender, found in timings.items()
        },
    }


def as_text(document: Mapping[str, Any]) -> str:
    """A Markdown table for each group of figures, and what they were measured on."""
    figures = document["figures"].items()
    cells = {name: _cells(name, one, document["contenders"]) for name, one in figures}
    widths = [max(map(len, column)) for column in zip(_HEAD, *cells.values(), strict=True)]
    lines = [_machine(document)]
    for group, members in groupby(figures, key=lambda item: item[1]["group"]):
        lines += ["", f"**{group}**", "", _line(_HEAD, widths), "|-" + "-|-".join("-" * width for width in widths) + "-|"]
        lines += [_line(cells[name], widths) for name, _ in members]
    return "\n".join(lines)


def _figure(one: Result) -> dict[str, Any]:
    figure = one.figure
    return {
        "group": figure.group,
        "meaning": figure.meaning,
        "kind": figure.kind,
        "span": figure.span,
        "reach": f"{figure.reach.sign} {figure.reach.limit:,g}" if figure.reach else "",
        "met": one.met,
        "missing": one.missing,
        "measured": one.measured.label,
        "against": one.against.label,
        "median": one.median,
        "min": min(one.values, default=None),
        "max": max(one.values, default=None),
        "best": one.best,
        "values": list(one.values),
    }


def _cells(name: str, one: Mapping[str, Any], contenders: Mapping[str, Any]) -> tuple[str, ...]:
    if one["missing"]:
        return name, one["meaning"], one["reach"], one["missing"], "", "", "", "0", one["against"]
    met = {True: "met", False: "**missed**", None: ""}[one["met"]]
    spread = f"{_number(one['min'])} – {_number(one['max'])}"
    compared = one["against"]
    if one["kind"] == "seconds":
        times = one["best"] / min(contenders[compared]["scoring_seconds"])
        compared = f"{compared}, which takes {times:.0f} times less"
    return (
        name,
        one["meaning"],
        one["reach"],
        _number(one["median"]),
        met,
        spread,
        _number(one["best"]),
        str(len(one["values"])),
        compared,
    )


def _machine(document: Mapping[str, Any]) -> str:
    facts = document["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{document['at']}, {facts['cores']} cores ({facts['processor']}), Python {facts['python']}, {packages}; "
        f"{document['rows']:,} rows, {document['seconds'] / 60:.0f} minutes; "
        f"other work took {facts['other_cores']:.2f} of the cores meanwhile."
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(text.ljust(width) for text, width in zip(cells, widths, strict=True)) + " |"


def _number(value: float) -> str:
    if abs(value) < 0.1:  # noqa: PLR2004  two digits say enough
        return f"{value:.3f}"
    return f"{value:.3g}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004


if __name__ == "__main__":
    print(as_text(json.loads(Path(sys.argv[1]).read_text())))
