"""`batchgauge report`: what a page says, how it looks in a real browser, and where it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser

from jobs.report import batches
from jobs.report.facts import MOST_RUNS, Facts, gather
from jobs.report.history import history, placed_runs
from jobs.report.page import page
from jobs.report.publish import ReportError, default_file, write
from jobs.report.quality import quality
from jobs.report.tiles import tiles
from jobs.report.verdict import Level, Verdict, verdict
from jobs.report.words import Clock
from monitoring.ledger import Ledger
from pipelines.errors import DataError
from pipelines.report import Estimate, Outcome, SliceReport
from tests import report_jobs
from tests.browser import PHONE, chromium, visit
from tests.report_jobs import HOSTILE, NOW, TONIGHT
from tests.reports import definition, finished, holdout
from tests.tiny_job import TinyJob

MEGABYTE = 1_000_000


def made(make: Callable[[Ledger, str], None]) -> Callable[[Ledger, str], AbstractContextManager[None]]:
    def context(ledger: Ledger, job: str) -> AbstractContextManager[None]:
        make(ledger, job)
        return nullcontext()

    return context


KINDS: dict[str, tuple[str, Callable[[Ledger, str], AbstractContextManager[None]]]] = {
    "everything": ("digits", made(report_jobs.busy)),
    "never ran": ("idle", made(report_jobs.idle)),
    "failed": ("broken", made(report_jobs.failed)),
    "no holdouts": ("plain", made(report_jobs.unjudged)),
    "running": ("busy", report_jobs.running),
    "hostile": (HOSTILE, made(report_jobs.hostile)),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def facts_of(kind: str, ledger: Ledger) -> Facts:
    job, make = KINDS[kind]
    with make(ledger, job):
        return gather(ledger, job, now=NOW)


def file_of(kind: str, ledger: Ledger, folder: Path) -> Path:
    file = folder / "report.html"
    write(page(facts_of(kind, ledger)), file)
    return file


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_is_accessible(kind: str, dark: bool, browser: Browser, ledger: Ledger, tmp_path: Path) -> None:  # noqa: FBT001  a parameter of the test
    """axe-core has nothing against any kind of page, contrast in both schemes included."""
    with visit(browser, file_of(kind, ledger, tmp_path), dark=dark) as seen:
        assert seen.violations() == []


def test_a_page_fits_a_phone_and_needs_nothing_else(kind: str, browser: Browser, ledger: Ledger, tmp_path: Path) -> None:
    """No sideways scrolling at 390 pixels, nothing asked of the network, nothing on the console."""
    file = file_of(kind, ledger, tmp_path)
    with visit(browser, file, size=PHONE) as seen:
        assert seen.sideways == 0
        assert [url for url in seen.requests if not url.startswith("data:")] == [file.as_uri()]
        assert seen.messages == []


def test_schemes_differ(browser: Browser, ledger: Ledger, tmp_path: Path) -> None:
    """Dark is dark: else the contrast in it was never looked at. Paper is light."""
    file = file_of("everything", ledger, tmp_path)
    background = "getComputedStyle(document.documentElement).getPropertyValue('--page')"
    with visit(browser, file) as light, visit(browser, file, dark=True) as dark:
        assert light.page.evaluate(background) != dark.page.evaluate(background)
        dark.page.emulate_media(media="print")
        assert light.page.evaluate(background) == dark.page.evaluate(background)


def test_nobodys_words_become_markup(browser: Browser, ledger: Ledger, tmp_path: Path) -> None:
    """With the page's policy taken away no script runs and no image is there; the words are on the page as they are."""
    file = file_of("hostile", ledger, tmp_path)
    with visit(browser, file, bypass_csp=True) as seen:
        assert seen.page.evaluate("window.hacked") is None
        assert seen.page.evaluate("document.querySelectorAll('img, script, [onerror]').length") == 0
        title = seen.page.inner_text("h1")
    assert title.startswith("\"'><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>{{ 7 * 7 }}\\")
    assert title.endswith("␊␀␛[31m/../🙂 数字 \ufffdabc")  # line breaks and controls are seen, and nothing is turned round


