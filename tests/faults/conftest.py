"""How many faults were tried, from which seed, and how many of them cost something: a table at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import pytest

_ROW = "fault"
"""What a row is called among the properties of a test, which reach the table from whichever process ran it."""


@dataclass(slots=True)
class Tally:
    """What one test has tried. `soak`: it is to take its time."""

    seed: int
    soak: bool
    properties: list[tuple[str, object]]
    began: float = field(default_factory=monotonic)

    def add(self, fault: str, *, tries: int, losses: int, measured: str = "") -> None:
        """Put a row into the table, with what was measured, if anything was."""
        row = f"{fault:<44} {tries:>7} {losses:>7} {monotonic() - self.began:>7.0f}  {measured}"
        self.properties.append((_ROW, row.rstrip()))


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    config = request.config
    return Tally(config.getoption("--seed"), config.getoption("--soak"), request.node.user_properties)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long, or measures, is a part of the long form only, where a test has an hour if it says nothing else."""
    if config.getoption("--soak"):
        for item in items:
            item.add_marker(pytest.mark.timeout(3600))
    else:
        long = [item for item in items if item.get_closest_marker("soak")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table."""
    reports = [report for found in terminalreporter.stats.values() for report in found if getattr(report, "when", "") == "call"]
    if rows := [row for report in reports for name, row in report.user_properties if name == _ROW]:
        terminalreporter.section(f"faults, seed {config.getoption('--seed')}")
        terminalreporter.write_line(f"{'fault':<44} {'tries':>7} {'losses':>7} {'seconds':>7}")
        for row in rows:
            terminalreporter.write_line(row)
