"""Runs, a real Pushgateway, a real Prometheus: what a person asks is what happened."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest

from dashboards.queries import QUERIES, Query
from jobs.delivery import register_job
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.reference import README
from jobs.request import RunRequest, RunResult
from jobs.run import run
from jobs.spec import load
from monitoring import servers
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from monitoring.servers import Server
from pipelines.cancellation import Cancellation
from pipelines.report import Outcome, PartReport
from tests.conftest import poll
from tests.queries import scraped, vector
from tests.tiny_job import TinyJob

NIGHT = date(2026, 11, 1)
LONG = 'schedule = "15 2 * * *"'


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    return TinyJob(tmp_path / "job")


def environment(tmp_path: Path, gateway: Server) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db"), "BATCHGAUGE_GATEWAY": gateway.url})


def go(job: TinyJob, where: Environment, night: date, observer: Silent | None = None) -> RunResult:
    request = RunRequest(load(job.spec), where, logical_date=night)
    return run(request, observer=observer or Silent(), cancellation=Cancellation())


def test_prometheus_accounts_for_every_row_of_three_runs(
    job: TinyJob, tmp_path: Path, pushgateway: Server, prometheus: Server
) -> None:
    """1,000 + 1,500 + 1,500 rows after registering; then the main queries have answers."""
    where = environment(tmp_path, pushgateway)
    with Ledger.open(where.ledger) as ledger:
        assert register_job(ledger, load(job.spec), where).error is None
    requests = 'inference_requests_total{job="tiny"}'
    poll(lambda: scraped(prometheus, requests) == {(): "0"})
    for age, rows in enumerate((1000, 1500, 1500)):
        night = NIGHT + timedelta(days=age)
        job.write_input(night.isoformat(), rows)
        assert go(job, where, night).delivery is not None
    poll(lambda: scraped(prometheus, requests) == {(): "4000"})
    # The difference of the samples is exact. increase() extrapolates it to the window's ends, by up to one interval of
    # scraping on either side: a fifth and more while there are few samples, less with each that arrives.
    (first,) = vector(prometheus, f"min_over_time({requests}[5m])")
    assert first["value"][1] == "0"
    increase = f"increase({requests}[5m])"
    poll(lambda: float(scraped(prometheus, increase)[()]) == pytest.approx(4000, rel=0.2))
    for query in QUERIES:
        answered(prometheus, query)
    assert scraped(prometheus, 'model_accuracy{job="tiny"}', "holdout") == {("labelled",): "0.95"}


def answered(prometheus: Server, query: Query) -> None:
    """Wait for an answer; a comparison answers nothing when nothing is wrong, so there Prometheus must only accept it."""
    compares = " < " in query.expression or " > " in query.expression
    poll(lambda: vector(prometheus, query.expression) or compares)


def test_the_queries_in_the_readme_are_those_that_are_tested() -> None:
    """Nobody pastes a query that was never run."""
    text = README.read_text(encoding="utf-8")
    assert [query.question for query in QUERIES if f"| {query.question} | `{query.expression}` |" not in text] == []


class DoAtPart(Silent):
    """Does something once, when a part is done."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self._left = number
        self._action = action

    def part(self, report: PartReport) -> None:
        """Count down."""
        del report
        self._left -= 1
        if self._left == 0:
            self._action()


def test_a_gateway_that_stops_during_a_run_changes_nothing_but_the_push(job: TinyJob, tmp_path: Path) -> None:
    """The run succeeds and says that the push is owed; one command delivers all of it to a gateway that knows nothing."""
    job.edit({LONG: f"{LONG}\n", "[thresholds]": '[push]\nevery = "1s"\ntimeout = "2s"\n\n[thresholds]'})
    job.write_input(NIGHT.isoformat(), 1000)
    with servers.pushgateway() as gateway:
        where = environment(tmp_path, gateway)
        result = go(job, where, NIGHT, DoAtPart(3, gateway.stop))
    assert result.report.outcome is Outcome.SUCCESS
    assert result.delivery is None
    assert gateway.url in (result.push_error or "")
    assert len(job.output(NIGHT.isoformat())) == 1000
    with servers.pushgateway() as fresh:
        done = batchgauge("push", ledger=where.ledger, gateway=fresh)
        assert done.returncode == 0, done.stderr
        assert 'inference_requests_total{instance="",job="tiny"} 1000' in metrics(fresh)
        assert 'batch_run_state{instance="",job="tiny",state="success"} 1' in metrics(fresh)
    with Ledger.open(where.ledger) as ledger:
        assert not ledger.state("tiny").owed