def test_the_policy_of_a_page_stops_a_script_that_got_in(browser: Browser, ledger: Ledger, tmp_path: Path) -> None:
    """Escaping is the first wall; this is the second."""
    file = file_of("never ran", ledger, tmp_path)
    file.write_text(file.read_text().replace("</main>", "<script>window.hacked = 1</script></main>"))
    with visit(browser, file) as seen:
        assert seen.page.evaluate("window.hacked") is None
        assert "Content Security Policy" in seen.messages[0]


def test_figures_are_there_and_say_what_they_show(browser: Browser, ledger: Ledger, tmp_path: Path) -> None:
    """Each has a text in place of the picture, and its line is as wide as the plot."""
    with visit(browser, file_of("everything", ledger, tmp_path)) as seen:
        figures = seen.page.get_by_role("img").all()
        labels = [figure.get_attribute("aria-label") or "" for figure in figures]
        plot = seen.page.locator("figure", has_text="Accuracy on labelled").locator("svg.plot")
        box, threshold = plot.bounding_box(), plot.locator(".threshold").bounding_box()
    assert any(label.startswith("Accuracy on labelled: 0.950 at first, 0.866 at last, 0.866 to 0.950") for label in labels)
    assert any(label.startswith("Where the time went: read 15%") for label in labels)
    assert any(label.startswith("Latency of 40 batches over the run: lowest 10.0 ms, highest 19.8 ms") for label in labels)
    assert box is not None
    assert threshold is not None
    assert threshold["width"] == pytest.approx(box["width"], abs=2)  # a line has a width too


def test_a_page_stays_small(ledger: Ledger) -> None:
    """Hundreds of runs, ten thousand batches, thousands of slices, all with long names: under a megabyte, and it says so."""
    report_jobs.big(ledger)
    text = page(gather(ledger, "big", now=NOW))
    assert len(text.encode()) < MEGABYTE
    assert f"{MOST_RUNS} runs, each on the day" in text
    assert "Older runs are in the ledger and not drawn." in text
    assert "median of 50 batches each" in text
    assert "184 more slices are not shown here." in text


def test_a_megabyte_of_reason_is_cut(ledger: Ledger) -> None:
    """And the page says how much is missing."""
    text = page(facts_of("hostile", ledger))
    assert len(text) < 200_000
    assert "more characters" in text


def judged(facts: Facts) -> Verdict:
    return verdict(facts.state, facts.clock, facts.failed_retrain)


def test_a_verdict_has_everything_that_is_wrong_the_worst_first(ledger: Ledger) -> None:
    """Breach, rejected rows and files, owed push."""
    found = judged(facts_of("everything", ledger))
    assert (found.tone, found.sentence) == ("failed", "The last run went to its end, but something is wrong.")
    assert [(finding.level, finding.sentence) for finding in found.findings] == [
        (Level.CRITICAL, "Accuracy 0.866 is below the threshold of 0.9 on holdout labelled."),
        (Level.WARNING, "23 rows of 1,033 could not be scored (nan 3, null 20)."),
        (Level.WARNING, "1 file or part was rejected whole."),
        (Level.WARNING, "The newest state has not reached its destination (never delivered); 'batchgauge push' delivers it."),
    ]
    assert found.findings[-1].detail == "connection refused by http://127.0.0.1:9091"


@pytest.mark.parametrize(
    ("kind", "tone", "sentence", "first"),
    [
        (
            "never ran",
            "failed",
            "This job has never finished a run, but something is wrong.",
            "A run is missing: it was due Sun 22 Nov 2026, 02:15 UTC, 7 h 15 min ago.",
        ),
        ("failed", "failed", "The last run failed.", "Why the last run failed:"),
        ("no holdouts", "success", "The last run succeeded, and nothing is wrong.", None),
        (
            "running",
            "failed",
            "A run is in progress, but something is wrong.",
            "The run in progress has taken 2 h 30 min, and may take 2 h.",
        ),
    ],
)
def test_verdicts(kind: str, tone: str, sentence: str, first: str | None, ledger: Ledger) -> None:
    """One sentence for the whole, and the reason for it."""
    found = judged(facts_of(kind, ledger))
    assert (found.tone, found.sentence) == (tone, sentence)
    assert (found.findings[0].sentence if found.findings else None) == first


