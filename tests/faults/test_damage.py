"""Files that are damaged, change or vanish: said by name, and the rest goes on."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.ledger import Ledger
from pipelines.cancellation import Cancellation
from pipelines.errors import LedgerError
from pipelines.report import Outcome, PartReport, RunReport
from tests.faults.conftest import Tally
from tests.reports import JOB, definition, finished, one_run, part
from tests.tiny_job import TinyJob, rows_table

NIGHT = "2026-11-01"


class AtFirstPart(Silent):
    """Does something to the input while the run goes on."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act

    def part(self, report: PartReport) -> None:
        del report
        act, self._act = self._act, None
        if act is not None:
            act()


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    """One worker, so that parts come one after the other, files by name."""
    job = TinyJob(tmp_path / "job")
    job.edit({"workers = 2": "workers = 1"})
    return job


def go(job: TinyJob, observer: Silent | None = None) -> RunReport:
    environment = read({"BATCHGAUGE_LEDGER": str(job.folder / "ledger.db")})
    request = RunRequest(load(job.spec), environment, logical_date=date.fromisoformat(NIGHT))
    return run(request, observer=observer or Silent(), cancellation=Cancellation()).report


def flipped(content: bytes, randomness: random.Random) -> bytes:
    """With one bit changed, somewhere."""
    changed = bytearray(content)
    changed[randomness.randrange(len(changed))] ^= 1 << randomness.randrange(8)
    return bytes(changed)


def test_a_ledger_with_a_flipped_bit(tmp_path: Path, tally: Tally) -> None:
    """Whatever bit it is, reading and writing end with a ledger's error, or work; nothing else happens."""
    whole = tmp_path / "whole.db"
    with Ledger.open(whole) as ledger:
        ledger.register(definition(), now=1.0, next_expected_at=None)
        for number in range(5):
            report = part(f"{number}.parquet")
            one_run(ledger, finished(f"run-{number}", parts=(report,)), (report,))
    content, randomness = whole.read_bytes(), random.Random(tally.seed)  # noqa: S311  a seed makes a failure repeatable
    tries = 2_000 if tally.soak else 150
    refused = 0
    damaged = tmp_path / "damaged.db"
    for _ in range(tries):
        for old in tmp_path.glob("damaged.db*"):
            old.unlink()
        damaged.write_bytes(flipped(content, randomness))
        try:
            with Ledger.open(damaged) as ledger:
                ledger.runs(JOB)
                ledger.state(JOB)
                ledger.committed_parts(JOB, "/scored")
                ledger.register(definition(), now=2.0, next_expected_at=None)
        except LedgerError:
            refused += 1
    tally.add("a bit of the ledger flipped", tries=tries, losses=0)
    assert refused, "some bits must matter"


def test_a_ledger_that_was_lost_begins_anew_and_says_so(job: TinyJob) -> None:
    """Everything is scored again, each row is in the output once, counters start from zero; that is said, but once."""
    job.write_input(NIGHT, 300)
    assert go(job).warnings == ()
    for file in job.folder.glob("ledger.db*"):
        file.unlink()
    report = go(job)
    assert report.rows_scored == 300
    (warning,) = report.warnings
    assert f"ledger {job.folder / 'ledger.db'} knows no earlier run of this job, but one has written {job.folder}" in warning
    assert "counters begin at zero" in warning
    assert len(job.output(NIGHT)) == 300
    with Ledger.open(job.folder / "ledger.db") as ledger:
        assert ledger.state("tiny").counters["inference_requests_total", ()] == 300
    assert go(job).warnings == ()


def test_a_lost_ledger_is_seen_on_the_next_night_too(job: TinyJob) -> None:
    """Its predictions are in a folder of its own; what others left in ours is no sign."""
    other = job.folder / "scored" / "date=2026-10-01"
    job.write(other / "others.parquet", rows_table(10, prefix="other", seed=1))
    job.write_input(NIGHT, 100)
    assert go(job).warnings == ()
    for file in job.folder.glob("ledger.db*"):
        file.unlink()
    shutil.move(job.folder / "scored" / f"date={NIGHT}", job.folder / "scored" / "date=2026-10-31")
    (warning,) = go(job).warnings
    assert "date=2026-10-31" in warning


