"""Scheduled times in the ledger: accounted for once, by a run, a skip or a miss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from io import StringIO

import pytest
from rich.console import Console, RenderableType

from jobs.documents import history_document
from jobs.scheduler.catch_up import missed_report
from jobs.summary import job_list, job_status, run_history
from monitoring.exposition import render
from monitoring.ledger import Ledger
from pipelines.errors import LedgerError
from pipelines.report import Outcome, RunReport
from tests.reports import JOB, definition, finished, one_run, run_start


@pytest.fixture
def ledger_location(new_location: Callable[[], str]) -> str:
    """Every test of this module, on every database."""
    return new_location()


def text(table: RenderableType) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


MISSED = ("batch_runs_total", ("missed",))


@pytest.fixture
def known(ledger: Ledger) -> Ledger:
    """A job that is known since 1000 and expected at 2000."""
    ledger.register(definition(), now=1000.0, next_expected_at=2000.0)
    return ledger


def missed(*times: float) -> list[RunReport]:
    return [missed_report(JOB, due_at, logical_date=date(2026, 11, 21), reason="nobody came") for due_at in times]


def test_a_new_job_owes_nothing_from_before_it_was_known(known: Ledger) -> None:
    """And its missed runs are shown as 0 from the start, so that the first increase is seen."""
    assert known.accounted_until(JOB) == 1000.0
    assert known.accounted_until("unknown") is None
    assert b'batch_runs_total{outcome="missed"} 0' in render(known.state(JOB), pushed_at=1.0)


def test_missed_runs_are_counted_once(known: Ledger) -> None:
    """However often, and in whatever pieces, they are put down; the alert on the run that is expected stays."""
    assert known.miss_runs(JOB, missed(2000.0, 3000.0)) == 2
    assert known.miss_runs(JOB, missed(2000.0, 3000.0, 4000.0)) == 1
    sequence = known.state(JOB).sequence
    assert known.miss_runs(JOB, missed(3000.0)) == 0
    state = known.state(JOB)
    assert (state.counters[MISSED], state.sequence) == (3, sequence)
    assert (state.next_expected_at, state.latest, state.name) == (2000.0, None, "idle")
    history = known.runs(JOB)
    assert [(run.outcome, run.started_at, run.pid) for run in history] == [
        (Outcome.MISSED, 4000.0, None),
        (Outcome.MISSED, 3000.0, None),
        (Outcome.MISSED, 2000.0, None),
    ]
    with pytest.raises(ValueError, match="is no missed run"):
        known.miss_runs(JOB, [finished()])
    with pytest.raises(LedgerError, match="not in the ledger"):
        known.miss_runs("unknown", [])


def test_a_run_accounts_for_its_time_and_moves_what_is_expected(known: Ledger) -> None:
    """A skipped one accounts too, and moves nothing: no run has started."""
    known.start_run(run_start(), next_expected_at=3000.0, due_at=2000.0)
    known.finish_run(finished())
    assert known.accounted_until(JOB) == 2000.0
    assert known.miss_runs(JOB, missed(2000.0)) == 0
    known.skip_run(replace(finished("s"), outcome=Outcome.SKIPPED), due_at=3000.0)
    assert (known.accounted_until(JOB), known.state(JOB).next_expected_at) == (3000.0, 3000.0)
    known.skip_run(replace(finished("t"), outcome=Outcome.SKIPPED), due_at=2500.0)
    assert known.accounted_until(JOB) == 3000.0


def test_a_run_that_never_began_has_failed(known: Ledger) -> None:
    """In one step; it was the run for its time."""
    report = replace(finished(), outcome=Outcome.FAILED, reason="exit code 2", model=None)
    known.fail_unstarted_run(report, next_expected_at=3000.0, due_at=2000.0)
    state = known.state(JOB)
    assert (state.name, state.next_expected_at, known.accounted_until(JOB)) == ("failed", 3000.0, 2000.0)
    assert state.counters["batch_runs_total", ("failed",)] == 1
    with pytest.raises(ValueError, match="has not failed"):
        known.fail_unstarted_run(finished("x"), next_expected_at=None, due_at=1.0)


def test_a_changed_schedule_counts_from_now_and_a_wrong_clock_is_mended(known: Ledger) -> None:
    """An hour's step back is no reason: those times were run."""
    known.register(replace(definition(), grace_seconds=1.0), now=1500.0, next_expected_at=2000.0)
    assert known.accounted_until(JOB) == 1000.0
    known.register(replace(definition(), schedule="0 * * * *"), now=1600.0, next_expected_at=3600.0)
    assert known.accounted_until(JOB) == 1600.0
    known.skip_run(replace(finished("s"), outcome=Outcome.SKIPPED), due_at=10_000.0)
    known.register(replace(definition(), schedule="0 * * * *"), now=6400.0, next_expected_at=7200.0)
    assert known.accounted_until(JOB) == 10_000.0
    known.skip_run(replace(finished("t"), outcome=Outcome.SKIPPED), due_at=1e9)
    known.register(replace(definition(), schedule="0 * * * *"), now=6400.0, next_expected_at=7200.0)
    assert known.accounted_until(JOB) == 6400.0


def test_a_ledger_has_one_scheduler(known: Ledger) -> None:
    """A run's lock is another matter."""
    with known.scheduler_lock():
        with pytest.raises(LedgerError, match="another scheduler is at work on it"), known.scheduler_lock():
            pass
        with known.lock("run", JOB):
            pass
    with known.scheduler_lock():
        pass


def test_missed_runs_look_right_to_people_and_machines(known: Ledger) -> None:
    """In the history they have no duration and no rows; the list still shows the last run that there was."""
    one_run(known, finished(), ())
    known.miss_runs(JOB, missed(1795313700.0))
    (line, success, _, why) = text(run_history(known.runs(JOB))).splitlines()[1:]
    assert line.split() == ["2026-11-22", "02:15", "UTC", "2026-11-21", "scheduler", "missed", "–", "–"]
    assert "success" in success
    assert why == "2026-11-22 02:15 UTC missed: nobody came"
    state = known.state(JOB)
    assert "success" in text(job_list([state], 1795400000.0))
    assert "missed: 1970-01-01 00:33 UTC" in text(job_list([state], 1795400000.0))
    assert "1 in all; 'batchgauge history' shows when" in text(job_status(state, 1795400000.0))
    document = history_document(known.runs(JOB))[0]
    assert (document["outcome"], document["report"]["reason"], document["started_at"]) == (
        "missed",
        "nobody came",
        1795313700.0,
    )
