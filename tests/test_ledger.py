"""The ledger: jobs, runs, parts and pushes, each method a whole transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from monitoring import names
from monitoring.ledger import AlertId, Cause, InPlace, Ledger, ModelId, RetrainOutcome, RetrainRecord
from monitoring.state import Destination, JobState
from pipelines.errors import LedgerError
from pipelines.report import Estimate, Outcome, Reason, Stage
from tests.reports import DAY, JOB, MODEL, definition, finished, holdout, one_run, part, run_start


@pytest.fixture
def ledger_location(new_location: Callable[[], str]) -> str:
    """Every test of this module, on every database."""
    return new_location()


REQUESTS = (names.REQUESTS.name, ())
BUCKET = f"{names.BATCH_LATENCY.name}_bucket"


def registered(ledger: Ledger) -> Ledger:
    ledger.register(definition(), now=1.0, next_expected_at=1000.0)
    return ledger


def stage(state: JobState, name: Stage) -> float:
    return state.counters[names.STAGE_SECONDS.name, (name,)]


def runs(state: JobState, outcome: Outcome) -> float:
    return state.counters[names.RUNS.name, (outcome,)]


# Registering.


def test_a_new_job_has_every_counter_at_zero(ledger: Ledger) -> None:
    """Zeros are pushed before the first run, so that its increase is seen."""
    assert ledger.register(definition(), now=1.0, next_expected_at=1000.0) is True
    counters = ledger.state(JOB).counters
    assert set(counters.values()) == {0}
    shown = {name.removesuffix("_bucket").removesuffix("_sum") for name, _ in counters}
    assert shown == {metric.name for metric in names.TABLE if metric.section == "cumulative"}
    assert {labels for name, labels in counters if name == names.ROWS_REJECTED.name} == {(reason,) for reason in Reason}
    assert {labels for name, labels in counters if name == names.STAGE_SECONDS.name} == {(one,) for one in Stage}
    assert {labels for name, labels in counters if name == names.RUNS.name} == {(outcome,) for outcome in Outcome}
    assert len([name for name, _ in counters if name == BUCKET]) == len(names.LATENCY_BUCKETS) + 1


def test_registering_again_changes_nothing(ledger: Ledger) -> None:
    """The sequence rises only when the state does, so nothing is pushed for nothing."""
    before = registered(ledger).state(JOB)
    assert ledger.register(definition(), now=2.0, next_expected_at=2000.0) is False
    assert ledger.state(JOB) == before
    assert before.next_expected_at == 1000.0


def test_a_new_schedule_moves_the_next_expected_run(ledger: Ledger) -> None:
    """Only a new schedule or time zone does; a missed run stays missed otherwise."""
    registered(ledger)
    changed = replace(definition(), timezone="Europe/Berlin")
    ledger.register(changed, now=2.0, next_expected_at=2000.0)
    assert ledger.state(JOB).next_expected_at == 2000.0
    assert ledger.state(JOB).sequence == 2
    ledger.register(replace(changed, grace_seconds=5.0), now=3.0, next_expected_at=3000.0)
    assert ledger.state(JOB).next_expected_at == 2000.0
    ledger.register(replace(changed, schedule=None), now=4.0, next_expected_at=None)
    assert ledger.state(JOB).next_expected_at is None


def test_a_new_holdout_starts_at_zero(ledger: Ledger) -> None:
    """It is added to what has been counted, which stays."""
    report = part()
    one_run(registered(ledger), finished(parts=(report,)), (report,))
    ledger.register(definition(holdouts=("labelled", "new")), now=2.0, next_expected_at=None)
    state = ledger.state(JOB)
    assert state.counters[names.EVALUATED_EXAMPLES.name, ("new",)] == 0
    assert state.counters[REQUESTS] == 100


# Runs.


def test_a_run_from_start_to_finish(ledger: Ledger) -> None:
    """While it goes on its rows so far are shown; afterwards its report."""
    registered(ledger).start_run(run_start(), next_expected_at=5000.0)
    ledger.set_model("run-1", MODEL)
    reports = (part("a.parquet", rows=70, rejected={Reason.NULL: 30}), part("b.parquet", rows=5))
    for report in reports:
        ledger.add_parts("run-1", JOB, [report])
    running = ledger.state(JOB).running
    assert running is not None
    assert (running.rows_read, running.rows_scored, running.rows_rejected) == (105, 75, 30)
    assert (running.model_version, running.trigger, running.host) == (MODEL.version, "cron", "worker-7")
    report_of_run = finished(parts=reports, holdouts=(holdout(),))
    ledger.finish_run(report_of_run)
    state = ledger.state(JOB)
    assert state.running is None
    assert state.latest == report_of_run
    assert state.model == MODEL
    assert state.quality == {"labelled": holdout()}
    assert state.last_success_at == report_of_run.finished_at
    assert state.next_expected_at == 5000.0
    assert state.counters[REQUESTS] == 75
    assert state.counters[names.ROWS_REJECTED.name, ("null",)] == 30
    assert state.counters[names.EVALUATED_EXAMPLES.name, ("labelled",)] == 600
    assert state.counters[names.CORRECT_EXAMPLES.name, ("labelled",)] == 570
    assert runs(state, Outcome.SUCCESS) == 1


def test_stage_seconds_are_counted_once(ledger: Ledger) -> None:
    """The parts have added theirs; the end of the run adds only what no part has: evaluation."""
    reports = (part("a.parquet"), part("b.parquet"))
    one_run(registered(ledger), finished(parts=reports, holdouts=(holdout(),)), reports)
    state = ledger.state(JOB)
    assert stage(state, Stage.READ) == 0.2
    assert stage(state, Stage.INFER) == 0.02
    assert stage(state, Stage.EVALUATE) == 1.25


def test_a_latency_on_a_bound_is_in_its_bucket(ledger: Ledger) -> None:
    """As Prometheus has it: `le` is less or equal."""
    registered(ledger).start_run(run_start(), next_expected_at=None)
    ledger.add_parts("run-1", JOB, [part(latencies=(0.0001, 0.00010001, 30.5, 31.0))])
    counters = ledger.state(JOB).counters
    filled = {labels[0]: value for (name, labels), value in counters.items() if name == BUCKET and value}
    assert filled == {"0": 1, "1": 1, "16": 1, "17": 1}
    assert counters[f"{names.BATCH_LATENCY.name}_sum", ()] == 61.50020001


def test_a_part_that_was_rejected_whole_is_not_committed(ledger: Ledger) -> None:
    """Its rows count as rejected, and the next run tries it again."""
    registered(ledger).start_run(run_start(), next_expected_at=None)
    ledger.add_parts("run-1", JOB, [part(rows=0, rejected={Reason.UNREADABLE: 50}, latencies=(), error="truncated")])
    assert ledger.committed_parts(JOB, "/scored") == {}
    assert ledger.state(JOB).counters[names.ROWS_REJECTED.name, ("unreadable",)] == 50


def test_parts_are_added_all_or_none(ledger: Ledger) -> None:
    """One that can't be recorded keeps the others out; a part that was rejected whole is counted, not committed."""
    registered(ledger).start_run(run_start(), next_expected_at=None)
    before = ledger.state(JOB)
    with pytest.raises(LedgerError, match="not UTF-8"):
        ledger.add_parts("run-1", JOB, [part("a.parquet"), replace(part("b.parquet"), source="\udcff")])
    assert ledger.state(JOB) == before
    ledger.add_parts("run-1", JOB, [part("a.parquet"), part("b.parquet"), part("c.parquet", rows=0, error="cut short")])
    state = ledger.state(JOB)
    assert (state.sequence, state.counters[REQUESTS]) == (before.sequence + 1, 200)
    assert set(ledger.committed_parts(JOB, "/scored")) == {"/scored/a.parquet", "/scored/b.parquet"}


