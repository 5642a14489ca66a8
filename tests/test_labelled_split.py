"""What is learned from and what is judged are never the same rows."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.retrain.labelled import Split, split
from jobs.spec import load
from pipelines.errors import DataError
from tests.retrained_job import DAY, DAYS, RetrainedJob

FIXED = """
[[holdout]]
name = "fixed"
path = "{path}"
label = "truth"
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> RetrainedJob:
    return RetrainedJob(tmp_path_factory.mktemp("split") / "job")


def of(job: RetrainedJob, day: date = DAY, **changes: int) -> Split:
    spec = load(job.spec)
    assert spec.retrain is not None
    return split(spec, spec.retrain.model_copy(update=changes), day)


def days(files: tuple[Path, ...]) -> list[str]:
    return [file.parent.name.removeprefix("date=") for file in files]


def judged(found: Split) -> dict[str, list[str]]:
    return {exam.holdout.name: days(tuple(Path(str(file.path)) for day in exam.days for file in day)) for exam in found.exams}


def back(*ages: int) -> list[str]:
    return [str(DAY - timedelta(days=age)) for age in ages]


def test_the_newest_labelled_day_is_judged_and_those_before_are_learned_from(job: RetrainedJob) -> None:
    """Oldest first; nothing is younger than the logical date."""
    found = of(job)
    assert judged(found) == {"labelled": back(0)}
    assert days(found.learn["labelled"]) == back(5, 4, 3, 2, 1)
    assert found.judged_from == DAY
    earlier = of(job, DAY - timedelta(days=2))
    assert (judged(earlier), days(earlier.learn["labelled"])) == ({"labelled": back(2)}, back(5, 4, 3))


def test_labels_that_come_late_are_waited_for(job: RetrainedJob) -> None:
    """The newest day that has any is judged; days without are not counted."""
    later = of(job, DAY + timedelta(days=3), judge_days=2)
    assert judged(later) == {"labelled": back(0, 1)}
    assert days(later.learn["labelled"]) == back(5, 4, 3, 2)


@given(judge_days=st.integers(1, 9), learn_days=st.integers(1, 9), late=st.integers(-4, 9))
@settings(max_examples=60, deadline=None)
def test_no_file_is_both(job: RetrainedJob, judge_days: int, learn_days: int, late: int) -> None:
    """Whatever the settings, and everything learned from is older than everything judged."""
    try:
        found = of(job, DAY + timedelta(days=late), judge_days=judge_days, learn_days=learn_days)
    except DataError:
        assert late >= DAYS - 1 or judge_days + learn_days <= late
        return
    learned, shown = days(found.learn["labelled"]), judged(found)["labelled"]
    assert shown
    assert not learned or max(learned) < min(shown)


def extended(tmp_path: Path, text: str) -> RetrainedJob:
    job = RetrainedJob(tmp_path / "job")
    job.edit({"[thresholds]": f"{text}\n[thresholds]"})
    return job


def test_a_holdout_without_dates_is_only_judged(tmp_path: Path) -> None:
    """Training isn't given it, and its files are taken away from those of other holdouts, links and all."""
    job = extended(tmp_path, FIXED.format(path="fixed"))
    job.write_labels(DAY, folder="fixed/apart")
    (job.folder / "fixed" / "linked").symlink_to(job.folder / "labelled" / f"date={back(3)[0]}")
    found = of(job)
    assert sorted(judged(found)) == ["fixed", "labelled"]
    assert days(found.learn["labelled"]) == back(5, 4, 2, 1)
    assert set(found.learn) == {"labelled"}


def test_there_is_one_cut_for_all_holdouts(tmp_path: Path) -> None:
    """The slower one's judged day is kept from training in the faster one, too: they may have labels of the same rows."""
    job = extended(tmp_path, FIXED.format(path="weekly/date={date}"))
    job.write_labels(DAY - timedelta(days=3), folder="weekly")
    job.write_labels(DAY - timedelta(days=10), folder="weekly")
    found = of(job)
    assert judged(found) == {"labelled": back(0), "fixed": back(3)}
    assert (days(found.learn["labelled"]), days(found.learn["fixed"])) == (back(5, 4), back(10))


def test_days_that_share_a_file_are_one(tmp_path: Path) -> None:
    """A file a month: this month's is judged, last month's learned from."""
    job = RetrainedJob(tmp_path / "job")
    job.edit({'"labelled/date={date}"': '"monthly/{date:%Y-%m}"'})
    for month in ("2026-11", "2026-10"):
        written = job.write_labels(DAY, folder=f"other/{month}")
        job.folder.joinpath("monthly", month).mkdir(parents=True)
        written.rename(job.folder / "monthly" / month / "rows.parquet")
    found = of(job)
    assert [file.parent.name for file in found.learn["labelled"]] == ["2026-10"]
    assert judged(found) == {"labelled": ["2026-11"]}


def test_a_month_that_is_judged_is_kept_from_training_from_its_first_day(tmp_path: Path) -> None:
    """Though it is named by its last: the daily files of that month may have labels of the same rows."""
    job = extended(tmp_path, FIXED.format(path="monthly/{date:%Y-%m}"))
    written = job.write_labels(DAY, folder="other")
    job.folder.joinpath("monthly", f"{DAY:%Y-%m}").mkdir(parents=True)
    written.rename(job.folder / "monthly" / f"{DAY:%Y-%m}" / "rows.parquet")
    found = of(job)
    assert found.judged_from == DAY.replace(day=1)
    assert found.learn["labelled"] == ()  # all of them are of this month


def test_without_labels_there_is_nothing_to_judge_by(job: RetrainedJob) -> None:
    """The error names the holdout, and how far back was looked."""
    with pytest.raises(DataError, match=r"holdout 'labelled'.*no labelled files in the 91 days up to 2020-01-01"):
        of(job, date(2020, 1, 1))
