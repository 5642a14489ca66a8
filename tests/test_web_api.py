"""What programs look at: real answers over HTTP, held against the description that is served with them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from jobs.retrain.alerts import parse
from jobs.web.queries import MOST_RUNS
from jobs.web.routes import looking_routes
from monitoring.ledger import Ledger
from pipelines.report import Outcome
from tests import report_jobs
from tests.report_jobs import HOSTILE, NOW
from tests.reports import definition, run_start
from tests.web_world import NAMES, SLASHED, World, busy_night, hostile_world


class Client:
    """Asks, and holds every answer against `/openapi.json`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.description: dict[str, Any] = httpx.get(f"{url}/openapi.json").raise_for_status().json()

    def get(self, path: str, *, status: int = 200, of: str | None = None) -> Any:
        """The document at `path`; `of` is the path in the description, if it is another."""
        answer = httpx.get(self.url + path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text[:500]
        document = answer.json()
        described = self.description["paths"][of or path.partition("?")[0]]["get"]["responses"][str(status)]
        self.validator(described["content"]["application/json"]["schema"]).validate(document)
        return document

    def validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        """Of a schema that refers to the components."""
        return Draft202012Validator(schema | {"components": self.description["components"]})

    def job(self, name: str, *, status: int = 200) -> Any:
        """The document about a job, or the error."""
        document = self.get(f"/api/jobs/{quote(name, safe='')}", status=status, of="/api/jobs/{job}")
        return document["job"] if status == 200 else document["error"]

    def error(self, path: str, *, status: int) -> str:
        """Why there was no answer."""
        document = self.get(path, status=status)
        assert list(document) == ["error"]
        return str(document["error"])


@pytest.fixture
def night(ledger: Ledger) -> Iterator[Client]:
    """A night on which much goes wrong."""
    with busy_night(ledger) as world, world.served() as url:
        yield Client(url)


@pytest.fixture
def empty(ledger: Ledger) -> Iterator[Client]:
    """No jobs."""
    with World(ledger).served() as url:
        yield Client(url)


# Jobs.


def test_all_jobs_are_told_by_name(night: Client, ledger: Ledger) -> None:
    """Whoever schedules them, in whatever state they are."""
    document = night.get("/api/jobs")
    told = {job["job"]: job for job in document["jobs"]}
    assert list(told) == sorted(ledger.jobs())
    assert document["at"] == NOW
    assert {name: job["state"] for name, job in told.items()} == {
        "ads-conversion": "failed",
        "adhoc-export": "success",
        "basket": "success",
        "busy": "running",
        "credit-limit": "success",
        "digits": "partial",
        SLASHED: "partial",
        "fraud": "running",
        "monthly-close": "missed",
        "new-job": "idle",
    }


def test_one_job_is_told_as_it_is_among_all(night: Client) -> None:
    """The same document, so a program needs to know one."""
    told = {job["job"]: job for job in night.get("/api/jobs")["jobs"]}
    for name, job in told.items():
        assert night.job(name) == job


def test_a_job_is_told_with_its_figures(night: Client) -> None:
    """Quality with its bounds and limits, the latest run, the push, and what is wrong, the worst first."""
    job = night.job("digits")
    quality = {judged["holdout"]: judged for judged in job["quality"]}
    assert quality["labelled"]["accuracy"] == pytest.approx({"value": 0.866, "lower": 0.8455, "upper": 0.8807})
    assert job["thresholds"] == {"latency_seconds": 1.0, "accuracy": 0.9, "recall": 0.85}
    assert job["push"] == {"owed": True, "pushed_at": None, "error": "connection refused by http://127.0.0.1:9091"}
    latest = job["latest"]
    assert (latest["outcome"], latest["rows_scored"], latest["rows_rejected"]) == ("partial", 1010, 23)
    assert latest["throughput_rows_per_second"] == pytest.approx(1010 / 80)
    assert job["concerns"][0]["level"] == "critical"
    assert job["next_due_at"] == report_jobs.night_start(report_jobs.TONIGHT, 26.25)


def test_what_the_scheduler_does_with_a_job_is_told(night: Client) -> None:
    """Running, waiting, retraining, a file that is broken."""
    busy = night.job("busy")
    assert busy["running"] == {
        "run_id": "run-0",
        "pid": 4711,
        "due_at": NOW - 9060,
        "started_at": NOW - 9000,
        "rows_read": 34000,
        "rows_scored": 34000,
        "rows_rejected": 0,
    }
    assert busy["file_error"].startswith("/etc/batchgauge/jobs/busy.toml: [batch] rows")
    assert night.job("fraud")["running"]["run_id"] is None
    assert night.job("basket")["waiting"] == {"place": 1, "due_at": NOW - 300}
    assert night.job("credit-limit")["retraining"] == {"job": "credit-limit", "pid": 4713, "since": NOW - 1260, "waits": False}
    assert (night.job("adhoc-export")["scheduled"], night.job("adhoc-export")["next_due_at"]) == (False, None)


def test_a_job_of_any_name_has_an_address(ledger: Ledger) -> None:
    """Slashes, quotes, line breaks, controls: percent-encoded they are a name, and no path."""
    for name in NAMES:
        report_jobs.register(ledger, definition(name))
    with World(ledger).served() as url:
        client = Client(url)
        assert [client.job(name)["job"] for name in NAMES] == list(NAMES)
        assert [job["job"] for job in client.get("/api/jobs")["jobs"]] == sorted(NAMES)
        for name in NAMES:
            assert client.get(f"/api/runs?job={quote(name, safe='')}") == {"runs": []}


# Runs.


def test_runs_of_all_jobs_are_told_the_newest_first(night: Client, ledger: Ledger) -> None:
    """With their figures, and without slices, of which there may be hundreds."""
    runs = night.get("/api/runs?limit=200")["runs"]
    assert [run["run_id"] for run in runs] == [run.run_id for run in ledger.latest_runs(limit=200)]
    assert {run["job"] for run in runs} == set(ledger.jobs()) - {"new-job"}
    assert len(night.get("/api/runs")["runs"]) == 50
    assert "slices" not in json.dumps(runs)


def test_runs_are_chosen(night: Client) -> None:
    """By job, by outcome, by both."""
    runs = night.get(f"/api/runs?job={quote(SLASHED, safe='')}&outcome=partial")["runs"]
    assert [(run["job"], run["outcome"], run["warnings"]) for run in runs] == [(SLASHED, "partial", 1)]
    running = night.get("/api/runs?outcome=running")["runs"]
    assert [(run["job"], run["run_id"], run["rows_scored"], run["finished_at"]) for run in running] == [
        ("busy", "run-0", 34000, None)
    ]
    missed = night.get("/api/runs?outcome=missed")["runs"]
    assert [run["run_id"] for run in missed] == ["missed-1", "missed-2"]


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("limit=abc", 400, "limit: Input should be a valid integer, unable to parse string as an integer, but it was 'abc'"),
        ("limit=0", 400, "limit: Input should be greater than or equal to 1, but it was '0'"),
        (
            f"limit={MOST_RUNS + 1}",
            400,
            f"limit: Input should be less than or equal to {MOST_RUNS}, but it was '{MOST_RUNS + 1}'",
        ),
        (
            "outcome=bad",
            400,
            "outcome: Input should be 'running', 'success', 'partial', 'failed', 'skipped' or 'missed', but it was 'bad'",
        ),
        ("limt=1", 400, "unknown parameter 'limt'; known: job, limit, outcome"),
        ("limit=1&limit=2", 400, "a parameter is given twice; give each once"),
        ("job=digit", 404, "no job 'digit' is in the ledger; /api/jobs has all that are"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_error(query: str, status: int, error: str, night: Client) -> None:
    """It names the parameter, what it was and what is allowed."""
    assert night.error(f"/api/runs?{query}", status=status) == error


@pytest.mark.parametrize("query", ["limit=", "outcome=", "job=", ""])
def test_an_error_repeats_little_of_what_was_asked(query: str, empty: Client) -> None:
    """Nobody writes a page with our name on it by a long address."""
    name = "x" * 9000
    error = empty.error(f"/api/runs?{query}{name}", status=404 if query == "job=" else 400)
    assert len(error) < 250
    assert "x" * 41 not in error


def test_no_such_job_is_an_error(empty: Client) -> None:
    """Also for a name that is markup, or longer than any."""
    assert empty.job("<b>no</b>", status=404) == "no job '<b>no</b>' is in the ledger; /api/jobs has all that are"
    assert len(empty.job("y" * 9000, status=404)) < 250


@pytest.mark.parametrize("path", ["/api/jobs", "/api/scheduler"])
def test_what_takes_no_parameter_says_so(path: str, empty: Client) -> None:
    """A filter that is silently left out would be believed."""
    assert empty.error(f"{path}?state=failed", status=400) == "unknown parameter 'state'; known: none here"


# The scheduler.


def test_the_scheduler_is_told(night: Client) -> None:
    """What runs, the queue in its order, what went wrong with files."""
    told = night.get("/api/scheduler")
    assert [job["job"] for job in told["waiting"]] == ["basket", SLASHED]
    assert [(job["job"], job["pid"]) for job in told["running"]] == [("busy", 4711), ("fraud", 4712)]
    assert [broken["running"] for broken in told["broken"]] == [True, False]
    assert (told["ready"], told["jobs"], told["max_running"], told["runs_started"], told["runs_missed"]) == (True, 9, 4, 42, 1)
    assert told["sync"] == {"last_good_at": NOW - 12, "failures": 0}


def test_other_peoples_words_are_cut(ledger: Ledger) -> None:
    """A reason of a megabyte does not make a document of a megabyte."""
    with hostile_world(ledger).served() as url:
        client = Client(url)
        reason = client.job(HOSTILE)["latest"]["reason"]
        assert reason.startswith(HOSTILE)
        assert reason.endswith("more characters")
        told = client.get("/api/scheduler")
        for words in (told["trouble"], told["broken"][0]["error"], told["missed"][0]["reason"]):
            assert words.endswith("more characters")
        for path in ("/api/jobs", "/api/runs", "/api/scheduler"):
            assert len(json.dumps(client.get(path))) < 30_000


def test_a_ledger_that_cannot_be_read_is_503(ledger: Ledger) -> None:
    """What is known no more must not pass for what is. The scheduler's own state is known still."""
    report_jobs.register(ledger, definition("job"))
    with World(ledger).served() as url:
        client = Client(url)
        client.get("/api/jobs")
        with closing(sqlite3.connect(ledger.location)) as connection, connection:
            connection.execute("ALTER TABLE jobs RENAME TO lost")
        assert "no such table: jobs" in client.job("job", status=503)
        assert "no such table: jobs" in client.error("/api/runs?job=job", status=503)
        assert client.get("/api/scheduler")["ready"] is True


def test_nothing_that_is_looked_at_writes(night: Client, ledger: Ledger) -> None:
    """A scraper must not be able to change anything, not even to settle the dead."""
    report_jobs.register(ledger, definition("dead"))
    ledger.start_run(run_start("run-dead", "dead", NOW - 60), next_expected_at=None)
    before = ledger.revisions()
    for path in ("/", "/api/jobs", "/api/runs", "/api/scheduler", "/jobs/digits", "/jobs/dead"):
        assert httpx.get(night.url + path).status_code == 200
        assert httpx.post(night.url + path).status_code == 405
    assert ledger.revisions() == before


# The description.


def test_the_description_is_sound(empty: Client) -> None:
    """Every schema is one, and whatever is referred to is there."""
    description = empty.description
    schemas = description["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    references = {text for text in _strings(description) if text.startswith("#/")}
    assert references == {f"#/components/schemas/{name}" for name in schemas}
    assert description["openapi"] == "3.1.0"


def _strings(value: Any) -> Iterator[str]:
    """All strings in a document, but for keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def test_every_endpoint_is_described(ledger: Ledger, empty: Client) -> None:
    """And nothing else, but for what other modules serve."""
    world = World(ledger)
    served = {
        route.path.replace(":job_name", "") for route in looking_routes(world.board(), ledger) if isinstance(route, Route)
    }
    elsewhere = {"/healthz", "/readyz", "/metrics", "/alerts"}
    assert set(empty.description["paths"]) == {path for path in served if path.startswith("/api/")} | elsewhere


def test_outcomes_that_may_be_asked_for_are_all_there_are(empty: Client) -> None:
    """A new one must not be forgotten here."""
    parameters = {one["name"]: one["schema"] for one in empty.description["paths"]["/api/runs"]["get"]["parameters"]}
    assert set(parameters["outcome"]["enum"]) == {"running", *Outcome}
    assert (parameters["limit"]["maximum"], parameters["limit"]["default"]) == (MOST_RUNS, 50)


def test_the_example_of_an_alert_is_one(empty: Client) -> None:
    """It can be sent as it stands."""
    operation = empty.description["paths"]["/alerts"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    empty.validator(content["schema"]).validate(content["example"])
    assert parse(json.dumps(content["example"]).encode()).alerts[0].labels["job"] == "digits"
    assert operation["security"] == [{"alerts": []}]
    assert set(operation["responses"]) >= {"200", "400", "401", "403", "408", "413"}


def test_to_be_ready_to_look_imports_nothing_heavy() -> None:
    """The scheduler serves all this from its start; pyarrow comes when the first report is asked for."""
    command = [sys.executable, "-X", "importtime", "-c", "import jobs.web.routes"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "starlette" in imported
    assert not imported & {"torch", "pandas", "pyarrow", "numpy"}