def test_a_part_scored_again_replaces_its_record_and_counts_again(ledger: Ledger) -> None:
    """One record for one output; the rows were scored twice."""
    registered(ledger).start_run(run_start(), next_expected_at=None)
    ledger.add_parts("run-1", JOB, [part()])
    ledger.add_parts("run-1", JOB, [replace(part(), fingerprint="new")])
    (committed,) = ledger.committed_parts(JOB, "/scored").values()
    assert committed.fingerprint == "new"
    assert ledger.state(JOB).counters[REQUESTS] == 200


def test_quality_outlives_an_evaluation_that_failed(ledger: Ledger) -> None:
    """The last that succeeded stays, with its own time; a holdout that the job no longer has is not shown."""
    registered(ledger)
    one_run(ledger, finished("run-1", holdouts=(holdout(),)), ())
    one_run(ledger, finished("run-2", outcome=Outcome.PARTIAL, holdouts=(holdout(error="no label column"),)), ())
    state = ledger.state(JOB)
    assert state.quality["labelled"] == holdout()
    assert state.counters[names.EVALUATED_EXAMPLES.name, ("labelled",)] == 600
    ledger.register(definition(holdouts=()), now=2.0, next_expected_at=None)
    assert ledger.state(JOB).quality == {}


@pytest.mark.parametrize(("used", "shown"), [("old", "new"), ("new", "new")])
def test_a_run_that_a_promotion_overtook_brings_no_old_figures_back(ledger: Ledger, used: str, shown: str) -> None:
    """It is in the history and in the counters; what is shown is of the model in use."""
    registered(ledger)
    report = finished("run-1", holdouts=(holdout(),))
    models = {name: replace(MODEL, version=name, sha256=name) for name in ("old", "new")}
    ledger.start_run(run_start("run-1", JOB, report.started_at), next_expected_at=None)
    begun = RetrainRecord("r1", JOB, Cause.ALERT, DAY, "/m.pt2", report.started_at + 1, before=ModelId("old", "old"))
    ledger.start_retrain(begun)
    ended = replace(begun, outcome=RetrainOutcome.PROMOTED, finished_at=report.started_at + 2, after=ModelId("new", "new"))
    better = replace(holdout(), accuracy=Estimate(0.99, 0.98, 1.0))
    ledger.finish_retrain(ended, InPlace(models["new"], ((better, DAY),)))
    ledger.finish_run(replace(report, model=models[used]))
    state = ledger.state(JOB)
    assert (state.model, state.quality["labelled"]) == (models[shown], better if used == "old" else holdout())
    assert state.counters[names.EVALUATED_EXAMPLES.name, ("labelled",)] == 600
    assert state.latest is not None
    one_run(ledger, replace(finished("run-2", started_at=report.started_at + 3), model=models["old"]), ())
    assert ledger.state(JOB).model == models["old"]  # it was put back by hand: the run says what is in use


