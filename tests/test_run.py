"""One run, end to end, in this process: what is scored, recorded, judged and said."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.dead_runs import settled_state, settled_states
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest, RunResult
from jobs.run import run
from jobs.spec import load
from monitoring.ledger import Ledger, RunStart
from monitoring.state import JobState
from pipelines.cancellation import Cancellation
from pipelines.report import Outcome, PartReport, Reason, Trigger
from tests.tiny_job import TinyJob, rows_table

NIGHT = "2026-11-01"


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    return TinyJob(tmp_path / "job")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(tmp_path / "state" / "ledger.db")})


def go(job: TinyJob, environment: Environment, night: str = NIGHT, *, rescore: bool = False) -> RunResult:
    request = RunRequest(load(job.spec), environment, logical_date=date.fromisoformat(night), rescore=rescore)
    return run(request, observer=Silent(), cancellation=Cancellation())


def state(environment: Environment) -> JobState:
    with Ledger.open(environment.ledger) as ledger:
        return ledger.state("tiny")


def counter(environment: Environment, name: str, *labels: str) -> float:
    return state(environment).counters[name, labels]


def test_every_row_is_scored_once_and_joins_back(job: TinyJob, environment: Environment) -> None:
    """Predictions are the model's, in order, with the id of their row; counts equal rows on disk."""
    source = pq.read_table(job.write_input(NIGHT, 350))
    result = go(job, environment)
    assert result.report.outcome is Outcome.SUCCESS
    output = job.output(NIGHT)
    assert sorted(output["id"].to_pylist()) == sorted(source["id"].to_pylist())
    said = dict(zip(output["id"].to_pylist(), output["prediction"].to_pylist(), strict=True))
    wanted = np.asarray(source["x"]) > np.asarray(source["y"])
    assert [said[name] for name in source["id"].to_pylist()] == wanted.astype(int).tolist()
    assert result.report.rows_read == result.report.rows_scored == 350
    assert counter(environment, "inference_requests_total") == 350
    assert result.report.parts_done == 4


GREEDY = """
import torch


class Greedy(torch.nn.Linear):
    def forward(self, x):
        if len(x) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(x)


def build():
    return Greedy(2, 2)
"""


def test_a_batch_that_does_not_fit_into_memory_is_counted_and_said(job: TinyJob, environment: Environment) -> None:
    """The run is a success: nothing was lost. The report, the counter and the warning say what to set."""
    (job.folder / "tiny.py").write_text(GREEDY)
    job.write_input(NIGHT, 350)
    report = go(job, environment).report
    assert (report.outcome, report.batch_rows, report.rows_scored, report.batches) == (Outcome.SUCCESS, 25, 350, 14)
    assert report.batches_out_of_memory == 1
    (warning,) = report.warnings
    assert "of 25 in the end; set batch.rows = 25" in warning
    assert counter(environment, "inference_batches_out_of_memory_total") == 1
    assert len(job.output(NIGHT)) == 350


def test_a_second_run_finds_everything_done(job: TinyJob, environment: Environment) -> None:
    """Committed parts with the same input and model are skipped; --rescore does them again, and counts them."""
    job.write_input(NIGHT, 250)
    go(job, environment)
    again = go(job, environment).report
    assert (again.outcome, again.rows_scored, again.parts_skipped) == (Outcome.SUCCESS, 0, 3)
    assert counter(environment, "inference_requests_total") == 250
    rescored = go(job, environment, rescore=True).report
    assert (rescored.rows_scored, rescored.parts_skipped) == (250, 0)
    assert counter(environment, "inference_requests_total") == 500
    assert len(job.output(NIGHT)) == 250


def test_an_output_that_was_deleted_is_made_again(job: TinyJob, environment: Environment) -> None:
    """The ledger's word is not taken for what is not on disk."""
    job.write_input(NIGHT, 250)
    go(job, environment)
    next((job.folder / "scored" / f"date={NIGHT}").glob("*.parquet")).unlink()
    assert go(job, environment).report.parts_done == 1
    assert len(job.output(NIGHT)) == 250


