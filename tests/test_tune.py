"""Advice from made-up measurements, and the command on real jobs: what it prints, leaves alone, and how it ends."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from jobs.examples import digits
from jobs.tune.advice import Advice, advise
from jobs.tune.request import Limit, Rows, TuneResult
from jobs.tune.summary import tune_document
from jobs.tune.surroundings import disturbance, scratch_beside
from monitoring.ledger import Ledger
from pipelines.measuring import Comparison, Configuration, Measurement, Rewriting, Trial, WholeParts
from pipelines.report import Stage
from tests.conftest import poll
from tests.reports import definition, run_start
from tests.test_cli import Command
from tests.tiny_job import MODEL, SLOW_MODEL, TinyJob

NIGHT = "2026-11-01"
DAY = date(2026, 11, 22)
NOW = Configuration("cpu", 256, 2, 1)


def measured(configuration: Configuration, speed: float, *, latency: float = 0.01) -> Measurement:
    trials = tuple(Trial(speed * noise, 1000, 0.1, 1000 * 1e-5, (latency,) * 20) for noise in (0.99, 1.0, 1.01))
    return Measurement(configuration, trials)


def shares(read: float, prepare: float, infer: float, write: float, *, elapsed: float = 10.0, parts: int = 2) -> WholeParts:
    stages = {Stage.READ: read, Stage.PREPARE: prepare, Stage.INFER: infer, Stage.WRITE: write}
    return WholeParts(200_000, parts, parts, elapsed, stages)


BALANCED = shares(0.25, 0.25, 0.25, 0.25)


def result(
    *others: Measurement,
    chosen: Configuration = NOW,
    ratios: tuple[float, ...] = (),
    now: Measurement | None = None,
    limit: float | None = None,
    whole: WholeParts | None = BALANCED,
    **changes: Any,
) -> TuneResult:
    """A job that prepares and infers 10,000 rows a second now; `others` were measured too."""
    made = TuneResult(
        job="churn",
        logical_date=DAY,
        model_version="v1",
        cores=2,
        rows=Rows("inbox", None, 10_000_000, 80, 80, 131_072),
        dtype="float32",
        auto_rows=True,
        auto_workers=True,
        limit=None if limit is None else Limit(limit, "--latency"),
        measurements=(now or measured(NOW, 10_000), *others),
        current=NOW,
        chosen=chosen,
        comparison=Comparison(ratios) if ratios else None,
        whole=whole,
        rewriting=None,
        scratch="/tmp",  # noqa: S108  a name, never opened
        failures={},
        unaffordable=(),
        slow_seconds=None,
        notes=(),
    )
    return replace(made, **changes)


def said(advice: Advice) -> str:
    return "\n".join(advice.sentences)


def test_larger_batches_that_surely_help_are_advised_with_the_line_to_write() -> None:
    """And with what it makes of the whole job, where half the time is something else."""
    larger = replace(NOW, rows=4096)
    advice = advise(result(measured(larger, 20_000), chosen=larger, ratios=(2.0, 1.9, 2.1, 2.0, 2.0, 2.0)))
    assert advice.sentences[0] == (
        "Change to batches of 4,096: preparing and inferring is 2.00 times as fast as now (1.90 to 2.10 in 6 comparisons). "
        "The whole job gets about ×1.50 as fast."
    )
    assert advice.lines() == ("[batch]", "rows = 4096")
    assert "Batches: against 4,096 rows, the speed is ×0.50 with 256." in said(advice)


def test_another_device_that_surely_helps_is_advised() -> None:
    """By the name that the job file knows, with the workers that go with it, and what else changes."""
    accelerated = Configuration("cuda:0", 4096, 1, 2)
    advice = advise(result(measured(accelerated, 90_000), chosen=accelerated, ratios=(9.0,) * 6))
    assert advice.settings == {"model": {"device": "cuda"}, "batch": {"rows": 4096, "workers": 1}}
    assert advice.lines() == ("[model]", 'device = "cuda"', "[batch]", "rows = 4096", "workers = 1")
    assert "Hardware: cuda:0 prepares and infers ×9.00 as fast as cpu, each at its best." in said(advice)
    assert "scores may differ in their last digits" in said(advice)


def test_more_workers_may_be_faster_and_yet_raise_the_latency_of_a_row() -> None:
    """The metric sums over workers: whoever has an alert on it must know before."""
    more = Configuration("cpu", 256, 4, 1)
    slower = tuple(replace(trial, infer_seconds=2 * trial.infer_seconds) for trial in measured(more, 20_000).trials)
    change = result(Measurement(more, slower), chosen=more, ratios=(2.0,) * 6)
    assert "The mean latency of a row rises all the same, from 10 µs to 20 µs" in said(advise(change))
    assert "rises" not in said(advise(replace(change, measurements=(measured(NOW, 10_000), measured(more, 20_000)))))


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((), "Nothing to change: what auto chooses (2 workers with batches of 256) is the fastest of what was measured"),
        ((1.02, 0.97, 1.03, 1.02, 1.0, 1.02), "is as fast as the fastest within noise (batches of 512: ×1.02 ± 3% in 6 comp"),
        ((1.4, 1.5), "Not sure yet: batches of 512 looks 1.45 times as fast"),
    ],
)
def test_within_noise_nothing_is_changed(ratios: tuple[float, ...], verdict: str) -> None:
    """What is as fast stays as it is, and the noise is said."""
    other = replace(NOW, rows=512)
    advice = advise(result(measured(other, 10_100), chosen=other if ratios else NOW, ratios=ratios))
    assert verdict in advice.sentences[0]
    assert (advice.settings, advice.lines()) == ({}, ())


def test_a_change_that_saves_next_to_nothing_is_not_worth_it() -> None:
    """Twice as fast, on rows that take a tenth of a second. Of a holdout's rows nobody can say."""
    larger = replace(NOW, rows=1000)
    few = result(measured(larger, 20_000), chosen=larger, ratios=(2.0,) * 6, rows=Rows("inbox", None, 1_000, 1, 1, 1_000))
    advice = advise(few)
    assert advice.sentences[0].startswith("Nothing worth a change: batches of 1,000 is 2.00 times as fast as")
    assert "saves 50.0 ms of these 1,000 rows" in advice.sentences[0]
    assert advice.settings == {}
    assert advise(replace(few, rows=replace(few.rows, holdout="labelled"))).settings == {"batch": {"rows": 1000}}