def test_a_drop_with_a_flipped_bit(job: TinyJob, tally: Tally) -> None:
    """With page checksums: its rows are scored as they were, or rejected and named; its neighbour is scored always."""
    rows = rows_table(200, prefix="bad", seed=1)
    bad = job.write(job.folder / "inbox" / f"date={NIGHT}" / "bad.parquet", rows)
    pq.write_table(rows, bad, row_group_size=100, write_page_checksum=True)
    job.write_input(NIGHT, 100, name="good")
    content, randomness = bad.read_bytes(), random.Random(tally.seed)  # noqa: S311  a seed makes a failure repeatable
    wanted = dict(zip(rows["id"].to_pylist(), rows["x"].to_numpy() > rows["y"].to_numpy(), strict=True))
    tries = 1_000 if tally.soak else 60
    outcomes = set()
    for number in range(tries):
        shutil.rmtree(job.folder / "scored", ignore_errors=True)
        bad.write_bytes(flipped(content, randomness))
        report = go(job)
        where = f"seed {tally.seed}, try {number}: {report.reason}"
        assert report.outcome in {Outcome.SUCCESS, Outcome.PARTIAL}, where
        assert report.rows_read == report.rows_scored + sum(report.rows_rejected.values()), where
        output = job.output(NIGHT)
        said = dict(zip(map(text, output["id"].to_pylist()), output["prediction"].to_pylist(), strict=True))
        assert len(said) == len(output) == report.rows_scored, where
        assert sum(name.startswith("good") for name in said) == 100, where
        assert all(wanted[name] == said[name] for name in wanted.keys() & said.keys()), where
        outcomes.add(report.outcome)
    tally.add("a bit of a drop flipped", tries=tries, losses=0)
    assert Outcome.PARTIAL in outcomes


def text(name: str | bytes) -> str:
    """An id. The footer has no checksum, and one of its bits says whether a column is text or bytes: the same ones."""
    return name.decode() if isinstance(name, bytes) else name


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_drop_that_was_cut_short(job: TinyJob, size: int) -> None:
    """Rejected by name; the neighbour is scored, and the next run finds the mended file."""
    bad = job.write_input(NIGHT, 200, name="bad")
    job.write_input(NIGHT, 100, name="good")
    content = bad.read_bytes()
    bad.write_bytes(content[:size])
    report = go(job)
    assert (report.outcome, report.rows_scored) == (Outcome.PARTIAL, 100)
    assert [Path(rejection.source).name for rejection in report.rejections] == ["bad.parquet"]
    bad.write_bytes(content)
    assert go(job).outcome is Outcome.SUCCESS
    assert len(job.output(NIGHT)) == 300


def test_a_drop_that_vanishes_while_the_run_reads_others(job: TinyJob) -> None:
    """Rejected by name, with its rows."""
    job.write_input(NIGHT, 300, name="a")
    later = job.write_input(NIGHT, 3000, name="z")
    report = go(job, AtFirstPart(later.unlink))
    assert report.outcome is Outcome.PARTIAL
    assert "z.parquet" in report.rejections[0].source
    assert sum(name.startswith("a-") for name in job.output(NIGHT)["id"].to_pylist()) == 300


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("another takes its place", "was changed while the run was reading it"),
        ("in place", "changed while the run was reading it|is not Parquet, is encrypted, or was cut short"),
    ],
)
def test_a_drop_that_changes_while_it_is_read(job: TinyJob, how: str, words: str) -> None:
    """Old and new rows are never mixed: the next run scores the new file whole. In place it may be seen half-written."""
    old = job.write_input(NIGHT, 3000, name="z")

    def change() -> None:
        if how == "in place":
            job.write_input(NIGHT, 2000, name="z", seed=5)
        else:
            job.write(job.folder / "new.parquet", rows_table(2000, prefix="z", seed=5)).replace(old)

    report = go(job, AtFirstPart(change))
    assert report.outcome is Outcome.PARTIAL
    assert re.search(words, report.rejections[0].error or "")
    assert go(job).outcome is Outcome.SUCCESS
    assert len(set(job.output(NIGHT)["id"].to_pylist())) == len(job.output(NIGHT)) == 2000


def test_a_drop_that_appears_while_a_run_goes_on(job: TinyJob) -> None:
    """It is the next run's."""
    job.write_input(NIGHT, 1000, name="a")
    assert go(job, AtFirstPart(lambda: job.write_input(NIGHT, 100, name="b"))).rows_scored == 1000
    assert go(job).rows_scored == 100


def test_a_clock_that_steps_back(job: TinyJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour, between a run that died and the one that settles it: no duration is negative, no counter falls."""
    job.write_input(NIGHT, 100)
    go(job)
    with Ledger.open(job.folder / "ledger.db") as ledger:
        (before,) = ledger.runs("tiny")
        monkeypatch.setattr("jobs.run.datetime", _an_hour_ago())
        job.write_input(NIGHT, 200)
        after = go(job)
        assert after.started_at < before.started_at
        assert after.elapsed_seconds > 0
        assert after.finished_at >= after.started_at
        assert ledger.state("tiny").counters["inference_requests_total", ()] == 300
        assert [run.outcome for run in ledger.runs("tiny")] == ["success", "success"]


def _an_hour_ago() -> type:
    from datetime import datetime, timedelta, tzinfo  # noqa: PLC0415  the class below stands for what is imported here

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - timedelta(hours=1)

    return Behind
