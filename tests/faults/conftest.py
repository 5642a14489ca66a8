"""How many faults were tried, from which seed, and how many of them cost something: a table at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import pytest

_ROWS = pytest.StashKey[list[str]]()


@dataclass(slots=True)
class Tally:
    """What one test has tried. `soak`: it is to take its time."""

    seed: int
    soak: bool
    rows: list[str]
    began: float = field(default_factory=monotonic)

    def add(self, fault: str, *, tries: int, losses: int, measured: str = "") -> None:
        """Put a row into the table, with what was measured, if anything was."""
        self.rows.append(f"{fault:<44} {tries:>7} {losses:>7} {monotonic() - self.began:>7.0f}  {measured}".rstrip())


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    config = request.config
    return Tally(config.getoption("--seed"), config.getoption("--soak"), config.stash.setdefault(_ROWS, []))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long, or measures, is a part of the long form only."""
    if not config.getoption("--soak"):
        long = [item for item in items if item.get_closest_marker("soak")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table."""
    if rows := config.stash.get(_ROWS, []):
        terminalreporter.section(f"faults, seed {config.getoption('--seed')}")
        terminalreporter.write_line(f"{'fault':<44} {'tries':>7} {'losses':>7} {'seconds':>7}")
        for row in rows:
            terminalreporter.write_line(row)