def test_only_success_is_the_last_success(ledger: Ledger) -> None:
    """A later failure doesn't touch it."""
    registered(ledger)
    one_run(ledger, finished("run-1"), ())
    one_run(ledger, finished("run-2", outcome=Outcome.FAILED, started_at=1795300000.0), ())
    state = ledger.state(JOB)
    assert state.last_success_at == finished("run-1").finished_at
    assert state.latest is not None
    assert state.latest.run_id == "run-2"


def test_a_skipped_run_is_counted_and_listed_and_is_not_the_latest(ledger: Ledger) -> None:
    """It never began: the one in progress is still the one that is shown."""
    one_run(registered(ledger), finished("run-1"), ())
    ledger.start_run(run_start("run-2"), next_expected_at=None)
    ledger.skip_run(replace(finished("run-3", outcome=Outcome.SKIPPED), model=None))
    state = ledger.state(JOB)
    assert state.name == "running"
    assert state.latest is not None
    assert state.latest.run_id == "run-1"
    assert runs(state, Outcome.SKIPPED) == 1
    assert [run.outcome for run in ledger.runs(JOB)] == [Outcome.SKIPPED, None, Outcome.SUCCESS]


def test_a_run_whose_process_died_is_failed_with_its_rows(ledger: Ledger) -> None:
    """What it had committed stays counted, in the run too."""
    registered(ledger).start_run(run_start(started_at=100.0), next_expected_at=None)
    ledger.set_model("run-1", MODEL)
    ledger.add_parts("run-1", JOB, [part(rows=7, rejected={Reason.NAN: 2})])
    assert ledger.fail_dead_runs(JOB, now=160.0, reason="killed") == ("run-1",)
    assert ledger.fail_dead_runs(JOB, now=170.0, reason="killed") == ()
    state = ledger.state(JOB)
    assert state.running is None
    report = state.latest
    assert report is not None
    assert (report.outcome, report.reason, report.model) == (Outcome.FAILED, "killed", MODEL)
    assert (report.rows_read, report.rows_scored, report.rows_rejected) == (9, 7, {Reason.NAN: 2})
    assert (report.elapsed_seconds, report.stage_seconds[Stage.READ], report.batches) == (60.0, 0.1, 1)
    assert (runs(state, Outcome.FAILED), state.counters[REQUESTS]) == (1, 7)