def test_a_changed_file_replaces_its_predictions(job: TinyJob, environment: Environment) -> None:
    """Also when it is cut into other parts than before: no row stays twice."""
    job.write_input(NIGHT, 300)
    go(job, environment)
    job.write_input(NIGHT, 80, seed=5, group_rows=40)
    go(job, environment)
    assert len(job.output(NIGHT)) == 80
    with Ledger.open(environment.ledger) as ledger:
        folder = str(job.folder / "scored" / f"date={NIGHT}")
        assert len(ledger.committed_parts("tiny", folder)) == 1


def test_another_model_scores_again(job: TinyJob, environment: Environment) -> None:
    """A part is done when this model has done it."""
    job.write_input(NIGHT, 100)
    go(job, environment)
    job.edit({'version = "v1"': 'version = "v2"'})
    assert go(job, environment).report.rows_scored == 100


def test_rows_that_cannot_be_scored_are_rejected_with_their_reason(job: TinyJob, environment: Environment) -> None:
    """null, NaN and infinity: counted by reason, kept in a rejects file, and the run is partial."""
    table = rows_table(100, prefix="drop", seed=0)
    y = table["y"].to_pylist()
    y[3], y[10], y[20], y[21] = None, float("nan"), float("inf"), float("-inf")
    job.write(job.folder / "inbox" / f"date={NIGHT}" / "drop.parquet", table.set_column(2, "y", pa.array(y)))
    report = go(job, environment).report
    assert report.outcome is Outcome.PARTIAL
    assert report.rows_rejected == {Reason.NULL: 1, Reason.NAN: 1, Reason.INFINITY: 2}
    assert report.rows_read == 100 == report.rows_scored + report.rows_rejected_total
    assert len(job.output(NIGHT)) == 96
    rejects = pq.read_table(job.folder / "scored" / f"date={NIGHT}" / "_rejects")
    assert sorted(zip(rejects["id"].to_pylist(), rejects["reason"].to_pylist(), strict=True)) == [
        ("drop-10", "nan"),
        ("drop-20", "infinity"),
        ("drop-21", "infinity"),
        ("drop-3", "null"),
    ]
    assert counter(environment, "inference_rows_rejected_total", "infinity") == 2


def test_invalid_rows_fail_a_job_that_says_so(job: TinyJob, environment: Environment) -> None:
    """With the file, the column and the row."""
    job.edit({"part_rows = 100": 'part_rows = 100\ninvalid_rows = "fail"'})
    table = rows_table(100, prefix="drop", seed=0)
    y = table["y"].to_pylist()
    y[42] = None
    job.write(job.folder / "inbox" / f"date={NIGHT}" / "drop.parquet", table.set_column(2, "y", pa.array(y)))
    report = go(job, environment).report
    assert report.outcome is Outcome.FAILED
    assert report.reason is not None
    assert all(word in report.reason for word in ("drop.parquet", "'y'", "42"))


def test_an_unreadable_file_is_rejected_by_name_and_the_rest_goes_on(job: TinyJob, environment: Environment) -> None:
    """Truncated, empty and foreign files: the run is partial, and scores them once they are mended."""
    good = job.write_input(NIGHT, 200, name="good")
    whole = job.write_input(NIGHT, 100, name="cut")
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    (good.parent / "zero.parquet").write_bytes(b"")
    report = go(job, environment).report
    assert report.outcome is Outcome.PARTIAL
    assert {Path(rejection.source).name for rejection in report.rejections} == {"cut.parquet", "zero.parquet"}
    assert report.rows_scored == 200
    whole.write_bytes(content)
    (good.parent / "zero.parquet").unlink()
    mended = go(job, environment).report
    assert (mended.outcome, mended.rows_scored, mended.parts_skipped) == (Outcome.SUCCESS, 100, 2)


