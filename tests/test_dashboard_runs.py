"""The dashboard of those whose ledger is in PostgreSQL: its queries, asked of a real one as Grafana would ask them."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from dashboards import build, runs
from monitoring.ledger import Ledger
from pipelines.report import Outcome
from tests.postgres import Postgres
from tests.reports import definition, finished, holdout, one_run, part, run_start

FILE = build.FOLDER / build.POSTGRESQL / "runs.json"


@pytest.fixture
def location(postgres: Postgres) -> str:
    """A ledger with a run that ended well, one that failed, and one in progress, of two jobs."""
    location = postgres.new_database()
    with Ledger.open(location) as ledger:
        for job in ("digits", "it's"):
            ledger.register(definition(job), now=1.0, next_expected_at=None)
        parts = (part(rows=100),)
        one_run(ledger, finished("run-1", "digits", parts=parts, holdouts=(holdout(),), started_at=10.0), parts)
        one_run(ledger, finished("run-2", "it's", outcome=Outcome.FAILED, started_at=20.5), ())
        ledger.start_run(run_start("run-3", "digits", 30.0), next_expected_at=None)
    return location


def asked(location: str, sql: str, *, jobs: str = "'digits','it''s'", since: int = 0) -> list[dict[str, Any]]:
    """With what Grafana puts in place of its macro and variable."""
    sql = sql.replace("$__unixEpochFilter(started_at)", f"started_at >= {since} AND started_at <= 2000000000")
    sql = sql.replace("${job:sqlstring}", jobs)
    assert "$" not in sql
    with psycopg.connect(location, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(sql.encode()).fetchall()


def test_every_run_is_a_row(location: str) -> None:
    """The newest first, with what is known of it."""
    (panel,) = json.loads(FILE.read_text(encoding="utf-8"))["panels"]
    (target,) = panel["targets"]
    going, failed, good = asked(location, target["rawSql"])
    assert [row["Job"] for row in (going, failed, good)] == ["digits", "it's", "digits"]
    assert [row["Outcome"] for row in (going, failed, good)] == ["running", "failed", "success"]
    report = finished("run-1", "digits", parts=(part(rows=100),), holdouts=(holdout(),), started_at=10.0)
    assert (good["Rows"], good["Rejected"], good["Host"], good["Model"]) == (100, 0, report.host, "2026-11-22")
    assert good["Rows a second"] == report.throughput_rows_per_second
    assert (good["Accuracy"], good["Recall"]) == (0.95, 0.94)
    assert (good["From"], good["To"]) == ("10000", str(round(report.finished_at * 1000)))
    assert (going["Took"], going["To"], failed["From"], failed["Accuracy"]) == (None, "now", "20500", None)


def test_it_shows_the_chosen_jobs_in_the_time_range(location: str) -> None:
    """And lists those that can be chosen."""
    assert [row["Job"] for row in asked(location, runs.SQL, jobs="'it''s'")] == ["it's"]
    assert [row["Outcome"] for row in asked(location, runs.SQL, since=25)] == ["running"]
    assert [row["job"] for row in asked(location, runs.JOBS)] == ["digits", "it's"]


def test_a_report_of_any_text_hides_no_run(location: str) -> None:
    """PostgreSQL's `jsonb` would refuse the whole query for a NUL in a slice's name."""
    with Ledger.open(location) as ledger:
        one_run(ledger, finished("run-4", "it's", outcome=Outcome.FAILED, started_at=40.0), ())
    with psycopg.connect(location) as connection:
        connection.execute("UPDATE runs SET report = replace(report, '\"scanner\"', '\"\\u0000\"') WHERE report IS NOT NULL")
    assert len(asked(location, runs.SQL)) == 4


def test_every_column_with_a_look_is_there(location: str) -> None:
    """A column that was renamed would lose it in silence."""
    (panel,) = json.loads(FILE.read_text(encoding="utf-8"))["panels"]
    looked = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
    assert looked <= asked(location, runs.SQL)[0].keys()
    assert "${__data.fields.From}" in json.dumps(panel)