def test_a_run_that_ended_takes_nothing_more(ledger: Ledger) -> None:
    """A second finish or a late part is refused whole: nothing is counted twice."""
    one_run(registered(ledger), finished(), ())
    before = ledger.state(JOB)
    with pytest.raises(LedgerError, match="'run-1' of job 'digits' has ended already"):
        ledger.finish_run(finished())
    with pytest.raises(LedgerError, match="has ended already"):
        ledger.add_parts("run-1", JOB, [part()])
    with pytest.raises(LedgerError, match="in the ledger already"):
        ledger.start_run(run_start(), next_expected_at=None)
    assert ledger.state(JOB) == before
    assert ledger.committed_parts(JOB, "/scored") == {}


def test_history_is_newest_first_and_can_be_pruned(ledger: Ledger) -> None:
    """Pruning keeps the newest, and whatever is still shown."""
    registered(ledger)
    for number in range(5):
        one_run(ledger, finished(f"run-{number}", started_at=1000.0 - number), ())
    assert [run.run_id for run in ledger.runs(JOB, limit=3)] == ["run-4", "run-3", "run-2"]
    before = ledger.state(JOB)
    ledger.prune_runs(JOB, keep=2)
    assert [run.run_id for run in ledger.runs(JOB)] == ["run-4", "run-3"]
    ledger.prune_runs(JOB, keep=0)
    assert ledger.state(JOB) == before


# Parts.


def test_committed_parts_are_those_of_the_folder(ledger: Ledger) -> None:
    """Also in sub-folders that mirror the input's; another folder with the same beginning is another folder."""
    registered(ledger).start_run(run_start(), next_expected_at=None)
    for name, output in {
        "a.parquet": "/scored/date=1/a.parquet",
        "eu/a.parquet": "/scored/date=1/eu/a.parquet",
        "b.parquet": "/scored/date=10/b.parquet",
    }.items():
        ledger.add_parts("run-1", JOB, [replace(part(name), output=output)])
    assert set(ledger.committed_parts(JOB, "/scored/date=1/")) == {"/scored/date=1/a.parquet", "/scored/date=1/eu/a.parquet"}
    assert ledger.committed_parts(JOB, "/scored") == {}
    ledger.drop_parts(JOB, ["/scored/date=1/a.parquet"])
    assert set(ledger.committed_parts(JOB, "/scored/date=1")) == {"/scored/date=1/eu/a.parquet"}
    assert ledger.committed_parts("other", "/scored/date=1") == {}


