"""What `auto` is settled to: measured, kept, and measured again when it must be."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from time import time

import pytest

from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.ledger import Ledger
from monitoring.resources import machine
from pipelines import finding, planning
from pipelines.cancellation import Cancellation, Cancelled
from pipelines.report import BatchTrial, RunReport, TuningReport
from pipelines.scoring import Scorer
from pipelines.settings import BatchSettings
from pipelines.settling import Question, settle
from pipelines.values import Auto
from tests.tiny_job import TinyJob

NIGHT = "2026-11-20"
MILLION = 10**6

# Threads in a kernel help it, workers don't: they stand in each other's way. By a clock of its own, which is a file's size;
# two threads are worth more there than two workers that never met.
ONE_AT_A_TIME = """
import threading
from pathlib import Path

import torch

ALONE = threading.Lock()


class OneAtATime(torch.nn.Linear):
    def forward(self, x):
        with ALONE, (Path(__file__).parent / "clock").open("a") as clock:
            clock.write("." * (len(x) // torch.get_num_threads() ** 3))
        return super().forward(x)


def build():
    return OneAtATime(2, 2)
"""


# There is memory for one batch.
ROOM_FOR_ONE = """
import threading
import time

import torch

ROOM = threading.Lock()


class RoomForOne(torch.nn.Linear):
    def forward(self, x):
        if not ROOM.acquire(blocking=False):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        try:
            time.sleep(0.01)
            return super().forward(x)
        finally:
            ROOM.release()


def build():
    return RoomForOne(2, 2)
"""


# Alone, small batches are the fastest for each row; beside another one, each takes some milliseconds more.
CROWDED = """
import threading
import time

import torch

INSIDE = []


class Crowded(torch.nn.Linear):
    def forward(self, x):
        INSIDE.append(threading.get_ident())
        time.sleep(len(x) * 2e-6 * (1 + len(x) / 1000) + (0.005 if len(set(INSIDE)) > 1 else 0))
        INSIDE.remove(threading.get_ident())
        return super().forward(x)


def build():
    return Crowded(2, 2)
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(tmp_path / "state" / "ledger.db")})


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    job = TinyJob(tmp_path / "job")
    job.write_input(NIGHT, 2_000, group_rows=1_000)
    job.edit({"rows = 50": 'rows = "auto"', "workers = 2": 'workers = "auto"', "part_rows = 100": "part_rows = 1000"})
    return job


def go(job: TinyJob, environment: Environment) -> RunReport:
    request = RunRequest(load(job.spec), environment, logical_date=date.fromisoformat(NIGHT), rescore=True)
    return run(request, observer=Silent(), cancellation=Cancellation()).report


def settled(
    job: TinyJob, question: Question, known: TuningReport | None = None, cancellation: Cancellation | None = None
) -> tuple[Scorer, TuningReport]:
    spec = load(job.spec).for_date(date.fromisoformat(NIGHT))
    scorer = Scorer(spec.model_copy(update={"batch": question.settings}), spec.folder)
    plan = planning.plan(finding.find_files(spec.input.path), check_schema=scorer.check_schema, part_rows=1_000)
    assert plan.rejections == ()
    return scorer, settle(scorer, plan.parts[0], question, known, cancellation or Cancellation())


def question(*, workers: int | Auto = "auto", rows: int = 100 * MILLION, cores: int = 2, parts: int = 100) -> Question:
    return Question(BatchSettings(workers=workers), parts=parts, rows=rows, cores=cores)


def test_a_run_says_what_it_settled_on_and_the_next_one_uses_it(job: TinyJob, environment: Environment) -> None:
    """Measured once, for each model and kind of machine; the table of what was tried is in both reports."""
    first, second = go(job, environment), go(job, environment)
    assert first.tuning is not None
    assert first.tuning == second.tuning
    assert [trial.rows for trial in first.tuning.batch_trials] == [256]  # 1,000 rows hold no batch of 1,024
    assert (first.batch_rows, first.workers) == (first.tuning.batch_rows, first.tuning.workers)
    assert (second.batch_rows, second.workers) == (first.batch_rows, first.workers)
    job.edit({'version = "v1"': 'version = "v2"'})
    changed = go(job, environment).tuning
    assert changed is not None
    assert changed.measured_at > first.tuning.measured_at


def test_where_nothing_is_auto_nothing_is_measured(job: TinyJob, environment: Environment) -> None:
    """Nor told."""
    job.edit({'rows = "auto"': "rows = 50", 'workers = "auto"': "workers = 2"})
    report = go(job, environment)
    assert (report.tuning, report.batch_rows, report.workers) == (None, 50, 2)


