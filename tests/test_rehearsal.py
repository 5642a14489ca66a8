"""A job's real model on its real rows: what is timed, on which rows, and that nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import fmean
from time import perf_counter

import pyarrow as pa
import pytest

from jobs.spec import load
from pipelines.cancellation import Cancellation, Cancelled
from pipelines.errors import DataError, ModelError
from pipelines.measuring import Configuration
from pipelines.rehearsal import Rehearsal, find_rows
from pipelines.report import Stage
from tests.tiny_job import TinyJob

NIGHT = "2026-11-01"
CPU = Configuration("cpu", 50, 2, 1)


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    job = TinyJob(tmp_path / "job")
    job.write_input(NIGHT, 350)
    return job


def rehearsal(
    job: TinyJob, *, cores: int = 2, cancellation: Cancellation | None = None, clock: Callable[[], float] = perf_counter
) -> Rehearsal:
    spec = load(job.spec).for_date(date.fromisoformat(NIGHT))
    scratch = job.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    cancellation = cancellation or Cancellation()
    rows = find_rows(spec)
    return Rehearsal(spec, rows, folder=spec.folder, scratch=scratch, cores=cores, cancellation=cancellation, clock=clock)


def test_it_begins_with_what_a_run_would_use_and_tries_what_the_data_allow(job: TinyJob) -> None:
    """Workers for as many parts as there are, batches of as many rows as the largest part has."""
    found = rehearsal(job, cores=8)
    assert found.current() == Configuration("cpu", 50, 2, 4)
    assert [(climb.workers, climb.kernel_threads, climb.most_rows) for climb in found.climbs()] == [
        (1, 8, 100),
        (2, 4, 100),
        (4, 2, 100),
    ]
    job.edit({"rows = 50": 'rows = "auto"', "workers = 2": 'workers = "auto"'})
    assert rehearsal(job, cores=8).current() == Configuration("cpu", 100, 4, 2)


def test_a_trial_counts_what_all_workers_did(job: TinyJob) -> None:
    """Each at least a batch; latencies are of batches, and infer seconds their sum."""
    trial = rehearsal(job).trial(CPU, 0.02)
    assert trial.rows == 50 * len(trial.latencies)
    assert len(trial.latencies) >= 2
    assert trial.infer_seconds == pytest.approx(sum(trial.latencies))
    assert trial.prepare_seconds > 0
    assert trial.rows_per_second > 0


def test_rows_that_a_run_would_reject_are_not_counted(job: TinyJob) -> None:
    """Time by row is of the rows that were inferred."""
    rows = [1.0, None] * 50
    job.write(
        job.folder / "inbox" / f"date={NIGHT}" / "drop.parquet",
        pa.table({"id": list(map(str, range(100))), "x": rows, "y": [0.5] * 100}),
    )
    trial = rehearsal(job).trial(CPU, 0.01)
    assert trial.rows == 25 * len(trial.latencies)


def test_whole_parts_go_to_the_scratch_folder_alone(job: TinyJob) -> None:
    """By way of a run, to files that it would write, but not where it would."""
    found = rehearsal(job)
    whole = found.whole_parts(CPU, 0.0)
    assert (whole.rows, whole.parts, whole.workers) == (200, 2, 2)
    assert all(whole.stage_seconds[stage] > 0 for stage in (Stage.READ, Stage.PREPARE, Stage.INFER, Stage.WRITE))
    assert not (job.folder / "scored").exists()
    assert len(list((job.folder / "scratch").glob("drop-*.parquet"))) == 2


def test_a_file_is_written_anew_to_see_whether_it_is_what_makes_reading_slow(job: TinyJob) -> None:
    """The same rows as one row group; the copy is gone afterwards."""
    job.edit({"part_rows = 100": "part_rows = 350"})
    again = rehearsal(job).rewriting()
    assert (again.row_groups, again.rows, again.compression) == (4, 350, "snappy")
    assert min(again.seconds, again.rewritten_seconds) > 0
    assert list((job.folder / "scratch").iterdir()) == []


def test_a_holdout_stands_in_for_an_input_that_is_gone_or_empty(job: TinyJob) -> None:
    """It has the features; it need not have the ids."""
    drop = job.folder / "inbox" / f"date={NIGHT}" / "drop.parquet"
    drop.unlink()
    assert find_rows(load(job.spec).for_date(date.fromisoformat(NIGHT))).holdout == "labelled"
    job.write_input(NIGHT, 0)
    job.edit({'id = ["id"]': 'id = ["customer"]'})
    found = rehearsal(job)
    assert sum(part.rows for part in found.plan.parts) == 200
    assert found.whole_parts(CPU, 0.0).rows == 200


def test_without_any_rows_it_is_said_where_they_were_looked_for(job: TinyJob) -> None:
    """One error names each place, and what to do."""
    (job.folder / "inbox" / f"date={NIGHT}" / "drop.parquet").unlink()
    (job.folder / "labelled" / "holdout.parquet").unlink()
    with pytest.raises(DataError, match=f"no rows to measure with in .*inbox/date={NIGHT} nor in .*labelled; give --date"):
        rehearsal(job)


def test_what_a_run_cannot_score_is_not_measured_either(job: TinyJob) -> None:
    """A wrong file, a wrong model, an absent device: as a run says it."""
    drop = job.folder / "inbox" / f"date={NIGHT}" / "drop.parquet"
    good = drop.read_bytes()
    drop.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"no file of .* can be scored; the first of 1: .*drop.parquet"):
        rehearsal(job)
    drop.write_bytes(good)
    job.edit({'device = "cpu"': 'device = "cuda:7"'})
    with pytest.raises(ModelError, match=r"model\.device is 'cuda:7', but this machine has"):
        rehearsal(job)


FAILS_IN_ONE_WORKER = """
import threading