@pytest.mark.parametrize("other", ["a job before", "the job after"])
def test_another_owner_of_a_folder_is_found(ledger: Ledger, other: str) -> None:
    """Whichever of the two has the first name, and however many parts either has there."""
    assert (other < JOB) == (other == "a job before")
    for run, job in (("run-1", JOB), ("run-2", other)):
        ledger.register(definition(job), now=1.0, next_expected_at=1000.0)
        ledger.start_run(run_start(run, job), next_expected_at=None)
    ledger.add_parts("run-1", JOB, [replace(part(f"{number}"), output=f"/scored/{number}") for number in range(3)])
    assert [ledger.other_owner(job, "/scored") for job in (JOB, other)] == [None, JOB]
    ledger.add_parts("run-2", other, [replace(part("b"), output="/scored/b"), replace(part("c"), output="/elsewhere/c")])
    assert [ledger.other_owner(job, "/scored/") for job in (JOB, other, "a third")] == [other, JOB, min(JOB, other)]
    assert [ledger.other_owner(job, "/elsewhere") for job in (JOB, other)] == [other, None]


@pytest.mark.parametrize("root", ["/scored", "s3://bucket/scored"])
def test_another_owner_is_found_in_a_folder_around(ledger: Ledger, root: str) -> None:
    """If it has a part inside: beside its parts there is room for others."""
    for job in (JOB, "other"):
        ledger.register(definition(job), now=1.0, next_expected_at=1000.0)
    ledger.start_run(run_start("run-1", JOB), next_expected_at=None)
    ledger.add_parts("run-1", JOB, [replace(part("eu/a.parquet"), output=f"{root}/eu/a.parquet")])
    found = {folder: ledger.other_owner("other", f"{root}{folder}") for folder in ("", "/", "/eu", "/eu/", "/e", "/us")}
    assert found == {"": JOB, "/": JOB, "/eu": JOB, "/eu/": JOB, "/e": None, "/us": None}
    assert ledger.other_owner(JOB, f"{root}/eu") is None


# Pushes.


def test_a_state_is_owed_until_that_very_state_was_pushed(ledger: Ledger) -> None:
    """An older push doesn't settle it, a failed one keeps its reason, and neither changes the state shown."""
    ledger.register(definition(destination=Destination(gateway="http://gateway:9091")), now=1.0, next_expected_at=None)
    ledger.mark_push_failed(JOB, error="refused", at=5.0)
    state = ledger.state(JOB)
    assert (state.owed, state.push_error, state.sequence) == (True, "refused", 1)
    ledger.mark_pushed(JOB, sequence=1, at=6.0)
    state = ledger.state(JOB)
    assert (state.owed, state.push_error, state.pushed_at, state.sequence) == (False, None, 6.0, 1)
    ledger.start_run(run_start(), next_expected_at=None)
    ledger.mark_pushed(JOB, sequence=1, at=7.0)
    assert ledger.state(JOB).owed


def test_without_a_destination_nothing_is_owed(ledger: Ledger) -> None:
    """There is nobody to deliver it to."""
    assert not registered(ledger).state(JOB).owed


def test_a_forgotten_job_is_gone(ledger: Ledger) -> None:
    """With its runs, parts and counters; others stay."""
    report = part()
    one_run(registered(ledger), finished(parts=(report,)), (report,))
    ledger.register(definition("other"), now=1.0, next_expected_at=None)
    ledger.forget(JOB)
    assert ledger.jobs() == ("other",)
    assert ledger.register(definition(), now=1.0, next_expected_at=None) is True
    assert ledger.runs(JOB) == ()
    assert ledger.committed_parts(JOB, "/scored") == {}
    assert set(ledger.state(JOB).counters.values()) == {0}


