"""`batchgauge tune`: advice that follows from the figures, and the command on real jobs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.tune.advice import advise
from jobs.tune.request import Tuned
from jobs.tune.summary import toml
from pipelines.measuring import Configuration, Measurement, Pass
from pipelines.report import Stage
from tests.conftest import poll
from tests.test_cli import Command
from tests.tiny_job import TinyJob

NIGHT = "2026-11-22"
EVEN = {Stage.READ: 0.25, Stage.PREPARE: 0.25, Stage.INFER: 0.25, Stage.WRITE: 0.25}


def measurement(
    rows: int,
    throughputs: Sequence[float],
    *,
    latency: float = 0.01,
    workers: int = 2,
    device: str = "cpu",
    stages: Mapping[Stage, float] = EVEN,
) -> Measurement:
    """Made up: a second for each pass."""
    passes = [Pass(int(speed), 1.0, (latency,) * 20, stages) for speed in throughputs]
    return Measurement(Configuration(device, workers, 2 // workers, rows), passes)


def tuned(*measurements: Measurement, **changes: Any) -> Tuned:
    """The first is what the job does now."""
    made = Tuned("churn", "/data", 1000, 2, "/tmp", 2, 100_000, measurements, measurements[0], True, None)  # noqa: S108
    return replace(made, **changes)


def said(found: Tuned) -> str:
    return "\n".join(advise(found).sentences)


def test_what_is_faster_in_every_round_is_recommended_as_lines_for_the_job_file() -> None:
    """With the ratio, its range, and what it does to a batch's latency."""
    found = tuned(measurement(256, [100, 110, 90]), measurement(4096, [300, 290, 310], latency=0.05))
    advice = advise(found)
    assert toml(advice.settings) == "[batch]\nrows = 4096"
    assert advice.best is found.measurements[1]
    assert "Batches of 4,096 rows with 2 workers on cpu: 3.00 times as fast as now (2.64 to 3.44 over 3 rounds)" in said(found)
    assert "a batch takes 50.0 ms then, 10.0 ms now" in said(found)
    assert "Batching: with 4,096 rows in a batch it is 3.0 times as fast as with 256." in said(found)


@pytest.mark.parametrize("other", [[130, 95, 120], [102, 103, 104], [120]])
def test_what_may_be_noise_is_not_recommended(other: list[float]) -> None:
    """Faster in most rounds, faster by next to nothing, or measured once only."""
    found = tuned(measurement(256, [100, 100, 100]), measurement(4096, other))
    assert advise(found).settings == ()
    assert "Nothing to change: nothing measured is surely faster than what auto chooses" in said(found)
    assert "than what the job file says" in said(replace(found, automatic=False))


def test_of_what_is_alike_the_smaller_batch_is_the_better() -> None:
    """It takes less memory, and each is answered sooner."""
    found = tuned(measurement(64, [10, 10, 10]), measurement(1024, [100, 105, 100]), measurement(4096, [101, 104, 102]))
    assert advise(found).settings == (("batch", "rows", "1024"),)


def test_device_and_workers_are_recommended_too() -> None:
    """Only what differs from now."""
    found = tuned(measurement(256, [100] * 3), measurement(256, [900] * 3, device="cuda:0", workers=1))
    assert toml(advise(found).settings) == '[model]\ndevice = "cuda:0"\n[batch]\nworkers = 1'


def test_a_bound_on_latency_comes_before_speed() -> None:
    """What it costs is said; and a job that breaks it is changed even if that makes it slower."""
    slow = measurement(4096, [300] * 3, latency=0.5)
    found = tuned(slow, measurement(256, [100] * 3, latency=0.05), bound_seconds=0.2)
    assert advise(found).settings == (("batch", "rows", "256"),)
    assert "A batch takes 500.0 ms now (95 % of them), over the bound of 200.0 ms." in said(found)
    assert "The bound costs 200% of speed: batches of 4,096 rows are faster in sum, and take 500.0 ms each." in said(found)