def test_a_part_whose_pages_are_damaged_is_rejected_with_its_rows(job: TinyJob, environment: Environment) -> None:
    """The footer can be read, the data can't: the rows are known, and none is lost from the account."""
    path = job.write_input(NIGHT, 300)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    report = go(job, environment).report
    assert report.outcome is Outcome.PARTIAL
    assert report.rows_rejected == {Reason.UNREADABLE: 100}
    assert (report.rows_read, report.rows_scored) == (300, 200)
    assert "drop.parquet" in report.rejections[0].error


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({'features = ["x", "y"]': 'features = ["x", "yy"]'}, ["'yy'", "'y'", "drop.parquet"]),
        ({'features = ["x", "y"]': 'features = ["x", "id"]'}, ["'id'", "string"]),
        ({'features = ["x", "y"]': 'features = ["x"]'}, ["[50, 1]"]),
        ({"tiny.py:build": "tiny.py:biuld"}, ["tiny.py", "biuld"]),
        ({"tiny.py:build": "tidy.py:build"}, ["tidy.py"]),
        ({"tiny.safetensors": "absent.safetensors"}, ["absent.safetensors"]),
        ({'task = "binary"': 'task = "multiclass"\nclasses = ["a", "b", "c"]'}, ["3", "2"]),
        ({'version = "v1"': f'version = "v1"\nsha256 = "{"0" * 64}"'}, ["model.sha256", "tiny.safetensors"]),
        ({'device = "cpu"': 'device = "cuda:7"'}, ["cuda:7"]),
    ],
)
def test_what_cannot_run_fails_with_one_clear_reason(
    job: TinyJob, environment: Environment, edits: dict[str, str], words: list[str]
) -> None:
    """The reason names the file, key or column; it is in the ledger, and nothing was written."""
    job.write_input(NIGHT, 100)
    job.edit(edits)
    report = go(job, environment).report
    assert report.outcome is Outcome.FAILED
    assert report.reason is not None
    assert [word for word in words if word not in report.reason] == []
    assert "Traceback" not in report.reason
    assert not list((job.folder / "scored").rglob("*.parquet"))
    latest = state(environment).latest
    assert latest is not None
    assert latest.reason == report.reason
    assert counter(environment, "batch_runs_total", "failed") == 1


def test_no_input_is_a_failure_unless_it_is_allowed(job: TinyJob, environment: Environment) -> None:
    """An empty drop is usually a broken upstream: no files, and files without rows."""
    assert "no Parquet files" in (go(job, environment).report.reason or "")
    job.write_input(NIGHT, 0)
    assert "0 rows" in (go(job, environment).report.reason or "")
    job.edit({"part_rows = 100": 'part_rows = 100\nempty = "allow"'})
    assert go(job, environment).report.outcome is Outcome.SUCCESS
    assert go(job, environment, "2026-11-02").report.outcome is Outcome.SUCCESS


def test_an_entrypoint_that_raises_fails_the_run_with_its_line(job: TinyJob, environment: Environment) -> None:
    """It is the user's code: they need the line."""
    job.write_input(NIGHT, 100)
    (job.folder / "tiny.py").write_text("def build():\n    raise ZeroDivisionError('mine')\n")
    report = go(job, environment).report
    assert report.outcome is Outcome.FAILED
    assert "ZeroDivisionError: mine (tiny.py, line 2)" in (report.reason or "")


def test_an_error_in_words_that_are_no_text_is_recorded_all_the_same(job: TinyJob, environment: Environment) -> None:
    """A file name may hold any bytes, and an error may repeat it."""
    job.write_input(NIGHT, 100)
    (job.folder / "tiny.py").write_text("def build():\n    raise ValueError('bad \\udcff name')\n")
    assert "bad \\udcff name" in (go(job, environment).report.reason or "")
    assert state(environment).name == "failed"


def test_a_file_with_another_schema_is_rejected_with_its_rows(job: TinyJob, environment: Environment) -> None:
    """Its footer can be read, so none of its rows is missing from the account."""
    good = job.write_input(NIGHT, 100)
    job.write(good.with_name("other.parquet"), rows_table(70, prefix="other", seed=1).drop_columns("x"))
    report = go(job, environment).report
    assert report.outcome is Outcome.PARTIAL
    assert (report.rows_read, report.rows_rejected) == (170, {Reason.SCHEMA: 70})
    assert counter(environment, "inference_rows_rejected_total", "schema") == 70
    assert "other.parquet" in report.rejections[0].error


