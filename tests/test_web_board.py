"""All jobs as they are now: what is read, what is kept, and what is said when something can't be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from jobs.report.facts import gather
from jobs.report.verdict import Level, verdict
from jobs.scheduler.snapshot import RetrainingJob, RunningJob, WaitingJob
from jobs.web.attention import concerns
from jobs.web.board import Board, JobNow, Turn
from monitoring.ledger import Ledger, RetrainOutcome, RunOutline
from pipelines.report import Estimate, Outcome
from tests import report_jobs
from tests.report_jobs import HOSTILE, NOW, TONIGHT
from tests.reports import definition, holdout, part, run_start
from tests.web_world import World, busy_night, fleet, queries


def edit(ledger: Ledger, statement: str) -> None:
    """Do to the ledger's file what nobody should."""
    with closing(sqlite3.connect(ledger.location)) as connection, connection:
        connection.execute(statement)


def one(board: Board, job: str) -> JobNow:
    found = board.look().find(job)
    assert found is not None
    return found


# What is read.


def test_a_second_look_at_200_jobs_is_one_query(ledger: Ledger) -> None:
    """Only what has changed is read again, however many jobs there are."""
    names = fleet(ledger, 200)
    board = World(ledger).board()
    with queries(ledger) as first:
        before = board.look()
    with queries(ledger) as second:
        after = board.look()
    assert len(first) > len(names)
    assert len(second) == 1
    assert [job.job for job in before.jobs] == sorted(names)
    assert all(old.known is new.known for old, new in zip(before.jobs, after.jobs, strict=True))


def test_a_job_that_changed_is_read_again_and_no_other(ledger: Ledger) -> None:
    """A run, a push, and a push that failed each change how a job is."""
    for job in ("changing", "still"):
        report_jobs.register(ledger, definition(job))
    board = World(ledger).board()
    still, changing = one(board, "still").known, one(board, "changing").known
    changes: list[Callable[[], object]] = [
        lambda: report_jobs.run_of_night(ledger, "changing", TONIGHT, "run-1", parts=(part(),)),
        lambda: ledger.mark_push_failed("changing", error="refused", at=NOW),
        lambda: ledger.mark_pushed("changing", sequence=4, at=NOW),
    ]
    for change in changes:
        change()
        assert one(board, "changing").known.revision != changing.revision
        changing = one(board, "changing").known
        assert changing.state == replace(ledger.state("changing"), counters={})
        assert one(board, "still").known is still


def test_several_threads_look_and_the_ledger_is_read_once(ledger: Ledger) -> None:
    """Two people with a page open cost what one does."""
    fleet(ledger, 20)
    with queries(ledger) as alone:
        World(ledger).board().look()
    board = World(ledger).board()
    with queries(ledger) as together, ThreadPoolExecutor(4) as threads:
        seen = [future.result() for future in [threads.submit(board.look) for _ in range(8)]]
    assert len(together) == len(alone) + 7
    assert all(overview.jobs == seen[0].jobs for overview in seen)


def test_what_no_list_shows_is_not_kept(ledger: Ledger) -> None:
    """Slices, classes and counters of thousands of jobs would fill the memory; what is wrong with slices is counted."""
    low, bad = Estimate(0.5, 0.4, 0.6), holdout()
    bad = replace(bad, slices=tuple(replace(piece, accuracy=low, judged=number < 2) for number, piece in enumerate(bad.slices)))
    report_jobs.register(ledger, definition("job"))
    report_jobs.run_of_night(ledger, "job", TONIGHT, "run-1", change=partial(replace, holdouts=(bad,)))
    job = one(World(ledger).board(), "job")
    assert job.state.latest is not None
    for judged in (job.state.quality["labelled"], *job.state.latest.holdouts):
        assert (judged.accuracy, judged.slices, judged.classes, judged.confusion) == (bad.accuracy, (), (), ())
    assert job.state.counters == {}
    assert job.known.low_slices == {"accuracy": 2}
    assert [told.line for told in concerns(job, NOW)] == ["accuracy surely too low on 2 slices"]


