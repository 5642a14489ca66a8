"""What measures where one machine ends sets up what it says. Nothing here asserts a time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from benchmarks import lag, parts_table
from jobs.catalogue import load_all


def test_so_many_jobs_are_due_in_a_minute_and_each_in_one(tmp_path: Path) -> None:
    """However many files there are."""
    lag.write_jobs(tmp_path / "jobs", 50, 20)
    schedules = Counter(spec.job.schedule for spec in load_all([tmp_path / "jobs"]))
    assert sorted(schedules.values()) == [10, 20, 20]
    assert all(schedule and schedule.endswith(" * * *") for schedule in schedules)


def test_lags_are_those_of_runs_that_were_due_meanwhile() -> None:
    """Not of what was started before, and not of what else the log says."""
    events = [
        {"event": "started", "due_at": 60.0, "lag_seconds": 9.0},
        {"event": "started", "due_at": 120.0, "lag_seconds": 0.5},
        {"event": "ended", "due_at": 120.0},
        {"event": "started", "due_at": 180.0, "lag_seconds": 0.7},
        {"event": "started", "due_at": 240.0, "lag_seconds": 9.0},
    ]
    assert lag.lags_in("\n".join(map(json.dumps, events)), 120.0, 240.0) == [0.5, 0.7]


def test_the_table_of_parts_is_as_large_as_it_says() -> None:
    """On both databases: rows of others don't become the job's own, and its own do."""
    found = parts_table.grown((200, 300))
    assert Counter(one.ledger for one in found) == {"SQLite": 6, "PostgreSQL": 6}
    for one in found:
        others = 0 if one.of == "the job's, the same folder" else one.rows
        assert one.own + others == one.rows + 1_000 + 20 * 32
        assert one.bytes > 100 * one.rows
        assert min(one.commit_seconds, one.start_seconds, one.drop_seconds) > 0
    assert len(parts_table.table(found).splitlines()) == 2 + len(found)