def test_the_line_that_is_blamed_is_the_users(job: TinyJob, environment: Environment) -> None:
    """Not one deep inside a library that they called."""
    job.write_input(NIGHT, 100)
    (job.folder / "tiny.py").write_text("import json\n\n\ndef build():\n    return json.loads('no')\n")
    assert "(tiny.py, line 5)" in (go(job, environment).report.reason or "")


def test_an_entrypoint_that_exits_has_failed(job: TinyJob, environment: Environment) -> None:
    """Whatever code it exits with: cron must not read success."""
    job.write_input(NIGHT, 100)
    (job.folder / "tiny.py").write_text("import sys\n\n\ndef build():\n    sys.exit(0)\n")
    report = go(job, environment).report
    assert report.outcome is Outcome.FAILED
    assert "sys.exit(0)" in (report.reason or "")


@pytest.mark.parametrize("raising", ["build", "forward"])
def test_what_no_program_should_raise_fails_the_run_too(job: TinyJob, environment: Environment, raising: str) -> None:
    """A panic of a Rust library is no Exception; and the history's one line says what it was."""
    job.write_input(NIGHT, 100)
    panic = "class Panic(BaseException):\n    pass\n\n"
    model = "import torch\n\nclass Model(torch.nn.Linear):\n    def forward(self, x):\n        raise Panic('gone')\n\n"
    made = "raise Panic('gone')" if raising == "build" else "return Model(2, 2)"
    (job.folder / "tiny.py").write_text(f"{panic}{model}def build():\n    {made}\n")
    report = go(job, environment).report
    assert report.outcome is Outcome.FAILED
    assert (report.reason or "").startswith("unexpected error: Panic: gone\nTraceback")


def test_an_error_that_cannot_say_what_it_is_is_recorded_too(job: TinyJob, environment: Environment) -> None:
    """Its words are somebody's code as well."""
    job.write_input(NIGHT, 100)
    mute = "class Mute(BaseException):\n    def __str__(self):\n        raise Mute\n\n"
    (job.folder / "tiny.py").write_text(f"{mute}def build():\n    raise Mute\n")
    assert (go(job, environment).report.reason or "").startswith("unexpected error: Mute: <exception str() failed>\n")


def test_a_holdout_is_judged_by_slice(job: TinyJob, environment: Environment) -> None:
    """Ten of two hundred labels are wrong, five on each side."""
    job.write_input(NIGHT, 100)
    (holdout,) = go(job, environment).report.holdouts
    assert (holdout.examples, holdout.correct) == (200, 190)
    assert {(piece.dimension, piece.value, piece.examples, piece.correct) for piece in holdout.slices} == {
        ("side", "left", 100, 95),
        ("side", "right", 100, 95),
    }
    assert counter(environment, "model_evaluated_examples_total", "labelled") == 200
    assert counter(environment, "inference_requests_total") == 100


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({'path = "labelled"': 'path = "absent"'}, ["absent", "no Parquet files"]),
        ({'label = "truth"': 'label = "true"'}, ["'true'", "truth"]),
        ({'slices = ["side"]': 'slices = ["sight"]'}, ["'sight'", "side"]),
        ({'task = "binary"': 'task = "binary"\nclasses = ["no", "yes"]'}, ["truth", "no"]),
    ],
)
def test_a_holdout_that_cannot_be_judged_makes_the_run_partial(
    job: TinyJob, environment: Environment, edit: dict[str, str], words: list[str]
) -> None:
    """The predictions are out all the same; the figures from before stay, with their time."""
    job.write_input(NIGHT, 100)
    go(job, environment)
    job.edit(edit)
    report = go(job, environment, NIGHT, rescore=True).report
    assert (report.outcome, report.rows_scored) == (Outcome.PARTIAL, 100)
    assert [word for word in ["labelled", *words] if word not in report.warnings[0]] == []
    assert state(environment).quality["labelled"].examples == 200