def test_past_runs_are_the_newest_and_the_oldest_of_them_comes_first(ledger: Ledger) -> None:
    """As they are drawn, from left to right."""
    report_jobs.register(ledger, definition("job"))
    for age in range(25, 0, -1):
        day = TONIGHT - timedelta(days=age)
        report_jobs.run_of_night(ledger, "job", day, f"run-{age}", parts=(part(rows=age),))
    past = one(World(ledger).board(), "job").known.past
    assert len(past) == 20
    assert past[0] == RunOutline(Outcome.SUCCESS, report_jobs.night_start(TONIGHT - timedelta(days=20)), 20)
    assert [run.rows_scored for run in past] == list(range(20, 0, -1))


def test_a_look_settles_nothing(ledger: Ledger) -> None:
    """A run whose process died is the sync's business: to look must change nothing."""
    report_jobs.register(ledger, definition("dead"))
    ledger.start_run(run_start("run-1", "dead", NOW - 60), next_expected_at=None)
    before = ledger.revisions()
    assert one(World(ledger).board(), "dead").name == "running"
    assert ledger.revisions() == before


# What a job is at.


def test_the_scheduler_knows_more_than_the_ledger(ledger: Ledger) -> None:
    """What it has started and what waits, in the order in which it will start; others' jobs are there too."""
    with busy_night(ledger) as world:
        board = world.board()
        by_name = {job.job: job for job in board.look().jobs}
    assert (by_name["fraud"].name, by_name["fraud"].state.name) == ("running", "success")  # not recorded yet
    assert by_name["basket"].turn == Turn(1, NOW - 300)
    assert by_name["credit-limit"].retraining == RetrainingJob("credit-limit", 4713, NOW - 1260)
    assert by_name["adhoc-export"].scheduled is None
    assert (by_name["monthly-close"].name, by_name["monthly-close"].state.name) == ("missed", "idle")
    assert by_name["monthly-close"].next_due_at == report_jobs.night_start(TONIGHT + timedelta(days=1))
    assert by_name["adhoc-export"].next_due_at is None


def test_a_late_job_is_missed_until_it_runs(ledger: Ledger) -> None:
    """By the clock alone, without a change in the ledger."""
    report_jobs.register(ledger, definition("job"), next_expected_at=NOW)
    world = World(ledger)
    board = world.board()
    assert one(board, "job").name == "idle"
    world.now = NOW + 1801
    assert one(board, "job").name == "missed"
    world.snapshot = replace(world.snapshot, running=(RunningJob("job", 1, NOW),))
    assert one(board, "job").name == "running"


def test_jobs_come_and_go(ledger: Ledger) -> None:
    """A job that was forgotten is not shown any more; one that the ledger hasn't is told by its name."""
    report_jobs.register(ledger, definition("old"))
    world = World(ledger)
    world.schedule("old", "ghost")
    board = world.board()
    assert board.look().unknown == ("ghost",)
    ledger.forget("old")
    report_jobs.register(ledger, definition("ghost"))
    overview = board.look()
    assert ([job.job for job in overview.jobs], overview.unknown) == (["ghost"], ("old",))


# What can't be read.


def test_a_job_that_cannot_be_read_hides_no_other(ledger: Ledger) -> None:
    """It is told, and tried again at every look."""
    for job in ("good", "bad"):
        report_jobs.register(ledger, definition(job))
    edit(ledger, "UPDATE jobs SET definition = '{}' WHERE job = 'bad'")
    board = World(ledger).board()
    overview = board.look()
    assert [job.job for job in overview.jobs] == ["good"]
    assert "the definition of job 'bad' can't be read back" in overview.unreadable["bad"]
    assert overview.trouble is None
    edit(ledger, "UPDATE jobs SET definition = (SELECT definition FROM jobs WHERE job = 'good') WHERE job = 'bad'")
    overview = board.look()
    assert ([job.job for job in overview.jobs], overview.unreadable) == (["bad", "good"], {})