def test_a_limit_that_is_broken_now_is_kept_even_if_that_costs_speed() -> None:
    """That is the alert that was to be answered; and the price is said."""
    smaller, larger = replace(NOW, rows=64), replace(NOW, rows=1024)
    advice = advise(
        result(
            measured(smaller, 8_000, latency=0.05),
            measured(larger, 20_000, latency=0.9),
            now=measured(NOW, 10_000, latency=0.3),
            chosen=smaller,
            ratios=(0.8,) * 6,
            limit=0.1,
        )
    )
    assert advice.settings == {"batch": {"rows": 64}}
    assert "95 % of batches take up to 50.0 ms then, and up to 300.0 ms now, which is above the limit of 0.1 s" in said(advice)
    assert "Speed: 0.80 times today's (0.80 to 0.80 in 6 comparisons)" in said(advice)
    assert "The limit costs speed: batches of 1,024 would be about 2.5 times as fast" in said(advice)


def test_a_limit_that_nothing_keeps_is_said_to_be_out_of_reach() -> None:
    """No batch size can help then."""
    smallest = replace(NOW, rows=1)
    advice = advise(
        result(
            measured(smallest, 100, latency=0.2),
            now=measured(NOW, 10_000, latency=0.3),
            limit=0.1,
        )
    )
    assert advice.settings == {}
    assert (
        "nothing that was measured keeps the limit of 0.1 s (--latency). Even of batches of 1, 95 % take up to 200.0 ms"
        in said(advice)
    )


def test_a_limit_with_much_room_points_elsewhere() -> None:
    """If an alert fired, these settings are not why."""
    assert "the limit of 1 s (--latency) is 100 times that. If an alert says otherwise" in said(advise(result(limit=1.0)))
    assert "No limit on latency was given" in said(advise(result()))


def test_where_inference_is_little_hardware_is_said_to_gain_little() -> None:
    """By Amdahl's law, from the shares."""
    text = said(advise(result(whole=shares(0.54, 0.18, 0.18, 0.10))))
    assert "read 54%, prepare 18%, infer 18%, write 10%" in text
    assert "Inference is only 18% of it: larger batches or a faster device can't make the job more than 1.22 times" in text
    assert "Reading is 54%" in text
    mostly = said(advise(result(whole=shares(0.1, 0.1, 0.75, 0.05))))
    assert "Inference is 75% of it: a device of any speed can't make the job more than 4.00 times as fast." in mostly
    assert "Reading" not in mostly