def test_a_class_that_the_model_does_not_know_is_named(job: TinyJob, environment: Environment) -> None:
    """It must neither raise nor lower a figure in silence."""
    job.write_input(NIGHT, 100)
    table = pq.read_table(job.folder / "labelled" / "holdout.parquet")
    truth = np.array(table["truth"])
    truth[:4] = 9
    job.write(job.folder / "labelled" / "holdout.parquet", table.set_column(3, "truth", pa.array(truth)))
    report = go(job, environment).report
    assert report.outcome is Outcome.PARTIAL
    assert "9" in report.warnings[0]
    assert "truth" in report.warnings[0]
    assert report.holdouts[0].accuracy is None


def test_per_batch_records_are_kept_for_as_many_runs_as_asked(job: TinyJob, environment: Environment) -> None:
    """Every batch of the run is there; older runs' files go."""
    job.edit({"rows = 50": "rows = 50\nkeep_runs = 2"})
    job.write_input(NIGHT, 350)
    for _ in range(2):
        go(job, environment, rescore=True)
    report = go(job, environment, rescore=True).report
    with Ledger.open(environment.ledger) as ledger:
        files = sorted(ledger.batch_folder("tiny").glob("*.parquet"))
    assert len(files) == 2
    records = pq.read_table(batch_folder_file(environment, report.run_id))
    assert sum(records["rows"].to_pylist()) == 350
    assert len(records) == report.batches == 7
    assert set(records.column_names) >= {"run", "part", "batch", "latency_seconds", "throughput_rows_per_second"}


def test_the_history_is_bounded(job: TinyJob, environment: Environment) -> None:
    """The oldest runs go; what they counted stays."""
    job.edit({'schedule = "15 2 * * *"': 'schedule = "15 2 * * *"\nkeep_runs = 2'})
    job.write_input(NIGHT, 100)
    for _ in range(4):
        go(job, environment, rescore=True)
    with Ledger.open(environment.ledger) as ledger:
        assert len(ledger.runs("tiny", limit=10)) == 2
    assert counter(environment, "batch_runs_total", "success") == 4


def batch_folder_file(environment: Environment, run_id: str) -> Path:
    with Ledger.open(environment.ledger) as ledger:
        return ledger.batch_folder("tiny") / f"{run_id}.parquet"


def test_an_output_folder_that_cannot_be_written_fails_by_name(job: TinyJob, environment: Environment) -> None:
    """A file stands where the folder should be (a mode would not stop root)."""
    job.write_input(NIGHT, 100)
    (job.folder / "scored").write_text("in the way")
    report = go(job, environment).report
    assert report.outcome is Outcome.FAILED
    assert str(job.folder / "scored") in (report.reason or "")