def test_the_reason_of_a_failure_is_told_whole(ledger: Ledger) -> None:
    """A traceback has several lines."""
    assert judged(facts_of("failed", ledger)).findings[0].detail == "unexpected error:\nTraceback …\nZeroDivisionError"


def test_a_failed_run_does_not_hide_a_bad_model(ledger: Ledger) -> None:
    """The figures from before stand until there are new ones."""
    report_jobs.register(ledger, definition("job"))
    bad = replace(holdout(), accuracy=Estimate(0.5, 0.4, 0.6))
    yesterday = TONIGHT - timedelta(days=1)
    report_jobs.run_of_night(ledger, "job", yesterday, "run-1", change=partial(replace, holdouts=(bad,)))
    report_jobs.run_of_night(ledger, "job", TONIGHT, "run-2", change=partial(replace, outcome=Outcome.FAILED))
    sentences = [finding.sentence for finding in judged(gather(ledger, "job", now=NOW)).findings]
    assert sentences[:2] == ["Why the last run failed:", "Accuracy 0.5 is below the threshold of 0.9 on holdout labelled."]


def test_slices_are_judged_and_the_small_ones_stand_last(ledger: Ledger) -> None:
    """Worst first; what is too small to judge neither leads the list nor counts as a finding."""
    estimates = {"good": Estimate(0.97, 0.94, 0.99), "bad": Estimate(0.5, 0.4, 0.6), "small": Estimate(0.0, 0.0, 0.6)}
    slices = tuple(SliceReport("site", value, 100, 50, at, at, judged=value != "small") for value, at in estimates.items())
    report_jobs.register(ledger, definition("job"))
    report = replace(holdout(), slices=slices)
    report_jobs.run_of_night(ledger, "job", TONIGHT, "run-1", change=partial(replace, holdouts=(report,)))
    facts = gather(ledger, "job", now=NOW)
    rows = quality(facts).holdouts[0].first_slices
    assert [(row.value, row.tags) for row in rows] == [
        ("bad", ("surely below",)),
        ("good", ()),
        ("small", ("too small to judge",)),
    ]
    assert [finding.sentence for finding in judged(facts).findings] == [
        f"1 slice is surely below the threshold for {figure} on holdout labelled; the worst, site = bad, has 0.500 (0.40–0.60)."
        for figure in ("accuracy", "recall")
    ]


def test_history_shows_how_runs_ended_and_where_the_model_changed(ledger: Ledger) -> None:
    """Signs for failed, partial and skipped runs; a line where another version takes over."""
    told = history(facts_of("everything", ledger))
    assert [figure.caption for figure in told.figures] == [
        "Accuracy on labelled",
        "Recall on labelled",
        "Accuracy on fresh",
        "Recall on fresh",
        "Rows scored",
        "Throughput",
        "Batch latency, p95",
        "Duration",
    ]
    assert (told.marks, told.changes) == (("failed", "partial", "skipped"), True)
    rows = told.figures[4].drawing
    assert rows.count('class="bar"') == report_jobs.NIGHTS
    assert {sign: rows.count(f'class="sign {sign}"') for sign in told.marks} == {"failed": 1, "partial": 2, "skipped": 1}
    assert rows.count('class="change"') == 1
    assert "cnn-2" in rows
    assert [row.outcome for row in told.rows[:4]] == ["partial", "success", "success", "failed"]


def test_a_missed_run_is_shown_and_has_no_figures(ledger: Ledger) -> None:
    """A mark in the figures and a row in the table; no point drawn at 0, no 0 rows scored."""
    facts_of("everything", ledger)
    report = finished("missed", "digits", outcome=Outcome.MISSED, started_at=report_jobs.night_start(TONIGHT, 4))
    ledger.miss_runs("digits", [replace(report, logical_date=TONIGHT, holdouts=(), model=None)])
    facts = gather(ledger, "digits", now=NOW)
    told = history(facts)
    assert told.marks == ("failed", "missed", "partial", "skipped")
    assert all(figure.drawing.count('class="sign missed"') == 1 for figure in told.figures)
    assert told.figures[4].drawing.count('class="bar"') == report_jobs.NIGHTS
    row = told.rows[0]
    assert (row.outcome, row.took, row.scored, row.rejected) == ("missed", "–", "–", "–")
    assert f"over the last {report_jobs.NIGHTS} runs" in tiles(facts)[0].spark
    assert "missed" in page(facts)