def test_a_ledger_that_cannot_be_read_leaves_what_was_known(ledger: Ledger) -> None:
    """With the time of it: at night it is better than nothing."""
    report_jobs.register(ledger, definition("job"))
    world = World(ledger)
    board, fresh = world.board(), world.board()
    board.look()
    edit(ledger, "ALTER TABLE jobs RENAME TO lost")
    world.now = NOW + 60
    world.snapshot = replace(world.snapshot, waiting=(WaitingJob("job", NOW),))
    overview = board.look()
    assert overview.trouble is not None
    assert "no such table: jobs" in overview.trouble
    assert ([job.turn for job in overview.jobs], overview.read_at) == ([Turn(1, NOW)], NOW)
    assert (fresh.look().jobs, fresh.look().read_at) == ((), None)
    edit(ledger, "ALTER TABLE lost RENAME TO jobs")
    assert (board.look().trouble, board.look().read_at) == (None, NOW + 60)


# What somebody should know.


@pytest.mark.parametrize(
    ("job", "make"),
    [
        ("digits", report_jobs.busy),
        ("idle", report_jobs.idle),
        ("broken", report_jobs.failed),
        ("plain", report_jobs.unjudged),
        (HOSTILE, report_jobs.hostile),
        ("retrained", report_jobs.failed_to_retrain),
    ],
)
def test_the_board_and_the_report_agree(job: str, make: Callable[[Ledger, str], None], ledger: Ledger) -> None:
    """How bad it is must not depend on the page that one looks at."""
    make(ledger, job)
    facts = gather(ledger, job, now=NOW)
    told = {finding.level for finding in verdict(facts.state, facts.clock, facts.failed_retrain).findings} - {Level.NOTE}
    assert {concern.level for concern in concerns(one(World(ledger).board(), job), NOW)} == told


def test_concerns_are_lines_and_the_worst_comes_first(ledger: Ledger) -> None:
    """Why a run failed, in its own words, cut to a line; what the scheduler knows of the job's file."""
    report_jobs.hostile(ledger)
    world = World(ledger)
    world.schedule(HOSTILE, error="jobs/x.toml: [batch] rows: is no number\nand more")
    found = concerns(one(world.board(), HOSTILE), NOW)
    levels = [concern.level for concern in found]
    assert levels == sorted(levels, key=list(Level).index)
    assert levels[0] is Level.CRITICAL
    assert found[-1].line == "job file: jobs/x.toml: [batch] rows: is no number"
    assert all(len(concern.line) < 400 and "\n" not in concern.line for concern in found)


def test_a_retraining_that_failed_is_told_until_one_does_not(ledger: Ledger) -> None:
    """One that is in progress changes nothing yet."""
    report_jobs.failed_to_retrain(ledger, "job")
    board = World(ledger).board()
    said = "the last retraining failed, 60 min ago: train.py ended with exit code 3"
    assert [told.line for told in concerns(one(board, "job"), NOW)] == [said]
    again = replace(report_jobs.RETRAINING, retrain_id="r2", job="job", started_at=NOW - 60)
    ledger.start_retrain(again)
    assert [told.line for told in concerns(one(board, "job"), NOW)] == [said]
    ledger.finish_retrain(replace(again, finished_at=NOW - 10, outcome=RetrainOutcome.REFUSED))
    assert concerns(one(board, "job"), NOW) == ()


@pytest.mark.parametrize(
    ("queued", "words"),
    [((), "nothing has started it"), ((WaitingJob("job", NOW),), "waits for its turn")],
)
def test_a_missed_run_says_whether_it_waits(queued: tuple[WaitingJob, ...], words: str, ledger: Ledger) -> None:
    """A full queue is another trouble than a scheduler that overslept."""
    report_jobs.register(ledger, definition("job"), next_expected_at=NOW - 3600)
    world = World(ledger)
    world.snapshot = replace(world.snapshot, waiting=queued)
    found = concerns(one(world.board(), "job"), NOW)
    assert [told.line for told in found] == [f"was due 60 min ago, and {words}"]
