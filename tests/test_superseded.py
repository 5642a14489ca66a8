"""A row is in the output once, whatever became of the files and runs before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.ledger import Ledger
from pipelines import sink
from pipelines.cancellation import Cancellation
from pipelines.report import Outcome, PartReport, RunReport
from tests.tiny_job import TinyJob, rows_table

NIGHT = "2026-11-01"


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    return TinyJob(tmp_path / "job")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db")})


def go(job: TinyJob, environment: Environment) -> RunReport:
    request = RunRequest(load(job.spec), environment, logical_date=date.fromisoformat(NIGHT))
    return run(request, observer=Silent(), cancellation=Cancellation()).report


def ids(job: TinyJob) -> list[str]:
    found: list[str] = job.output(NIGHT)["id"].to_pylist()
    return sorted(found)


def die_before_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is out of reach from the first commit on: what was renamed stays uncommitted, as after a SIGKILL there."""

    def lost(_ledger: Ledger, _run_id: str, _job: str, _reports: Sequence[PartReport]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "add_parts", lost)


def test_a_model_that_is_rolled_back_after_a_crash_scores_again(
    job: TinyJob, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger never vouches for a file that another model may have replaced."""
    job.write_input(NIGHT, 200)
    go(job, environment)
    job.edit({'version = "v1"': 'version = "v2"'})
    with monkeypatch.context() as patched:
        die_before_commit(patched)
        with pytest.raises(KeyboardInterrupt):
            go(job, environment)
    job.edit({'version = "v2"': 'version = "v1"'})
    assert go(job, environment).rows_scored == 200


def test_parts_of_a_run_that_died_go_when_the_input_is_cut_differently(
    job: TinyJob, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are on disk under names that nobody would write again."""
    job.write_input(NIGHT, 400)
    with monkeypatch.context() as patched:
        die_before_commit(patched)
        with pytest.raises(KeyboardInterrupt):
            go(job, environment)
    job.edit({"part_rows = 100": "part_rows = 200"})
    assert go(job, environment).outcome is Outcome.SUCCESS
    assert len(ids(job)) == len(set(ids(job))) == 400


def test_a_drop_that_was_delivered_again_under_other_names_replaces_the_first(job: TinyJob, environment: Environment) -> None:
    """The files of a day are all there is of that day: writers such as Spark name them anew each time."""
    first = job.write_input(NIGHT, 200, name="part-aaa")
    go(job, environment)
    first.rename(first.with_name("part-bbb.parquet"))
    go(job, environment)
    assert len(ids(job)) == len(set(ids(job))) == 200


def test_what_a_failed_attempt_left_behind_goes_with_its_drop(job: TinyJob, environment: Environment) -> None:
    """It was to be scored again, so the ledger knew no more of it when the drop came under other names."""
    first = job.write_input(NIGHT, 300, name="part-aaa")
    go(job, environment)
    job.edit({'version = "v1"': 'version = "v2"'})
    good = (job.folder / "tiny.py").read_text()
    (job.folder / "tiny.py").write_text(good.replace("return torch.nn.Linear(2, 2)", "return torch.nn.Flatten(0)"))
    assert go(job, environment).outcome is Outcome.FAILED
    (job.folder / "tiny.py").write_text(good)
    first.rename(first.with_name("part-bbb.parquet"))
    foreign = job.folder / "scored" / f"date={NIGHT}" / "theirs-0-0.parquet"
    pq.write_table(sink.signed(rows_table(1, prefix="theirs", seed=0).select(["id"]), "/elsewhere/theirs.parquet"), foreign)
    assert go(job, environment).outcome is Outcome.SUCCESS
    assert foreign.exists()  # no file of this drop's could have been called so
    foreign.unlink()
    assert len(ids(job)) == len(set(ids(job))) == 300


def test_an_input_that_was_moved_and_is_cut_differently_is_there_once(job: TinyJob, environment: Environment) -> None:
    """Its parts are of the file of that name, wherever it lay."""
    job.edit({"inbox/date={date}": "inbox", "scored/date={date}": f"scored/date={NIGHT}"})
    job.write(job.folder / "inbox" / "eu" / "drop.parquet", rows_table(300, prefix="drop", seed=0))
    go(job, environment)
    (job.folder / "inbox").rename(job.folder / "moved")
    job.edit({'path = "inbox"': 'path = "moved"', "part_rows = 100": "part_rows = 300"})
    assert go(job, environment).outcome is Outcome.SUCCESS
    assert len(ids(job)) == len(set(ids(job))) == 300


def test_a_file_cut_differently_of_which_a_part_is_unreadable_is_there_once(job: TinyJob, environment: Environment) -> None:
    """What can be read is there as it is cut now, what can't as it was: each row once."""
    path = job.write_input(NIGHT, 400)
    go(job, environment)
    job.edit({"part_rows = 100": "part_rows = 200"})
    place = pq.read_metadata(path).row_group(3).column(1).data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[place : place + 60] = b"\xff" * 60
    path.write_bytes(damaged)
    for _ in range(2):
        assert go(job, environment).outcome is Outcome.PARTIAL
        assert len(ids(job)) == len(set(ids(job))) == 400
    folder = job.folder / "scored" / f"date={NIGHT}"
    assert sorted(file.name for file in folder.iterdir()) == ["drop-0-1.parquet", "drop-2-2.parquet", "drop-3-3.parquet"]


def test_a_file_that_has_no_rows_any_more_leaves_none_in_the_output(job: TinyJob, environment: Environment) -> None:
    """Its neighbour's stay."""
    job.write_input(NIGHT, 100, name="one")
    job.write_input(NIGHT, 100, name="two")
    go(job, environment)
    job.write_input(NIGHT, 0, name="two")
    go(job, environment)
    assert {name.split("-")[0] for name in ids(job)} == {"one"}
    assert len(ids(job)) == 100


def test_in_a_folder_without_dates_what_was_scored_stays_when_its_file_is_cleared_away(
    job: TinyJob, environment: Environment
) -> None:
    """Each file there is a delivery of its own."""
    job.edit({"inbox/date={date}": f"inbox/date={NIGHT}", "scored/date={date}": f"scored/date={NIGHT}"})
    old = job.write_input(NIGHT, 100, name="old")
    go(job, environment)
    old.unlink()
    job.write_input(NIGHT, 100, name="new")
    go(job, environment)
    assert len(ids(job)) == 200


def test_a_file_that_became_unreadable_keeps_its_predictions(job: TinyJob, environment: Environment) -> None:
    """The run is partial and names it; what was there before is still the best there is."""
    broken = job.write_input(NIGHT, 100, name="one")
    job.write_input(NIGHT, 100, name="two")
    go(job, environment)
    broken.write_bytes(b"PAR1")
    assert go(job, environment).outcome is Outcome.PARTIAL
    assert len(ids(job)) == 200


def test_what_else_is_in_the_output_folder_stays(job: TinyJob, environment: Environment) -> None:
    """Only a file that says inside that it stands for this input is ours, whatever it is called."""
    job.write_input(NIGHT, 100)
    folder = job.folder / "scored" / f"date={NIGHT}"
    foreign = ("other-0-1.parquet", "drop.parquet", "drop-2024-01.parquet")
    for name in foreign:
        job.write(folder / name, rows_table(1, prefix=name, seed=0))
    (folder / "readme.txt").write_text("mine")
    go(job, environment)
    assert {path.name for path in folder.iterdir()} == {"readme.txt", "drop-0-0.parquet", *foreign}


def test_a_folder_in_which_another_job_has_parts_is_refused(job: TinyJob, environment: Environment) -> None:
    """By whatever name: a link to that job's folder, or a folder in it. One beside its parts is a job's own."""
    job.write(job.folder / "inbox" / f"date={NIGHT}" / "eu" / "drop.parquet", rows_table(100, prefix="drop", seed=0))
    go(job, environment)
    (job.folder / "link").symlink_to(job.folder / "scored")
    job.edit({'name = "tiny"': 'name = "second"', 'path = "scored/date={date}"': 'path = "scored/date={date}/eu"'})
    for before, after in (("/eu", "/eu"), ("scored/date={date}/eu", "link/date={date}")):
        job.edit({before: after})
        refused = go(job, environment)
        assert refused.outcome is Outcome.FAILED
        assert "job 'tiny' has predictions there" in (refused.reason or "")
    job.edit({"link/date={date}": "scored/date={date}/us"})
    assert go(job, environment).outcome is Outcome.SUCCESS


def test_a_job_whose_folder_has_anothers_in_it_leaves_that_alone(job: TinyJob, environment: Environment) -> None:
    """Though both have scored the same drop, and it came under another name since."""
    first = job.write_input(NIGHT, 100, name="one")
    job.edit({'name = "tiny"': 'name = "inner"', 'path = "scored/date={date}"': 'path = "scored/date={date}/b"'})
    go(job, environment)
    first.rename(first.with_name("two.parquet"))
    job.edit({'name = "inner"': 'name = "tiny"', "scored/date={date}/b": "scored/date={date}"})
    assert go(job, environment).outcome is Outcome.SUCCESS
    folder = job.folder / "scored" / f"date={NIGHT}"
    left = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.parquet"))
    assert left == ["b/one-0-0.parquet", "two-0-0.parquet"]


def test_what_a_run_has_written_is_no_input(job: TinyJob, environment: Environment) -> None:
    """Where the paths alone don't say so: what the outputs are called is seen only then."""
    job.edit({'"inbox/date={date}"': '"data/**/[dq]*.parquet"', '"scored/date={date}"': '"data/scored"'})
    job.write(job.folder / "data" / "drop.parquet", rows_table(100, prefix="drop", seed=0))
    assert go(job, environment).outcome is Outcome.SUCCESS
    refused = go(job, environment)
    assert refused.outcome is Outcome.FAILED
    assert "which a run has written; keep output.path apart" in (refused.reason or "")


def test_two_jobs_cannot_share_an_output_folder(job: TinyJob, environment: Environment) -> None:
    """They would replace each other's predictions; the one that comes second is refused, and the first goes on."""
    job.write_input(NIGHT, 100)
    go(job, environment)
    job.edit({'name = "tiny"': 'name = "second"'})
    refused = go(job, environment)
    assert refused.outcome is Outcome.FAILED
    assert "job 'tiny' has predictions there" in (refused.reason or "")
    job.edit({'name = "second"': 'name = "tiny"'})
    assert go(job, environment).parts_skipped == 1