def on(day: date, number: int = 0) -> tuple[date, float]:
    return day, report_jobs.night_start(TONIGHT) + number


def test_runs_stand_on_the_day_they_were_for() -> None:
    """Several of a day side by side, in the order in which they started."""
    day, next_day = TONIGHT, TONIGHT + timedelta(days=1)
    starts = [on(next_day, 3), on(day, 2), on(day, 1)]
    reports = [replace(finished(str(start)), logical_date=of, started_at=start) for of, start in starts]
    placed = placed_runs(reports)
    first = day.toordinal()
    assert [one.x - first for one in placed] == [0.25, 0.75, 1.5]
    assert [one.report for one in placed] == [reports[2], reports[1], reports[0]]


def test_a_run_for_a_day_long_ago_does_not_squeeze_the_others() -> None:
    """A backfill of 1999 that ran last is left out, and the nights are drawn; without regular runs the newest one is."""
    old = replace(finished("old"), logical_date=date(1999, 1, 1), started_at=report_jobs.night_start(TONIGHT, 9))
    nights = [
        replace(finished(str(age)), logical_date=TONIGHT - timedelta(days=age), started_at=report_jobs.night_start(TONIGHT))
        for age in range(5)
    ]
    assert [one.report.run_id for one in placed_runs([old, *nights])] == ["4", "3", "2", "1", "0"]
    assert [one.report.run_id for one in placed_runs([old])] == ["old"]
    assert placed_runs([]) == []


def test_batches_are_thinned_and_nothing_stands_out_unseen(tmp_path: Path) -> None:
    """A single slow batch among thousands is the highest of its stretch; every batch is in one stretch."""
    file = tmp_path / "run.parquet"
    latency = [0.01] * 5000
    latency[1234] = 7.0
    pq.write_table(pa.table({"latency_seconds": latency, "throughput_rows_per_second": [100.0] * 5000}), file)
    trace = batches.read(file)
    assert trace is not None
    assert (trace.batches, len(trace.stretches), trace.thinned) == (5000, batches.MOST, True)
    assert [one.last + 1 for one in trace.stretches[:-1]] == [one.first for one in trace.stretches[1:]]
    assert (trace.stretches[0].first, trace.stretches[-1].last) == (1, 5000)
    slow = [one for one in trace.stretches if one.latency_seconds[2] == 7.0]
    assert [(one.first <= 1235 <= one.last, one.latency_seconds[:2]) for one in slow] == [(True, (0.01, 0.01))]


def test_batch_records_that_cannot_be_read_are_told_and_the_rest_is_there(ledger: Ledger) -> None:
    """A page without its batches is better than none."""
    report_jobs.unjudged(ledger)
    file = ledger.batch_folder("plain") / "run-1.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"run-1\.parquet.*can't be read.*delete the file"):
        batches.read(file)
    for wrong in ({"latency_seconds": [1.0]}, {"latency_seconds": [None, 1.0], "throughput_rows_per_second": [1.0, 1.0]}):
        pq.write_table(pa.table(wrong), file)
        with pytest.raises(DataError, match="can't be read"):
            batches.read(file)
    file.write_bytes(b"PAR1 and then nothing")
    text = page(gather(ledger, "plain", now=NOW))
    assert "run-1.parquet: can&#39;t be read" in text
    assert "Rows scored" in text


def test_times_are_in_the_jobs_zone() -> None:
    """And in UTC, with a note, where this machine doesn't know the zone."""
    assert Clock(NOW, "Europe/Berlin").moment(NOW) == "Sun 22 Nov 2026, 10:30 CET"
    unknown = Clock(NOW, "Atlantis/Capital")
    assert (unknown.known_zone, unknown.moment(NOW)) == (False, "Sun 22 Nov 2026, 09:30 UTC")
    assert Clock(NOW, "UTC").ago(NOW + 3 * 86_400) == "in 3 days"