class StopAfterTwo(Silent):
    """Asks the run to stop when two parts are done."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._parts = 0

    def part(self, report: PartReport) -> None:
        """Count."""
        del report
        self._parts += 1
        if self._parts == 2:
            self._cancellation.request("stopped by SIGTERM", grace_seconds=0.0)


def test_a_stopped_run_is_recorded_and_the_next_one_finishes_it(job: TinyJob, environment: Environment) -> None:
    """What was committed stays, nothing half-written is there, no row comes twice."""
    job.edit({"workers = 2": "workers = 1"})
    job.slow_down(seconds_for_each_batch=0.05)  # or all parts are done before two are reported
    job.write_input(NIGHT, 1000)
    cancellation = Cancellation()
    request = RunRequest(load(job.spec), environment, logical_date=date.fromisoformat(NIGHT))
    stopped = run(request, observer=StopAfterTwo(cancellation), cancellation=cancellation).report
    assert (stopped.outcome, stopped.reason) == (Outcome.FAILED, "stopped by SIGTERM")
    assert 0 < stopped.rows_scored < 1000
    assert len(job.output(NIGHT)) == stopped.rows_scored == counter(environment, "inference_requests_total")
    finished = go(job, environment).report
    assert finished.rows_scored == 1000 - stopped.rows_scored
    assert len(set(job.output(NIGHT)["id"].to_pylist())) == 1000
    assert not [name for _, _, names in os.walk(job.folder / "scored") for name in names if ".tmp" in name]


def test_a_run_that_takes_too_long_is_stopped(job: TinyJob, environment: Environment) -> None:
    """And says that it was its timeout."""
    job.edit({'schedule = "15 2 * * *"': 'schedule = "15 2 * * *"\ntimeout = "1s"'})
    job.slow_down(seconds_for_each_batch=0.05)
    job.write_input(NIGHT, 20_000)
    report = go(job, environment).report
    assert report.outcome is Outcome.FAILED
    assert "job.timeout (1 s)" in (report.reason or "")


def test_a_backfill_neither_hides_a_missed_run_nor_passes_for_today(job: TinyJob, environment: Environment) -> None:
    """When the next run is expected stays, and so do the figures of the later day."""
    today = load(job.spec).logical_date(datetime.now(UTC)).isoformat()
    job.write_input(today, 100)
    assert go(job, environment, today).report.outcome is Outcome.SUCCESS
    with Ledger.open(environment.ledger) as ledger:
        late = replace(ledger.state("tiny").definition, schedule="0 0 1 1 *")
        ledger.register(late, now=0.0, next_expected_at=1000.0)
        ledger.register(replace(late, schedule="15 2 * * *"), now=0.0, next_expected_at=1000.0)
    job.write_holdout(wrong=100)
    job.write_input(NIGHT, 100)
    assert go(job, environment, NIGHT).report.holdouts[0].correct == 100
    known = state(environment)
    assert known.next_expected_at == 1000.0
    assert known.quality["labelled"].correct == 190
    job.edit({"part_rows = 100": "part_rows = 200"})
    go(job, environment, today)
    assert state(environment).next_expected_at != 1000.0
    assert state(environment).quality["labelled"].correct == 100


def test_a_holdout_without_a_single_row_to_judge_is_said(job: TinyJob, environment: Environment) -> None:
    """Not a success with figures that are quietly absent."""
    job.write_input(NIGHT, 100)
    table = pq.read_table(job.folder / "labelled" / "holdout.parquet")
    nothing = table.set_column(3, "truth", pa.nulls(200, pa.int64()))
    job.write(job.folder / "labelled" / "holdout.parquet", nothing)
    report = go(job, environment).report
    assert report.outcome is Outcome.PARTIAL
    assert "no row could be judged (rejected: label 200)" in report.warnings[0]


def test_a_run_whose_process_died_is_settled_by_whoever_looks(job: TinyJob, environment: Environment) -> None:
    """Not only by the next run, which may be a day away; one that lives is left alone."""
    with Ledger.open(environment.ledger) as ledger:
        ledger.register(load(job.spec).definition(environment), now=0.0, next_expected_at=None)
        start = RunStart("r", "tiny", Trigger.CRON, date(2026, 11, 1), "host", 1, 1000.0)
        ledger.start_run(start, next_expected_at=None)
        with ledger.lock("run", "tiny"):
            assert settled_state(ledger, "tiny").name == "running"
            assert [state.name for state in settled_states(ledger)] == ["running"]
        (settled,) = settled_states(ledger)
        assert settled == settled_state(ledger, "tiny")
    assert settled.name == "failed"
    assert settled.latest is not None
    assert "died" in (settled.latest.reason or "")


def test_a_job_that_is_already_running_is_skipped_and_counted(job: TinyJob, environment: Environment) -> None:
    """One instance of a job at a time, whatever starts it."""
    job.write_input(NIGHT, 100)
    with Ledger.open(environment.ledger) as ledger, ledger.lock("run", "tiny"):
        report = go(job, environment).report
    assert (report.outcome, report.rows_read) == (Outcome.SKIPPED, 0)
    assert counter(environment, "batch_runs_total", "skipped") == 1
    assert go(job, environment).report.outcome is Outcome.SUCCESS