def test_a_bound_that_nothing_keeps_is_said() -> None:
    """There is no setting for that."""
    found = tuned(measurement(64, [100] * 3, latency=0.5), bound_seconds=0.2)
    advice = advise(found)
    assert (advice.best, advice.settings) == (None, ())
    assert "Nothing that was measured keeps to it, however few the rows: the model or the device must be faster." in said(found)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (
            {Stage.INFER: 0.8},
            "Hardware: inference is most of it: a faster device, or a smaller model, makes the whole at most 5.0",
        ),
        ({Stage.INFER: 0.4}, "Hardware: a faster device for inference makes the whole at most 1.7 times as fast."),
        ({Stage.INFER: 0.1}, "Hardware: inference is not what takes the time: a faster device makes the whole at most 1.1"),
        ({Stage.READ: 0.6}, "Reading takes 60%: fewer or narrower columns"),
        ({Stage.PREPARE: 0.6}, "Preparing takes 60%: "),
        ({Stage.WRITE: 0.6}, "Writing takes 60%: "),
    ],
)
def test_where_the_time_goes_decides_between_hardware_and_data(stages: Mapping[Stage, float], words: str) -> None:
    """Amdahl's law: what takes a share of the time can gain no more than that share."""
    (taken,) = stages.values()
    others = [stage for stage in EVEN if stage not in stages]
    found = tuned(measurement(256, [100] * 3, stages={**dict.fromkeys(others, (1 - taken) / 3), **stages}))
    assert words in said(found)


def test_small_row_groups_are_named_where_reading_takes_the_time() -> None:
    """And only there."""
    slow = measurement(256, [100] * 3, stages={**EVEN, Stage.READ: 5.0})
    assert "larger row groups (500 rows are few)" in said(tuned(slow, group_rows=500))
    assert "larger row groups" not in said(tuned(slow))
    assert "larger row groups" not in said(tuned(measurement(256, [100] * 3), group_rows=500))


def test_workers_are_compared_with_one_and_one_part_is_explained() -> None:
    """With all else as it is now."""
    found = tuned(measurement(256, [180] * 3), measurement(256, [100] * 3, workers=1), measurement(64, [1], workers=1))
    assert "Workers: 2 are 1.8 times as fast as one with 2 threads in its kernels." in said(found)
    assert "Workers: the data is one part" in said(tuned(measurement(256, [1] * 3, workers=1), parts=1))


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    return TinyJob(tmp_path / "job")