def test_a_retraining_from_start_to_finish(ledger: Ledger) -> None:
    """What is known of it is there at each step; only its end changes what is pushed, and counts it once."""
    registered(ledger)
    before = ledger.state(JOB).sequence
    start = RetrainRecord("r1", JOB, Cause.ALERT, DAY, "/m.pt2", 10.0, (AlertId("1a", "2026-11-22T02:15:00+00:00"),))
    ledger.start_retrain(start)
    assert ledger.retrains(JOB) == (start,)
    found = replace(start, reason="better", figures={"slices": 3}, before=ModelId("v1", "aa"), after=ModelId("v2", "bb"))
    ledger.update_retrain(found)
    assert (ledger.retrains(JOB), ledger.state(JOB).sequence) == ((found,), before)
    ended = replace(found, outcome=RetrainOutcome.PROMOTED, finished_at=20.0)
    ledger.finish_retrain(ended)
    assert (ledger.retrains(JOB), ledger.state(JOB).sequence) == ((ended,), before + 1)
    counters = {labels: value for (name, labels), value in ledger.state(JOB).counters.items() if name == "model_retrains_total"}
    assert counters == {(outcome,): int(outcome == "promoted") for outcome in RetrainOutcome}


def test_a_retraining_that_ended_or_never_began_takes_nothing_more(ledger: Ledger) -> None:
    """And an id is used once."""
    start = RetrainRecord("r1", JOB, Cause.HAND, DAY, "/m.pt2", 10.0)
    with pytest.raises(LedgerError, match="not in the ledger"):
        ledger.start_retrain(start)
    registered(ledger).start_retrain(start)
    with pytest.raises(LedgerError, match="in the ledger already"):
        ledger.start_retrain(start)
    ended = replace(start, outcome=RetrainOutcome.FAILED, finished_at=20.0)
    ledger.finish_retrain(ended)
    for record in (ended, replace(ended, retrain_id="r2")):
        with pytest.raises(LedgerError, match="is not in progress"):
            ledger.finish_retrain(record)
    assert ledger.state(JOB).counters["model_retrains_total", ("failed",)] == 1
    with pytest.raises(ValueError, match="finish it"):
        ledger.update_retrain(ended)
    with pytest.raises(ValueError, match="has no outcome"):
        ledger.finish_retrain(start)


def test_retrainings_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What put a model in place isn't pushed out by what didn't; what is in progress stays."""
    monkeypatch.setattr("monitoring.ledger.retrains.KEPT", 2)
    registered(ledger).start_retrain(RetrainRecord("r0", JOB, Cause.HAND, DAY, "/m.pt2", 1.0))
    for number, outcome in enumerate(["promoted", "promoted", "rolled_back", "failed", "refused", "failed", "failed"], 1):
        record = RetrainRecord(f"r{number}", JOB, Cause.HAND, DAY, "/m.pt2", 1.0 + number)
        ledger.start_retrain(record)
        ledger.finish_retrain(replace(record, outcome=RetrainOutcome(outcome), finished_at=20.0))
    assert [record.retrain_id for record in ledger.retrains(JOB, limit=None)] == ["r7", "r6", "r3", "r2", "r0"]


def test_a_job_that_is_not_retrained_has_no_count_of_it(ledger: Ledger) -> None:
    """Until it gets the section: then zeros first."""
    ledger.register(replace(definition(), retrains=False), now=1.0, next_expected_at=None)
    assert not [name for name, _ in ledger.state(JOB).counters if name == "model_retrains_total"]
    registered(ledger)
    assert ledger.state(JOB).counters["model_retrains_total", ("promoted",)] == 0


def test_an_unknown_job_is_named_with_its_neighbours(ledger: Ledger) -> None:
    """A typing error is seen at once."""
    registered(ledger)
    with pytest.raises(LedgerError, match="'digit' is not in the ledger \\(known: 'digits'\\)"):
        ledger.state("digit")
    for call in (
        lambda: ledger.runs("digit"),
        lambda: ledger.forget("digit"),
        lambda: ledger.start_run(run_start(job="digit"), next_expected_at=None),
        lambda: ledger.add_parts("run-1", "digit", [part()]),
        lambda: ledger.finish_run(finished(job="digit")),
        lambda: ledger.fail_dead_runs("digit", now=1.0, reason="killed"),
    ):
        with pytest.raises(LedgerError, match="known: 'digits'"):
            call()
