"""What the ledger tells of many jobs at once, for those who show them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from itertools import pairwise

import pytest

from monitoring.ledger import Ledger, RunOutline
from monitoring.state import JobState
from pipelines.errors import LedgerError
from pipelines.report import Outcome
from tests.reports import definition, finished, holdout, one_run, part, run_start


@pytest.fixture
def ledger_location(new_location: Callable[[], str]) -> str:
    """Every test of this module, on every database."""
    return new_location()


OTHER = "other/job"


@pytest.fixture
def two_jobs(ledger: Ledger) -> Ledger:
    """Two jobs; their runs end in turns, and the last one is in progress."""
    for job in ("digits", OTHER):
        ledger.register(definition(job), now=1.0, next_expected_at=None)
    for number, (job, outcome) in enumerate(
        (("digits", Outcome.SUCCESS), (OTHER, Outcome.FAILED), ("digits", Outcome.FAILED), (OTHER, Outcome.SUCCESS))
    ):
        parts = (part(rows=100 + number),)
        one_run(ledger, finished(f"run-{number}", job, outcome=outcome, parts=parts, started_at=10.0 + number), parts)
    ledger.start_run(run_start("run-4", "digits", 14.0), next_expected_at=None)
    return ledger


def test_the_states_of_all_jobs_are_those_of_each(two_jobs: Ledger) -> None:
    """One that never ran included, with its holdouts, its figures and the run in progress."""
    two_jobs.register(definition("a new one"), now=1.0, next_expected_at=None)
    parts = (part("b.parquet"),)
    one_run(two_jobs, finished("run-5", OTHER, parts=parts, holdouts=(holdout(),), started_at=20.0), parts)
    states = two_jobs.states()
    assert [state.definition.job for state in states] == ["a new one", "digits", OTHER]
    assert states == tuple(two_jobs.state(state.definition.job) for state in states)
    assert (states[1].name, bool(states[2].quality)) == ("running", True)


def test_a_revision_changes_with_whatever_the_state_tells(ledger: Ledger) -> None:
    """After every step that changes the state of a job its revision is another, and that of no other job."""
    for job in ("digits", OTHER):
        ledger.register(definition(job), now=1.0, next_expected_at=None)
    untouched = ledger.revisions()[OTHER]
    seen: list[tuple[object, JobState]] = []

    def look() -> None:
        seen.append((ledger.revisions()["digits"], ledger.state("digits")))

    look()
    ledger.start_run(run_start(), next_expected_at=5.0)
    look()
    ledger.add_parts("run-1", "digits", [part()])
    look()
    ledger.finish_run(finished(parts=(part(),)))
    look()
    ledger.mark_push_failed("digits", error="refused", at=2.0)
    look()
    ledger.mark_push_failed("digits", error="timed out", at=3.0)
    look()
    ledger.mark_pushed("digits", sequence=2, at=4.0)
    look()
    ledger.register(replace(definition(), grace_seconds=5.0), now=5.0, next_expected_at=None)
    look()
    revisions = [revision for revision, _ in seen]
    states = [state for _, state in seen]
    assert all(before != after for before, after in pairwise(states))
    assert len(set(revisions)) == len(revisions)
    assert ledger.revisions()[OTHER] == untouched


def test_looking_changes_no_revision(two_jobs: Ledger) -> None:
    """Else nothing could be kept."""
    before = two_jobs.revisions()
    two_jobs.state("digits")
    two_jobs.latest_runs(limit=5)
    assert two_jobs.revisions() == before
    assert sorted(before) == ["digits", OTHER]


def test_a_job_that_was_forgotten_and_came_back_has_another_revision(ledger: Ledger) -> None:
    """Its sequence begins anew and may be the same by chance."""
    ledger.register(definition(), now=1.0, next_expected_at=None)
    before = ledger.revisions()["digits"]
    ledger.forget("digits")
    assert ledger.revisions() == {}
    ledger.register(definition(), now=2.0, next_expected_at=None)
    assert ledger.revisions()["digits"].sequence == before.sequence
    assert ledger.revisions()["digits"] != before


def test_the_latest_runs_of_all_jobs(two_jobs: Ledger) -> None:
    """Newest first, whosever they are, and no more than asked for; each says whose it is."""
    found = two_jobs.latest_runs(limit=3)
    assert [(run.run_id, run.job, run.outcome) for run in found] == [
        ("run-4", "digits", None),
        ("run-3", OTHER, Outcome.SUCCESS),
        ("run-2", "digits", Outcome.FAILED),
    ]
    assert [run.report is None for run in found] == [True, False, False]


@pytest.mark.parametrize(
    ("job", "outcome", "found"),
    [
        (OTHER, None, ["run-3", "run-1"]),
        (None, Outcome.FAILED, ["run-2", "run-1"]),
        ("digits", Outcome.FAILED, ["run-2"]),
        (None, "running", ["run-4"]),
        (OTHER, "running", []),
        (None, Outcome.MISSED, []),
    ],
)
def test_the_latest_runs_that_are_meant(job: str | None, outcome: Outcome | None, found: list[str], two_jobs: Ledger) -> None:
    """Of one job, of one outcome, of both; the limit counts what is left."""
    assert [run.run_id for run in two_jobs.latest_runs(limit=2, job=job, outcome=outcome)] == found


def test_the_last_runs_of_days_are_few_however_many_there_were(ledger: Ledger) -> None:
    """Of those that ended well; days that have not been yet are left out, and failed runs hide nothing."""
    ledger.register(definition("digits"), now=1.0, next_expected_at=None)

    def ran(name: str, day: date, outcome: Outcome) -> None:
        ledger.start_run(replace(run_start(name, "digits"), logical_date=day), next_expected_at=None)
        ledger.finish_run(replace(finished(name, "digits", outcome=outcome), logical_date=day))

    days = [date(2026, 11, day) for day in (20, 21, 22)]
    for number in range(9):
        failed = number in {5, 8}
        ran(f"run-{number}", days[number // 3], Outcome.FAILED if failed else (Outcome.SUCCESS, Outcome.PARTIAL)[number % 2])
    ran("future", date(2062, 11, 22), Outcome.SUCCESS)
    found = ledger.last_runs_of_days("digits", days=2, each=2, until=date(2026, 11, 23))
    assert [run.run_id for run in found] == ["run-7", "run-6", "run-4", "run-3"]
    assert [run.run_id for run in ledger.last_runs_of_days("digits", days=9, each=1, until=days[0])] == ["run-2"]
    assert ledger.last_runs_of_days("nobody", days=9, each=9, until=days[0]) == ()


def test_outlines_are_runs_without_their_reports(two_jobs: Ledger) -> None:
    """Newest first; one in progress has no outcome."""
    assert two_jobs.outlines("digits", limit=2) == (RunOutline(None, 14.0, 0), RunOutline(Outcome.FAILED, 12.0, 102))
    assert two_jobs.outlines(OTHER)[-1] == RunOutline(Outcome.FAILED, 11.0, 101)


def test_runs_of_a_job_that_is_not_there_are_an_error(two_jobs: Ledger) -> None:
    """An empty answer would pass for a job that never ran."""
    for ask in (lambda: two_jobs.outlines("digit"), lambda: two_jobs.latest_runs(limit=1, job="digit")):
        with pytest.raises(LedgerError, match="'digit' is not in the ledger"):
            ask()
