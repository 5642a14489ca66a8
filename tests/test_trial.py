"""Champion and candidate on the same rows, by the way that a run takes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from pipelines.cancellation import Cancellation, Cancelled
from pipelines.comparison import Contest
from pipelines.errors import DataError, ModelError
from pipelines.exam import Exam
from pipelines.finding import find_files
from pipelines.trial import Trial, compare
from tests.retrained_job import DAY, RetrainedJob


@pytest.fixture
def job(tmp_path: Path) -> RetrainedJob:
    return RetrainedJob(tmp_path / "job")


@pytest.fixture
def candidate(job: RetrainedJob) -> Path:
    """A better model."""
    file = job.folder / "candidate.safetensors"
    job.write_weights(1.0, -1.0, file=file)
    return file


def hold(job: RetrainedJob, candidate: Path, *days: date, cancellation: Cancellation | None = None) -> Trial:
    spec = load(job.spec)
    (holdout,) = spec.holdout
    exam = Exam(holdout, tuple(find_files(holdout.path.format(date=day)) for day in days or (DAY,)))
    return compare(spec, candidate, [exam], folder=spec.folder, cores=2, cancellation=cancellation or Cancellation())


def whole(trial: Trial, figure: str = "accuracy") -> Contest:
    return next(one for one in trial.contests if one.figure == figure and not one.dimension)


def test_the_champions_figures_are_those_of_a_run(job: RetrainedJob, candidate: Path, tmp_path: Path) -> None:
    """Whole and by slice, bounds and all."""
    job.write_input(DAY.isoformat(), 100)
    environment = read({"BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db")})
    report = run(
        RunRequest(load(job.spec), environment, logical_date=DAY), observer=Silent(), cancellation=Cancellation()
    ).report
    trial = hold(job, candidate)
    (judged,) = report.holdouts
    assert (whole(trial).champion, whole(trial, "recall").champion) == (judged.accuracy, judged.recall)
    sliced = {(one.value, one.figure): one.champion for one in trial.contests if one.dimension}
    assert sliced == {(one.value, figure): getattr(one, figure) for one in judged.slices for figure in ("accuracy", "recall")}
    assert trial.champion == report.model


def test_a_model_against_itself_is_a_draw(job: RetrainedJob) -> None:
    """No row sets them apart."""
    trial = hold(job, job.model)
    assert {(one.won, one.lost, one.better) for one in trial.contests} == {(0, 0, 1.0)}


def test_several_days_are_one_exam(job: RetrainedJob, candidate: Path) -> None:
    """Their files have the same names; the counts add."""
    days = [DAY, date(2026, 11, 19)]
    one = whole(hold(job, candidate, *days))
    each = [whole(hold(job, candidate, day)) for day in days]
    assert (one.examples, one.won, one.lost) == tuple(
        sum(getattr(part, name) for part in each) for name in ("examples", "won", "lost")
    )
    assert one.candidate.value == 1.0


def test_the_candidate_by_itself_is_judged_on_the_newest_day_only(job: RetrainedJob, candidate: Path) -> None:
    """As a run of that day would report it: rows that only the champion answers, or several days, don't come in."""
    trial = hold(job, candidate, DAY, date(2026, 11, 19))
    ((judged, _),) = trial.judged
    assert judged.accuracy == whole(hold(job, candidate, DAY)).candidate
    assert judged.examples == whole(trial).examples // 2
    assert {one.value for one in judged.slices} == {"left", "right"}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, "the candidate: .*another shape weight"),
        ({"weight": torch.zeros(2, 2)}, "the candidate: .*lack bias"),
        (
            {"weight": torch.full((2, 2), float("nan")), "bias": torch.zeros(2)},
            "the candidate: .*rows.parquet: returned NaN or infinity for 100 rows",
        ),
    ],
)
def test_a_candidate_that_cannot_be_used_is_named(job: RetrainedJob, tensors: dict[str, torch.Tensor], words: str) -> None:
    """With what is wrong with it."""
    file = job.folder / "candidate.safetensors"
    save_file(tensors, file)
    with pytest.raises(ModelError, match=words):
        hold(job, file)


def test_a_champion_that_cannot_be_used_is_named_too(job: RetrainedJob, candidate: Path) -> None:
    """It is not the candidate's fault."""
    job.model.write_bytes(b"rubbish")
    with pytest.raises(ModelError, match=r"the champion: .*isn't a safetensors file"):
        hold(job, candidate)


def exported(classes: int, file: Path) -> Path:
    """A torch.export program over the job's two features."""
    program = torch.export.export(
        torch.nn.Linear(2, classes), (torch.zeros(3, 2),), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    torch.export.save(program, file)
    return file


def test_a_candidate_of_other_classes_is_refused(job: RetrainedJob) -> None:
    """Where the job file lists none, a program alone says how many there are."""
    exported(3, job.folder / "three.pt2")
    job.edit({'factory = "tiny.py:build"\nweights = "tiny.safetensors"': 'path = "three.pt2"', '"binary"': '"multiclass"'})
    with pytest.raises(ModelError, match="the candidate: it tells 4 classes apart, the champion 3"):
        hold(job, exported(4, job.folder / "four.pt2"))
    assert whole(hold(job, exported(3, job.folder / "other.pt2"))).examples == 200


def test_rows_that_neither_can_judge_are_left_out(job: RetrainedJob, candidate: Path) -> None:
    """A missing feature, a missing label."""
    table = pa.table({"x": [1.0, None, 1.0], "y": [0.0, 0.0, 0.0], "truth": [1, 1, None], "side": ["left"] * 3})
    job.write(job.folder / "labelled" / f"date={DAY}" / "rows.parquet", table)
    assert whole(hold(job, candidate)).examples == 1


def test_a_holdout_that_cannot_be_read_is_named(job: RetrainedJob, candidate: Path) -> None:
    """With its file."""
    job.write(
        job.folder / "labelled" / f"date={DAY}" / "rows.parquet",
        pa.table({"x": [1.0], "y": [1.0], "truth": [7], "side": ["a"]}),
    )
    with pytest.raises(DataError, match=r"holdout 'labelled': .*does not know: 7"):
        hold(job, candidate)


def test_it_can_be_stopped(job: RetrainedJob, candidate: Path) -> None:
    """Between two batches."""
    cancellation = Cancellation()
    cancellation.request("stopped by SIGTERM", grace_seconds=0.0)
    with pytest.raises(Cancelled, match="SIGTERM"):
        hold(job, candidate, cancellation=cancellation)