class Command:
    """`batchgauge` with a ledger of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "BATCHGAUGE_LEDGER": str(folder / "ledger.db")}
        self.program = str(Path(sys.executable).parent / "batchgauge")

    def __call__(self, *arguments: str | Path, shell: str = "") -> subprocess.CompletedProcess[bytes]:
        command = [self.program, *map(str, arguments)]
        command = ["/bin/bash", "-c", f'{shell} "$@"', "bash", *command] if shell else command
        return subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, timeout=100, check=False)


@pytest.fixture
def batchgauge(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def reported(tmp_path: Path) -> str:
    """A job in the command's ledger; its name needs encoding as a file."""
    with Ledger.open(tmp_path / "ledger.db") as opened:
        report_jobs.busy(opened, "a/b")
    return "a/b"


def test_a_real_run_is_reported(batchgauge: Command, tmp_path: Path) -> None:
    """By the name of its job file, into a file named after the job, with its batches and its quality."""
    job = TinyJob(tmp_path / "job")
    job.write_input("2026-11-01", 350)
    assert batchgauge("run", job.spec, "--date", "2026-11-01").returncode == 0
    done = batchgauge("report", job.spec)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"wrote tiny.html\n")
    text = (tmp_path / "tiny.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "Latency of 7 batches over the run" in text
    assert "200 labelled examples, 190 predicted right" in text


def test_a_page_goes_where_it_is_told(batchgauge: Command, reported: str, tmp_path: Path) -> None:
    """A name that no file can have is encoded; `-` is stdout, in UTF-8 whatever the terminal speaks."""
    assert batchgauge("report", reported).returncode == 0
    assert default_file(reported) == Path("a%2Fb.html")
    batchgauge.environment["PYTHONIOENCODING"] = "ascii"
    done = batchgauge("report", reported, "--output", "-")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "–" in done.stdout.decode()
    assert done.stdout.decode().splitlines()[-1] == (tmp_path / "a%2Fb.html").read_text().splitlines()[-1] == "</html>"


def test_what_cannot_be_written_is_one_error_and_the_old_page_stays(batchgauge: Command, reported: str, tmp_path: Path) -> None:
    """No job, no folder, a folder, a pipe, no room: nothing is half written and nothing is left behind."""
    unknown = batchgauge("report", "ab")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith(b"error: job 'ab' is not in the ledger")
    os.mkfifo(tmp_path / "pipe")
    page_file = tmp_path / "page.html"
    page_file.write_text("the old page")
    before = sorted(tmp_path.iterdir())
    for output, cause, shell in (
        ("absent/page.html", b"No such file or directory", ""),
        (".", b"is no regular file", ""),
        ("pipe", b"is no regular file", ""),
        ("page.html", b"File too large", "ulimit -f 64;"),
    ):
        done = batchgauge("report", reported, "--output", output, shell=shell)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith(b"error: report " + output.encode() + b": "), done.stderr
        assert cause in done.stderr
        assert b"Traceback" not in done.stderr
    assert page_file.read_text() == "the old page"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [("> /dev/full", 1, b"error: the report could not be printed: No space left"), ("| true", 0, b"")],
)
def test_stdout_that_is_full_is_an_error_and_a_reader_that_left_is_not(
    batchgauge: Command, reported: str, redirection: str, code: int, said: bytes
) -> None:
    """A script must not take half a page for a page."""
    script = f'"{batchgauge.program}" report "{reported}" -o - {redirection}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["/bin/bash", "-c", script], env=batchgauge.environment, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_link_is_written_through_and_permissions_stay(tmp_path: Path) -> None:
    """The page that a web server shows may be a link to it."""
    target, link = tmp_path / "real.html", tmp_path / "link.html"
    target.write_text("old")
    link.symlink_to(target)
    write("new", link)
    assert (target.read_text(), link.is_symlink()) == ("new", True)
    target.chmod(0o600)
    write("newer", target)
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("newer", 0o600)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(ReportError, match="loop"):
        write("new", loop)


def test_a_report_needs_no_torch(batchgauge: Command, reported: str) -> None:
    """It is for machines that look, not for those that score."""
    command = [sys.executable, "-X", "importtime", "-m", "jobs.cli", "report", reported]
    done = subprocess.run(
        command, env=batchgauge.environment, cwd=batchgauge.folder, capture_output=True, text=True, check=False
    )
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "import time" in line}
    assert done.returncode == 0, done.stderr[-2000:]
    assert "jinja2" in imported
    assert not imported & {"torch", "pandas"}