def test_the_command_says_plainly_that_a_push_is_owed_and_exits_0(job: TinyJob, tmp_path: Path) -> None:
    """An unreachable gateway is not the job's failure."""
    job.edit({"[thresholds]": '[push]\ngateway = "http://127.0.0.1:9"\ntimeout = "1s"\n\n[thresholds]'})
    job.write_input(NIGHT.isoformat(), 100)
    done = batchgauge("run", job.spec, "--date", NIGHT.isoformat(), ledger=tmp_path / "ledger.db")
    assert done.returncode == 0, done.stderr
    assert "push owed" in done.stdout
    assert "http://127.0.0.1:9" in done.stdout
    assert "'batchgauge push' delivers it" in done.stdout


def test_a_run_in_progress_is_seen_and_sigterm_ends_it_cleanly(job: TinyJob, tmp_path: Path, pushgateway: Server) -> None:
    """The gateway shows it running while it runs; stopped by SIGTERM it exits 143, recorded and pushed."""
    job.edit({"[thresholds]": '[push]\nevery = "1s"\n\n[thresholds]'})
    job.slow_down(seconds_for_each_batch=0.02)
    job.write_input(NIGHT.isoformat(), 200_000)
    command = [sys.executable, "-m", "jobs.cli", "run", str(job.spec), "--date", NIGHT.isoformat(), "--json"]
    variables = {"BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db"), "BATCHGAUGE_GATEWAY": pushgateway.url}
    with subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True) as process:
        running = 'batch_run_state{instance="",job="tiny",state="running"} 1'
        poll(lambda: running in metrics(pushgateway))
        poll(lambda: 'disposition="scored",instance="",job="tiny"} 0' not in metrics(pushgateway))
        process.terminate()
        assert process.wait(30) == 143
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        state = ledger.state("tiny")
    assert state.latest is not None
    assert (state.latest.outcome, state.latest.reason) == (Outcome.FAILED, "stopped by SIGTERM")
    assert len(job.output(NIGHT.isoformat())) == state.counters["inference_requests_total", ()] > 0
    assert 'batch_run_state{instance="",job="tiny",state="failed"} 1' in metrics(pushgateway)


def test_what_is_in_the_gateway_is_clean_for_promtool(job: TinyJob, tmp_path: Path, pushgateway: Server) -> None:
    """`promtool check metrics` has nothing to say about a real run's state."""
    job.write_input(NIGHT.isoformat(), 300)
    assert go(job, environment(tmp_path, pushgateway), NIGHT).delivery is not None
    pushed = "".join(
        line + "\n"
        for line in metrics(pushgateway).splitlines()
        if not line.split()[2 if line.startswith("#") else 0].startswith(("go_", "process_", "pushgateway_", "push_"))
    )
    assert "model_accuracy" in pushed
    promtool = servers.find("promtool")
    done = subprocess.run([promtool, "check", "metrics"], input=pushed, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_job_name_of_any_characters_survives(job: TinyJob, tmp_path: Path, pushgateway: Server) -> None:
    """Slashes, quotes, a newline, emoji: what comes back from the gateway is what went in."""
    name = 'nightly/fraud "ä" \\ 🚀\n漢字'
    job.edit({'name = "tiny"': f"name = {toml(name)}"})
    job.write_input(NIGHT.isoformat(), 100)
    result = go(job, environment(tmp_path, pushgateway), NIGHT)
    assert result.delivery is not None, result.push_error
    assert [group.labels["job"] for group in Gateway(pushgateway.url).groups()] == [name]


def toml(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def metrics(gateway: Server) -> str:
    """What Prometheus would scrape."""
    return httpx.get(f"{gateway.url}/metrics", trust_env=False).text


def batchgauge(*arguments: str | Path, ledger: str | Path, gateway: Server | None = None) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    variables = {"BATCHGAUGE_LEDGER": str(ledger)} | ({"BATCHGAUGE_GATEWAY": gateway.url} if gateway else {})
    command = [str(Path(sys.executable).parent / "batchgauge"), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=100, check=False)