def test_what_another_version_kept_is_measured_anew(job: TinyJob, environment: Environment) -> None:
    """And replaced."""
    first = go(job, environment).tuning
    assert first is not None
    with Ledger.open(environment.ledger) as ledger, ledger._store.write("") as connection:
        connection.exec_driver_sql('UPDATE tunings SET found = \'{"batch_rows": "many"}\'')
    second = go(job, environment).tuning
    assert second is not None
    assert second.measured_at > first.measured_at
    assert go(job, environment).tuning == second


def test_an_answer_is_good_for_the_same_question_only(job: TinyJob) -> None:
    """Another limit on latency, or too few parts for the workers, is another one; more parts are not."""
    asked = question()
    scorer, _ = settled(job, replace(asked, rows=2_000))
    assert asked.key(scorer) == replace(asked, rows=5, parts=200).key(scorer)
    others = [replace(asked, limit_seconds=0.1), replace(asked, parts=1), question(workers=2)]
    assert len({asked.key(scorer), *(other.key(scorer) for other in others)}) == 4
    assert str(machine()).strip()


@pytest.mark.parametrize(
    ("times", "days", "good"), [(4, 29, True), (5, 0, False), (0.001, 0, True), (1, 31, False), (1, -31, False)]
)
def test_an_answer_grows_old(job: TinyJob, times: float, days: int, good: bool) -> None:  # noqa: FBT001
    """A run of many times the rows has time to measure more; and machines change."""
    known = TuningReport(77, 2, 1_000, time() - days * 86_400, (BatchTrial(77, 0.1),))
    scorer, found = settled(job, question(rows=int(1_000 * times)), known)
    assert (found is known) == good
    assert (scorer.batch_rows == 77) == good


def test_a_short_run_does_not_try_workers(job: TinyJob) -> None:
    """It takes the usual number: one for each core, as far as there are parts."""
    _, found = settled(job, question(rows=2_000))
    assert (found.workers, found.workers_trials) == (2, ())
    assert settled(job, question(rows=2_000, parts=1))[1].workers == 1
    assert settled(job, question(rows=2_000, cores=3, workers=1))[1].workers == 1


def test_workers_are_found_by_trying(job: TinyJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here threads inside the kernel are worth more than workers beside each other."""
    (job.folder / "tiny.py").write_text(ONE_AT_A_TIME)
    monkeypatch.setattr("pipelines.settling.perf_counter", lambda: 1e-5 * (job.folder / "clock").stat().st_size)
    _, found = settled(job, question(rows=100_000 * MILLION))
    chosen, other = found.workers_trials
    assert (chosen.workers, chosen.kernel_threads, found.workers) == (1, 2, 1)
    assert (other.workers, other.kernel_threads) == (2, 1)
    assert chosen.rows_per_second > other.rows_per_second


def test_the_usual_workers_stay_where_no_other_way_is_surely_faster(job: TinyJob) -> None:
    """A model that sleeps is twice as fast with two workers."""
    job.slow_down(seconds_for_each_batch=0.01)
    _, found = settled(job, question())
    assert [way.workers for way in found.workers_trials] == [2, 1]
    assert found.workers == 2


def test_workers_whose_batches_do_not_fit_into_memory_together_are_no_way_to_go(job: TinyJob) -> None:
    """The run goes on with fewer of them."""
    (job.folder / "tiny.py").write_text(ROOM_FOR_ONE)
    _, found = settled(job, question())
    assert [(way.workers, way.rows_per_second > 0) for way in found.workers_trials] == [(1, True), (2, False)]
    assert found.workers == 1


def test_batches_are_as_large_as_is_best_with_all_workers_at_it(job: TinyJob) -> None:
    """What is best for one worker is not for two; a worker that stays alone keeps it."""
    (job.folder / "tiny.py").write_text(CROWDED)
    job.write_input(NIGHT, 8_000, group_rows=8_000)
    scorer, found = settled(job, question(workers=2))
    assert [trial.rows for trial in found.batch_trials] == [256, 1_024, 2_048, 4_096]
    assert min(found.batch_trials, key=lambda trial: trial.seconds / trial.rows).rows == 256
    assert {trial.rows for trial in found.together_trials} == {256, 1_024, 2_048}  # so that each worker has one
    assert found.batch_rows == scorer.batch_rows > 256
    alone = settled(job, question(workers=1))[1]
    assert (alone.batch_rows, alone.together_trials) == (256, ())


def test_settling_can_be_stopped(job: TinyJob) -> None:
    """Between two batches."""
    cancellation = Cancellation()
    cancellation.request("SIGTERM", grace_seconds=0.0)
    with pytest.raises(Cancelled, match="SIGTERM"):
        settled(job, question(), cancellation=cancellation)