import torch


class Fails(torch.nn.Linear):
    def forward(self, x):
        if threading.current_thread().name == "worker-1":
            raise RuntimeError("only here")
        return super().forward(x)


def build():
    return Fails(2, 2)
"""


def test_a_model_that_fails_in_one_worker_keeps_no_other_waiting(job: TinyJob) -> None:
    """They wait until all are warm, and one never will be."""
    (job.folder / "tiny.py").write_text(FAILS_IN_ONE_WORKER)
    found = rehearsal(job)
    assert found.trial(Configuration("cpu", 50, 1, 1), 0.0).rows >= 50
    with pytest.raises(ModelError, match="only here"):
        found.trial(CPU, 60.0)


def test_asked_to_stop_it_stops_before_the_next_batch(job: TinyJob) -> None:
    """There is no part in hand that would be worth finishing."""
    cancellation = Cancellation()
    found = rehearsal(job, cancellation=cancellation)
    cancellation.request("stopped by SIGINT", grace_seconds=5.0)
    for work in (lambda: found.trial(CPU, 60.0), lambda: found.whole_parts(CPU, 60.0), found.rewriting):
        with pytest.raises(Cancelled, match="stopped by SIGINT"):
            work()


@pytest.mark.parametrize(("rows", "batches"), [(40, 3), (99, 2), (100, 1)])
def test_what_is_left_over_of_a_part_is_a_batch_and_counts_as_one(job: TinyJob, rows: int, batches: int) -> None:
    """Parts of 100 rows, by a clock that the model moves on, a second a batch: a run takes so many for each of them."""
    (job.folder / "tiny.py").write_text(COUNTING)
    job.write_input(NIGHT, 300)
    for seconds in (0.0, 15.0):
        trial = rehearsal(job, clock=lambda: float(inferred(job))).trial(Configuration("cpu", rows, 1, 1), seconds)
        assert trial.rows_per_second == pytest.approx(100 / batches)
        left_over = 100 % rows
        full = (trial.rows - left_over * len(trial.latencies)) // (rows - left_over)
        of_a_part = 100 // rows * fmean(trial.latencies[:full]) + (fmean(trial.latencies[full:]) if left_over else 0.0)
        assert trial.infer_seconds / trial.rows == pytest.approx(of_a_part / 100)


def test_a_slow_batch_is_warmed_up_for_once(job: TinyJob) -> None:
    """The second trial is one batch, and it is timed."""
    (job.folder / "tiny.py").write_text(COUNTING)
    found = rehearsal(job)
    one = Configuration("cpu", 50, 1, 1)
    counts = []
    for _ in range(3):
        found.trial(one, 0.001)
        counts.append(inferred(job))
    assert counts == [2, 3, 4]


def inferred(job: TinyJob) -> int:
    """How many batches its `COUNTING` model has seen."""
    file = job.folder / "batches"
    return len(file.read_text()) if file.exists() else 0


COUNTING = """
import time
from pathlib import Path

import torch


class Counting(torch.nn.Linear):
    def forward(self, x):
        time.sleep(0.005)
        with (Path(__file__).parent / "batches").open("a") as file:
            file.write(".")
        return super().forward(x)


def build():
    return Counting(2, 2)
"""