def test_about_reading_the_measured_alternative_speaks() -> None:
    """Rows that are read in half the time from another file are worth writing so; others aren't."""
    slow = Rewriting(row_groups=200, rows=100_000, compression="gzip", seconds=2.0, rewritten_seconds=1.0)
    reading = result(whole=shares(0.5, 0.1, 0.3, 0.1))
    text = said(advise(replace(reading, rewriting=slow)))
    assert "one row group with zstd are read in 50% of the time (now 200 row groups of 500 rows, gzip)" in text
    assert "×1.33 as fast" in text
    assert "it isn't the file's fault" in said(advise(replace(reading, rewriting=replace(slow, rewritten_seconds=1.98))))


@pytest.mark.parametrize(
    ("whole", "words"),
    [
        (shares(0.1, 0.6, 0.2, 0.1), "Preparing is 60%"),
        (shares(0.1, 0.1, 0.2, 0.6), "Writing is 60%: 300.0 ms for each part of 100,000 rows"),
    ],
)
def test_each_stage_that_takes_much_has_its_sentence(whole: WholeParts, words: str) -> None:
    """And only such a stage."""
    text = said(advise(result(whole=whole)))
    assert words in text
    assert [name for name in ("Reading is", "Preparing is", "Writing is") if name in text] == [words.partition("is")[0] + "is"]


@pytest.mark.parametrize(
    ("groups", "words"),
    [(8, "A lower input.part_rows (about 250,000) would make more of it."), (1, "It can't be cut further")],
)
def test_cores_without_a_part_to_work_on_are_said(groups: int, words: str) -> None:
    """Only where a part takes long enough to matter."""
    one_part = result(rows=Rows("inbox", None, 1_000_000, 1, groups, 1_000_000), cores=4)
    assert f"The input is 1 part, so no more workers than that have work, on 4 cores. {words}" in said(advise(one_part))
    quick = replace(one_part, whole=shares(0.25, 0.25, 0.25, 0.25, elapsed=0.5, parts=1))
    assert "no more workers" not in said(advise(quick))


def test_one_core_and_no_accelerator_leave_batches_alone_to_compare() -> None:
    """Nothing is said of what was not measured."""
    alone = Configuration("cpu", 256, 1, 1)
    text = said(advise(result(now=measured(alone, 1000), current=alone, chosen=alone, cores=1)))
    assert "Hardware: this machine has nothing but cpu to compare, with 1 core." in text
    assert "Workers:" not in text
    assert "Batches:" not in text


def test_a_device_that_failed_is_said_with_its_reason() -> None:
    """Once, however many settings failed on it."""
    failures = {Configuration("cuda", 256, workers, 1): "out of memory" for workers in (1, 2)}
    text = said(advise(result(failures=failures)))
    assert text.count("Hardware: cuda could not be measured: out of memory") == 1
    assert "nothing but cpu" not in text


@pytest.mark.parametrize(
    ("others", "ours", "machine", "disturbed"), [(0.1, 2, 2, False), (1.2, 2, 2, True), (9.0, 4, 16, False)]
)
def test_others_disturb_only_where_cores_are_missing(others: float, ours: int, machine: int, *, disturbed: bool) -> None:
    """A busy machine with cores to spare is quiet for us."""
    assert (disturbance(others, ours=ours, machine=machine) is not None) is disturbed


def test_scratch_is_never_in_the_output_and_is_gone_afterwards(tmp_path: Path) -> None:
    """Whoever reads the output must not find it."""
    output = tmp_path / "scored" / "date=2026-11-01"
    with scratch_beside(output) as scratch:
        (scratch / "part.parquet").write_bytes(b"")
        assert output not in (scratch, *scratch.parents)
        assert not output.exists()
        assert scratch.name.startswith(".")
    assert not scratch.exists()


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    return TinyJob(tmp_path / "job")


@pytest.fixture
def batchgauge(tmp_path: Path) -> Command:
    return Command(tmp_path)


def tune(batchgauge: Command, job: TinyJob, *options: str) -> subprocess.CompletedProcess[str]:
    return batchgauge("tune", job.spec, "--date", NIGHT, "--time", "2s", *options)


def state_of(folder: Path) -> Mapping[str, bytes]:
    """Every file and its bytes, but for what Python caches."""
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts}


