"""The ledger's table of parts when it has grown: its size, and what a commit and the start of a run take then.

Rows that are only in the way are put there by one statement; what is timed goes by way of the ledger, as a run's does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from sqlalchemy import Engine, NullPool, create_engine, text

from benchmarks import known_jobs
from monitoring.ledger import Ledger
from pipelines.report import PartReport
from tests import reports
from tests.postgres import Postgres

ROWS = (10_000, 100_000, 1_000_000)
_OWN = 1_000
_AT_ONCE, _COMMITS = 32, 20
_JOBS, _NIGHT_PARTS = 100, 1_000
_JOB, _RUN, _TONIGHT = "tonight", "tonight's run", "/scored/tonight/2026-11-27"
_FILL = """
WITH RECURSIVE numbers(number) AS (SELECT {first} UNION ALL SELECT number + 1 FROM numbers WHERE number + 1 < {end})
INSERT INTO parts (job, output, folder, name, source, fingerprint, model, rows_scored, run_id)
SELECT {job}, {folder} || '/rows-' || number || '-' || number || '.parquet', {folder}, 'rows-' || number || '-' || number
|| '.parquet', '/data/' || {job} || '/rows.parquet', '{fingerprint}', '{fingerprint}', 131072, 'a run of before' FROM numbers
"""
_WHOSE = {
    "other jobs": (
        f"'job ' || (number % {_JOBS})",
        f"'/scored/job-' || (number % {_JOBS}) || '/' || (number / {_NIGHT_PARTS})",
    ),
    "the job's, other nights": (f"'{_JOB}'", f"'/scored/{_JOB}/' || (number / {_NIGHT_PARTS})"),
    "the job's, the same folder": (f"'{_JOB}'", f"'{_TONIGHT}'"),
}
"""Of whom the rows are that are there: their job and their folder, as SQL of the row's `number`."""


@dataclass(frozen=True, slots=True)
class Grown:
    """Beside so many rows `of` somebody's. `own`: parts in tonight's folder; `bytes`: of the table, or of SQLite's file.

    `commit_seconds`: 32 more parts, the median. `start_seconds`: whose the folder is, and its parts; `drop_seconds`: to forget
    a thousand of them, as before they are scored again.
    """

    ledger: str
    of: str
    rows: int
    own: int
    bytes: int
    commit_seconds: float
    start_seconds: float
    drop_seconds: float


def grown(sizes: Sequence[int] = ROWS) -> list[Grown]:
    """On SQLite and on PostgreSQL, for rows of each kind; sizes rise."""
    found: list[Grown] = []
    with TemporaryDirectory() as folder, Postgres(fsync="on", synchronous_commit="on", full_page_writes="on") as server:
        for number, of in enumerate(_WHOSE):
            for name, location in (("SQLite", f"{folder}/{number}.db"), ("PostgreSQL", server.new_database())):
                found += _on_one(name, location, of, sizes)
    return found


def _on_one(name: str, location: str, of: str, sizes: Sequence[int]) -> Iterator[Grown]:
    with Ledger.open(location) as ledger:
        known_jobs.add(ledger, _JOB)
        ledger.start_run(reports.run_start(_RUN, _JOB), next_expected_at=None)
        ledger.add_parts(_RUN, _JOB, _tonight(0, _OWN))
    there, database = 0, _database(name, location)
    for size in sizes:
        _fill(database, of, there, size)
        there = size
        with Ledger.open(location) as ledger:
            commits = [_commit(ledger, number) for number in range(_COMMITS)]
            started = perf_counter()
            ledger.other_owner(_JOB, _TONIGHT)
            own = ledger.committed_parts(_JOB, _TONIGHT)
            start_seconds = perf_counter() - started
            started = perf_counter()
            ledger.drop_parts(_JOB, [part.output for part in _tonight(0, _OWN)])
            drop_seconds = perf_counter() - started
            ledger.add_parts(_RUN, _JOB, _tonight(0, _OWN))
        yield Grown(name, of, size, len(own), _bytes(database), median(commits), start_seconds, drop_seconds)


def _tonight(first: int, parts: int) -> list[PartReport]:
    named = (reports.part(f"new-{number}-{number}.parquet") for number in range(first, first + parts))
    return [replace(part, output=f"{_TONIGHT}/{part.name}", fingerprint="f" * 64, model="m" * 64) for part in named]


def _database(name: str, location: str) -> Engine:
    """The ledger's, beside the ledger."""
    location = f"sqlite:///{location}" if name == "SQLite" else location.replace("postgresql://", "postgresql+psycopg://")
    return create_engine(location, poolclass=NullPool)


def _fill(database: Engine, of: str, first: int, end: int) -> None:
    """Put the rows there, and have the database know how many there are, as it does in time."""
    job, folder = _WHOSE[of]
    with database.begin() as connection:
        connection.execute(text(_FILL.format(job=job, folder=folder, first=first, end=end, fingerprint="f" * 64)))
        if database.dialect.name == "postgresql":
            connection.execute(text("ANALYZE parts"))


def _commit(ledger: Ledger, number: int) -> float:
    more = _tonight(_OWN + number * _AT_ONCE, _AT_ONCE)
    started = perf_counter()
    ledger.add_parts(_RUN, _JOB, more)
    return perf_counter() - started


def _bytes(database: Engine) -> int:
    """What the table takes: in PostgreSQL with its indexes, in SQLite (whose log is empty when nobody has it open) the file."""
    if database.dialect.name == "sqlite":
        return Path(database.url.database or "").stat().st_size
    with database.connect() as connection:
        return int(connection.execute(text("SELECT pg_total_relation_size('parts')")).scalar_one())


def table(found: Sequence[Grown]) -> str:
    """As Markdown."""
    lines = [
        "| ledger | rows of | rows there | its size | 32 more parts | start of a run | of so many parts | forget 1,000 |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {one.ledger} | {one.of} | {one.rows:,} | {one.bytes / 1e6:,.0f} MB | {one.commit_seconds * 1e3:.1f} ms "
            f"| {one.start_seconds * 1e3:,.0f} ms | {one.own:,} | {one.drop_seconds * 1e3:.0f} ms |"
            for one in found
        ),
    ]
    return "\n".join(lines)
