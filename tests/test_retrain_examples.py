"""The loop closed, by hand, on the example jobs: real images, real training."""

from __future__ import annotations

import re
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs.breaches import breaches
from jobs.environment import Environment, read
from jobs.examples import breast_cancer, digits
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.retrain.loop import retrain
from jobs.retrain.request import RetrainRequest
from jobs.run import run
from jobs.spec import JobSpec, load
from monitoring.ledger import RetrainOutcome, RetrainRecord
from pipelines.cancellation import Cancellation
from pipelines.report import HoldoutReport, RunReport

LAST = date(2026, 11, 22)
NIGHTS = 30
FOLDER = Path(digits.__file__).parent


def night(number: int) -> date:
    return LAST - timedelta(days=NIGHTS - number)


def example(name: str, tmp_path: Path) -> JobSpec:
    """The example's job file and code as they are, with another root."""
    for suffix in ("py", "toml"):
        shutil.copy(FOLDER / f"{name}.{suffix}", tmp_path)
    file = tmp_path / f"{name}.toml"
    file.write_text(re.sub(r'root = ".*"', 'root = "data"', file.read_text()))
    return load(file)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db")})


def go(spec: JobSpec, environment: Environment, day: date) -> RunReport:
    return run(RunRequest(spec, environment, logical_date=day), observer=Silent(), cancellation=Cancellation()).report


def judged(report: RunReport) -> HoldoutReport:
    (holdout,) = report.holdouts
    assert holdout.accuracy is not None
    return holdout


def surely_inaccurate(report: RunReport, spec: JobSpec) -> bool:
    return any(one.certain and one.figure == "accuracy" for one in breaches(report, spec.thresholds))


def retrained(spec: JobSpec, environment: Environment, day: date) -> RetrainRecord:
    record = retrain(RetrainRequest(spec, environment, day), cancellation=Cancellation()).record
    assert record is not None
    return record


def test_noise_a_breach_a_retraining_and_the_next_night_is_above_the_threshold_again(
    tmp_path: Path, environment: Environment
) -> None:
    """Digits: the scanner that fails is learned from labelled nights, none of which is the night that is judged."""
    spec = example("digits", tmp_path)
    digits.train_first(tmp_path / "data")
    digits.write_nights(tmp_path / "data", LAST, NIGHTS)
    first_sure = next(
        number
        for number in range(digits.NOISE_FROM, NIGHTS)
        if any(
            one.certain and one.figure == "accuracy" for one in breaches(go(spec, environment, night(number)), spec.thresholds)
        )
    )
    record = retrained(spec, environment, night(first_sure))
    assert record.outcome is RetrainOutcome.PROMOTED, record.reason
    after = go(spec, environment, night(first_sure + 1))
    found, limit = judged(after), spec.thresholds.accuracy
    print(f"night {first_sure}: {record.reason}; the night after: {found.accuracy}")  # noqa: T201  shown with -s
    assert found.accuracy is not None
    assert limit is not None
    assert found.accuracy.value > limit
    assert after.model is not None
    assert record.after is not None
    assert after.model.version == record.after.version != "cnn-1"
    assert record.figures["judged_from"] == str(night(first_sure))


def test_a_healthy_model_is_not_replaced_by_one_that_is_no_better(tmp_path: Path, environment: Environment) -> None:
    """Breast cancer: nothing is wrong with the champion, and the labels of a few nights prove nothing."""
    spec = example("breast_cancer", tmp_path)
    breast_cancer.train_first(tmp_path / "data")
    breast_cancer.write_nights(tmp_path / "data", LAST, 3)
    record = retrained(spec, environment, LAST)
    print(record.reason)  # noqa: T201  shown with -s
    assert record.outcome is RetrainOutcome.REFUSED
    assert "below no threshold" in (record.reason or "")