def test_a_job_is_measured_and_nothing_of_it_is_changed(batchgauge: Command, job: TinyJob) -> None:
    """No prediction, no ledger, no lock, no leftover."""
    job.write_input(NIGHT, 350)
    before = state_of(batchgauge.folder)
    done = tune(batchgauge, job)
    assert done.returncode == 0, done.stderr
    assert state_of(batchgauge.folder) == before
    assert "tiny · 2026-11-01 · model v1 · 350 rows of its input in 4 parts" in done.stdout
    for words in ("rows/s", "now", "No part has more than 100 rows", "Where the time of", "Latency as it is set now"):
        assert words in done.stdout
    assert "tiny: warming up" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_the_same_and_what_a_model_prints_is_not_in_it(batchgauge: Command, job: TinyJob) -> None:
    """With every figure as a number; the ledger that is there stays as it was."""
    (job.folder / "tiny.py").write_text(MODEL.replace("def build():", "def build():\n    print('debugging')"))
    job.write_input(NIGHT, 350)
    assert batchgauge("run", job.spec, "--date", NIGHT).returncode == 0
    status, output = batchgauge.json("status", "tiny"), state_of(job.folder / "scored")
    done = tune(batchgauge, job, "--json", "--latency", "0.5")
    assert done.returncode == 0, done.stderr
    assert "debugging" in done.stderr
    document = json.loads(done.stdout)
    assert document["current"] == {
        "device": "cpu",
        "rows": 50,
        "workers": 2,
        "kernel_threads": document["current"]["kernel_threads"],
    }
    assert document["limit"] == {"seconds": 0.5, "origin": "--latency"}
    assert {one["rows"] for one in document["measurements"]} >= {50, 100}
    assert all(one["rows_per_second"] > 0 and one["batch_seconds"]["p95"] > 0 for one in document["measurements"])
    assert sum(document["whole_parts"]["shares"].values()) == pytest.approx(1)
    assert document["advice"]["sentences"]
    assert (batchgauge.json("status", "tiny"), state_of(job.folder / "scored")) == (status, output)


def test_the_document_of_made_up_measurements_is_json() -> None:
    """Also with everything in it that a small job lacks."""
    larger = replace(NOW, rows=4096)
    made = result(
        measured(larger, 20_000),
        chosen=larger,
        ratios=(2.0,) * 6,
        limit=0.1,
        rewriting=Rewriting(2, 100, "snappy", 1.0, 0.5),
        failures={replace(NOW, device="cuda"): "out of memory"},
        unaffordable=(replace(NOW, rows=65_536),),
    )
    document = json.loads(json.dumps(tune_document(made, advise(made)), allow_nan=False))
    assert document["comparison"]["interval"] == [2.0, 2.0]
    assert document["failures"][0] == {
        "device": "cuda",
        "rows": 256,
        "workers": 2,
        "kernel_threads": 1,
        "error": "out of memory",
    }
    assert document["advice"]["settings"] == {"batch": {"rows": 4096}}


def test_a_run_in_progress_and_a_missing_input_are_said(batchgauge: Command, job: TinyJob) -> None:
    """Both spoil or change what is measured; neither stops it."""
    with Ledger.open(batchgauge.folder / "ledger.db") as ledger:
        ledger.register(definition("tiny"), now=1.0, next_expected_at=None)
        ledger.start_run(run_start(job="tiny"), next_expected_at=None)
    done = tune(batchgauge, job)
    assert done.returncode == 0, done.stderr
    assert "warning: a run of this job is in progress" in done.stdout
    assert "has no rows: those of holdout 'labelled' were taken instead" in done.stdout
    assert "200 rows of its holdout labelled" in done.stdout


