"""The metric reference."""

from __future__ import annotations

from monitoring.metrics_reference import markdown
from monitoring.names import SCHEDULER_TABLE, TABLE

EVERY = (*TABLE, *SCHEDULER_TABLE)


def test_every_family_has_one_row() -> None:
    """With its type, labels and meaning, in the table's order."""
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [metric.name for metric in EVERY]
    for row, metric in zip(rows, EVERY, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert cells[1] == metric.kind
        assert cells[2] == ", ".join(f"`{label}`" for label in metric.labels)
        assert cells[3].rstrip(" |").startswith(metric.help)


def test_every_section_is_introduced_once() -> None:
    """Headings and tables take turns."""
    text = markdown()
    headings = [line for line in text.splitlines() if line.startswith("### ")]
    sections = ["Cumulative", "Latest run", "Schedule and state", "Quality", "Thresholds", "Scheduler"]
    assert headings == [f"### {section}" for section in sections]
    assert text.count("|---|---|---|---|") == len(headings)
    assert text.endswith("|\n")