@pytest.fixture
def batchgauge(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_a_job_is_measured_and_nothing_of_it_is_changed(batchgauge: Command, job: TinyJob) -> None:
    """On its own data, with its own model; no prediction, no ledger. The current setting is among what was measured."""
    job.write_input(NIGHT, 1000)
    document = batchgauge.json("tune", str(job.spec), "--date", NIGHT, "--time", "1s", "--latency", "5")
    assert (document["job"], document["rows"], document["bound_seconds"]) == ("tiny", 1000, 5.0)
    (now,) = [one for one in document["measurements"] if one["current"]]
    assert (now["batch_rows"], now["device"], now["rounds"] >= 3) == (50, "cpu", True)
    for one in document["measurements"]:
        assert one["rows_per_second"] > 0
        assert 0 < one["batch_latency_seconds"]["p50"] <= one["batch_latency_seconds"]["p95"]
        assert sum(one["stage_shares"].values()) == pytest.approx(1.0)
    assert document["advice"]
    assert not (job.folder / "scored").exists()
    assert not Path(batchgauge.environment["BATCHGAUGE_LEDGER"]).exists()


def test_people_get_a_table_and_sentences(batchgauge: Command, job: TinyJob) -> None:
    """A job that is slow for one reason gets told so: each batch of this model takes 50 ms, whatever its size."""
    job.write_input(NIGHT, 1000)
    job.slow_down(seconds_for_each_batch=0.05)
    done = batchgauge("tune", str(job.spec), "--date", NIGHT, "--time", "3s")
    assert done.returncode == 0, done.stderr
    assert "tiny, measured on 1,000 rows in 10 parts of " in done.stdout
    assert "over the bound" not in done.stdout
    assert "In the job file:\n\n[batch]\nrows = 100\n" in done.stdout
    assert "inference is most of it" in done.stdout


def test_without_input_a_holdout_will_do(batchgauge: Command, job: TinyJob) -> None:
    """It has the features, and it is said; without either there is one clear error."""
    document = batchgauge.json("tune", str(job.spec), "--date", NIGHT, "--time", "0s")
    assert document["rows"] == 200
    assert "so it was measured on holdout 'labelled', without id columns" in document["notes"][-1]
    (job.folder / "labelled" / "holdout.parquet").unlink()
    done = batchgauge("tune", str(job.spec), "--date", NIGHT)
    assert done.returncode == 1
    assert (
        f"error: input.path {job.folder}/inbox/date={NIGHT}: no rows to measure on, and holdout 'labelled' has none either"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--time", "soon"], 2, "--time 'soon': must be a duration"),
        (["--latency", "0"], 2, "--latency 0: give the seconds that a batch may take"),
        (["--latency", "-1"], 2, "--latency"),
        (["--date", "2026-11-21"], 1, "other.parquet: no column matches feature 'x'; it has 'id', 'z'"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_error(
    batchgauge: Command, job: TinyJob, arguments: list[str], code: int, words: str
) -> None:
    """Of usage, or of the data: a drop without the model's columns."""
    job.write(job.folder / "inbox" / "date=2026-11-21" / "other.parquet", pa.table({"id": ["a"], "z": [1.0]}))
    done = batchgauge("tune", str(job.spec), *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_device_that_is_not_there_is_an_error_as_in_a_run(batchgauge: Command, job: TinyJob) -> None:
    """It isn't replaced by another in silence."""
    job.write_input(NIGHT, 100)
    job.edit({'device = "cpu"': 'device = "cuda:7"'})
    done = batchgauge("tune", str(job.spec), "--date", NIGHT)
    assert done.returncode == 1
    assert "model.device is 'cuda:7'" in done.stderr


def test_a_run_in_progress_is_noted(batchgauge: Command, job: TinyJob) -> None:
    """It has its share of the machine. Nothing waits for it."""
    job.write_input(NIGHT, 4000)
    job.slow_down(seconds_for_each_batch=0.1)
    command = [str(Path(sys.executable).parent / "batchgauge"), "run", str(job.spec), "--date", NIGHT]
    with subprocess.Popen(command, env=batchgauge.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        poll(lambda: batchgauge.json("list") and batchgauge.json("list")[0]["running"])
        document = batchgauge.json("tune", str(job.spec), "--date", NIGHT, "--time", "0s")
        running.send_signal(signal.SIGTERM)
    assert any("a run of this job is in progress" in note for note in document["notes"])


def test_control_c_ends_it_at_once(batchgauge: Command, job: TinyJob) -> None:
    """With the exit code of the signal, and nothing left in the temporary folder."""
    job.write_input(NIGHT, 4000)
    job.slow_down(seconds_for_each_batch=0.2)
    scratch = job.folder / "tmp"
    scratch.mkdir()
    command = [str(Path(sys.executable).parent / "batchgauge"), "tune", str(job.spec), "--date", NIGHT, "--time", "60s"]
    environment = {**batchgauge.environment, "TMPDIR": str(scratch)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        poll(lambda: list(scratch.glob("batchgauge-tune-*/*.parquet")))
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by SIGINT" in err
    assert list(scratch.glob("batchgauge-*")) == []


def test_its_definition_needs_nothing_heavy() -> None:
    """`--help` is quick."""
    heavy = "{'torch', 'pyarrow', 'numpy'}"
    code = f"import sys, jobs.commands.tuning, jobs.tune.request; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