def test_what_cannot_be_measured_is_one_message_and_exit_code(batchgauge: Command, job: TinyJob) -> None:
    """1 for data, model and device; 2 for usage and a job file that is wrong."""

    def ends(code: int, words: str, *options: str) -> None:
        done = tune(batchgauge, job, *options)
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (code, "", False), done.stderr
        assert words in done.stderr

    for value in ("0", "-1", "nan", "inf"):
        ends(2, f"--latency {float(value):g}: must be a number of seconds above 0", "--latency", value)
    ends(2, "--time '0s': must be longer than nothing", "--time", "0s")
    ends(2, "--time '20': must be a duration such as '90s'", "--time", "20")
    spec = job.spec.read_text()
    job.spec.write_text(f'{spec}\n[engine]\nkind = "ray"\n')
    ends(2, "engine.kind = 'ray': tune measures threads of this host")
    job.spec.write_text(spec)
    shutil.rmtree(job.folder / "labelled")
    ends(1, "there are no rows to measure with in")
    job.write_input(NIGHT, 100)
    job.edit({'device = "cpu"': 'device = "cuda:7"'})
    ends(1, "model.device is 'cuda:7'")
    job.edit({'device = "cuda:7"': 'device = "cpu"', "tiny.safetensors": "absent.safetensors"})
    ends(1, "absent.safetensors: can't be read")
    job.edit({"version": "versoin"})
    ends(2, "did you mean 'version'?")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_between_two_batches(batchgauge: Command, job: TinyJob, number: signal.Signals) -> None:
    """With its exit code, one line, and nothing left behind."""
    job.write_input(NIGHT, 350)
    before = state_of(batchgauge.folder)
    command = [str(Path(sys.executable).parent / "batchgauge"), "tune", str(job.spec), "--date", NIGHT, "--time", "10m"]
    log = batchgauge.folder.parent / f"{batchgauge.folder.name}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, env=batchgauge.environment, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=batchgauge.folder
        )
        try:
            poll(lambda: "trying each setting" in log.read_text())
            process.send_signal(number)
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (128 + number, "")
    assert f"stopped by {number.name}" in log.read_text()
    assert state_of(batchgauge.folder) == before


def test_its_help_and_its_refusals_are_quick(batchgauge: Command, job: TinyJob) -> None:
    """No torch before there is something to measure."""
    for arguments, code in ((["--help"], 0), ([str(job.spec), "--time", "0s"], 2)):
        command = [sys.executable, "-X", "importtime", "-m", "jobs.cli", "tune", *arguments]
        done = subprocess.run(command, env=batchgauge.environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr[-2000:]
        imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "import time" in line}
        assert "typer" in imported
        assert not imported & {"torch", "pandas", "pyarrow", "numpy"}


def test_the_example_is_measured(batchgauge: Command, tmp_path: Path) -> None:
    """Its night is one part of 1,500 rows, on real images and with the real model."""
    root = tmp_path / "demo"
    digits.train_first(root)
    digits.write_night(root, DAY, 1)
    folder = Path(digits.__file__).parent
    shutil.copy(folder / "digits.py", root)
    spec = root / "digits.toml"
    spec.write_text((folder / "digits.toml").read_text(encoding="utf-8").replace('"../../.batchgauge/demo"', '"."'))
    document = batchgauge.json("tune", spec, "--date", str(DAY), "--time", "2s")
    assert (document["rows"]["rows"], document["rows"]["parts"], document["rows"]["parts_by_group"]) == (1_500, 1, 3)
    assert {one["workers"] for one in document["measurements"]} == {1}
    assert max(one["rows"] for one in document["measurements"]) <= 1_500
    assert document["current"]["rows"] in {64, 256, 1024}
    assert not (root / "digits" / "scored").exists()


def test_what_is_measured_of_too_few_pairs_is_not_said_with_confidence() -> None:
    """Five that agree are not sure; a limit that is broken is mended all the same, and the words claim no more."""
    larger, smaller = replace(NOW, rows=4096), replace(NOW, rows=64)
    unsure = advise(result(measured(larger, 20_000), chosen=larger, ratios=(2.0,) * 5))
    assert unsure.settings == {}
    assert unsure.sentences[0].startswith("Not sure yet: batches of 4,096 looks 2.00 times as fast")
    slow = measured(NOW, 10_000, latency=0.3)
    mended = advise(result(measured(smaller, 8_000), now=slow, chosen=smaller, ratios=(0.8, 0.9), limit=0.1))
    assert mended.settings == {"batch": {"rows": 64}}
    assert "Speed: 0.85 times today's (in 2 comparisons: too few to be sure)" in mended.sentences[0]


def rounds(configuration: Configuration, *speeds: float) -> Measurement:
    return Measurement(configuration, tuple(Trial(speed, 1000, 0.1, 0.01, (0.01,) * 20) for speed in speeds))


def test_side_findings_claim_no_more_than_the_rounds_say() -> None:
    """Nothing where they overlap, a range where they are wide, no ratio of zero where one is small."""
    more, small = replace(NOW, workers=4), replace(NOW, rows=16)
    overlapping = said(advise(result(rounds(more, 9_000, 20_000, 30_000), rounds(small, 8_000, 9_500, 12_000))))
    assert "Workers:" not in overlapping
    assert "the speed is" not in overlapping
    assert "Workers: 4 workers × 1 thread do ×1.98 to ×6.06 the rows of 2" in said(advise(result(rounds(more, 2e4, 4e4, 6e4))))
    assert "×0.003 with 16." in said(advise(result(rounds(small, 29.0, 30.0, 31.0))))
    assert "about ×0.50 (tried once) with 16." in said(advise(result(rounds(small, 5_000))))


def test_only_sizes_that_were_left_out_are_said_to_be() -> None:
    """Those tried in no setting, and those tried in another."""
    left_out = tuple(replace(NOW, rows=rows, workers=1) for rows in (1024, 16_384, 65_536))
    text = said(advise(result(measured(replace(NOW, rows=1024), 9_000), unaffordable=left_out)))
    assert "Batches of 16,384 and 65,536 would have taken too long, and were left out" in text
    assert "Batches of 1,024 would have taken too long in some settings" in text


def test_where_one_try_takes_all_the_time_nothing_is_said_to_be_the_fastest() -> None:
    """And how much time would do."""
    assert advise(result(slow_seconds=40.0)).sentences[0] == (
        "Nothing can be said: trying what auto chooses (2 workers with batches of 256) once took 40.0 s, and left no time to "
        "try anything else; give about --time 1200s."
    )


def test_a_batch_that_is_a_whole_part_is_said_to_be_one() -> None:
    """The file may say more rows than a part has; and one is no plural."""
    one = replace(NOW, rows=1)
    text = said(
        advise(result(now=measured(one, 1000), current=one, chosen=one, rows=Rows("inbox", None, 1, 1, 1, 1), auto_rows=False))
    )
    assert "what is set (2 workers with batches of 1, all that a part has) is the fastest" in text
    assert "No part has more than 1 row, and" in text
    assert "1 rows" not in text


LOUD_MODEL = """
import ctypes
import os
import subprocess

import torch


class Loud(torch.nn.Linear):
    def forward(self, x):
        os.write(1, b"from a descriptor\\n")
        return super().forward(x)


def build():
    ctypes.CDLL(None).puts(b"from C")
    subprocess.run(["echo", "from a child"], check=True)
    return Loud(2, 2)
"""


@pytest.mark.parametrize("command", ["tune", "run"])
def test_what_a_model_prints_past_python_is_not_in_the_document(batchgauge: Command, job: TinyJob, command: str) -> None:
    """By the descriptor, by C's buffer, by a child: all of it is on stderr."""
    (job.folder / "tiny.py").write_text(LOUD_MODEL)
    job.write_input(NIGHT, 350)
    time = ("--time", "2s") if command == "tune" else ()
    done = batchgauge(command, job.spec, "--date", NIGHT, *time, "--json")
    assert json.loads(done.stdout), done.stderr
    for words in ("from a descriptor", "from C", "from a child"):
        assert words in done.stderr


QUITTING_MODEL = """
import sys
import threading

import torch


class Quits(torch.nn.Linear):
    def forward(self, x):
        if threading.current_thread().name.startswith("worker-"):
            sys.exit(7)
        return super().forward(x)


def build():
    {at_once}
    return Quits(2, 2)
"""


@pytest.mark.parametrize("at_once", ["sys.exit(7)", "pass"])
def test_a_model_that_ends_the_process_is_an_error(batchgauge: Command, job: TinyJob, at_once: str) -> None:
    """While it is loaded, and in a worker's thread."""
    (job.folder / "tiny.py").write_text(QUITTING_MODEL.format(at_once=at_once))
    job.write_input(NIGHT, 350)
    done = tune(batchgauge, job)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: the model's code called sys.exit(7); it must raise an error that says why" in done.stderr


def test_a_slow_model_is_tried_once_and_no_more(batchgauge: Command, job: TinyJob) -> None:
    """One batch that isn't timed, and one that is, for each of two workers; then it is said that there was no time."""
    slow = SLOW_MODEL.replace("time.sleep({seconds})", "time.sleep(2), print('batch')")
    (job.folder / "tiny.py").write_text(slow)
    job.write_input(NIGHT, 200)
    done = tune(batchgauge, job)
    assert done.returncode == 0, done.stderr
    assert "Nothing can be said: trying what is set (2 workers with batches of 50) once took" in done.stdout
    assert 4 <= done.stderr.count("batch\n") <= 6
