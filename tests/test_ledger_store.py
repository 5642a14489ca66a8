"""Opening the ledger, what can be wrong with it, and its locks."""

from __future__ import annotations

import resource
import signal
import sqlite3
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from monitoring import names
from monitoring.ledger import Ledger, schema, sqlite
from pipelines.errors import LedgerError
from tests.reports import JOB, definition, finished, holdout, one_run, part, run_start

REQUESTS = (names.REQUESTS.name, ())
BUCKET = f"{names.BATCH_LATENCY.name}_bucket"


def add_parts(ledger: Ledger, count: int) -> None:
    for number in range(count):
        ledger.add_parts("run-1", JOB, [part(f"{number}.parquet")])


def registered(ledger: Ledger) -> Ledger:
    ledger.register(definition(), now=1.0, next_expected_at=1000.0)
    return ledger


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    """Older code must not write what it doesn't understand."""
    location = tmp_path / "ledger.db"
    Ledger.open(location).close()
    with sqlite3.connect(location) as connection:
        connection.execute("UPDATE batchgauge_ledger SET version = 99")
    connection.close()
    with pytest.raises(LedgerError, match=f"{location} has schema version 99.*upgrade batchgauge"):
        Ledger.open(location)


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    """Text, somebody else's database, a folder: refused by name, and not touched."""
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all, but long enough to be looked at" * 20)
    content = text.read_bytes()
    with pytest.raises(LedgerError, match=r"notes\.txt: it is not a ledger"):
        Ledger.open(text)
    assert text.read_bytes() == content
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(LedgerError, match=r"other\.db is a database, but not a ledger"):
        Ledger.open(other)
    with pytest.raises(LedgerError, match="can't be opened; check that it is a file"):
        Ledger.open(tmp_path)
    with pytest.raises(LedgerError, match="its folder can't be made"):
        Ledger.open(text / "ledger.db")


def test_a_damaged_ledger_is_said_to_be_damaged(tmp_path: Path) -> None:
    """With what to do about it."""
    location = tmp_path / "ledger.db"
    with Ledger.open(location) as ledger:
        for number in range(20):
            ledger.register(definition(f"job-{number}"), now=1.0, next_expected_at=None)
    content = bytearray(location.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    location.write_bytes(content)
    with (
        pytest.raises(LedgerError, match=f"{location}: it is damaged; restore it from a backup"),
        Ledger.open(location) as ledger,
    ):
        [ledger.state(job) for job in ledger.jobs()]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE runs SET outcome = 'splendid'",
        "UPDATE runs SET trigger = ''",
        "UPDATE runs SET logical_date = '2026-13-01'",
        "UPDATE runs SET rows_read = 'many'",
        "UPDATE runs SET started_at = x'00'",
        "UPDATE counters SET labels = '{}' WHERE name = 'inference_requests_total'",
        "UPDATE counters SET labels = '[]' WHERE labels = '[\"inf\"]'",
        "UPDATE counters SET value = 'x'",
        "UPDATE quality SET logical_date = 'today'",
        "UPDATE jobs SET sequence = 1.5",
    ],
)
def test_a_value_that_nobody_wrote_is_damage(damage: str, ledger: Ledger) -> None:
    """Said as such, with the file, by whoever reads it."""
    registered(ledger)
    one_run(ledger, finished(), ())
    ledger.start_run(run_start("run-2"), next_expected_at=None)
    with sqlite3.connect(ledger.location) as connection:
        connection.execute("INSERT OR IGNORE INTO quality VALUES ('digits', 'labelled', '2026-01-01', '{}')")
        connection.execute(damage)
    connection.close()
    with pytest.raises(LedgerError, match=rf"{ledger.location}: it is damaged|can't be read back from the ledger"):
        read_all(ledger)


def read_all(ledger: Ledger) -> None:
    ledger.runs(JOB)
    ledger.state(JOB)
    ledger.finish_run(finished("run-2", holdouts=(holdout(),)))


def test_a_ledger_held_by_another_process_is_said_to_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the busy time-out (shortened here), naming the file."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        holder = sqlite3.connect(tmp_path / "ledger.db")
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"ledger\.db: another process has held it"):
            registered(ledger)
        holder.rollback()
        registered(ledger)
        holder.close()


def test_a_ledger_that_was_deleted_takes_nothing_more(ledger: Ledger) -> None:
    """The system would let it write on, to a file that nobody will ever read."""
    registered(ledger)
    Path(ledger.location).unlink()
    with pytest.raises(LedgerError, match="the file was deleted, moved or replaced"):
        ledger.start_run(run_start(), next_expected_at=None)


def test_a_full_disk_loses_nothing_that_was_committed(ledger: Ledger) -> None:
    """A limit on the size of files stands in for the disk; what didn't fit left no trace, and fits later."""
    registered(ledger).start_run(run_start(), next_expected_at=None)
    unlimited, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, unlimited[1]))
        with pytest.raises(LedgerError, match=r"check the disk|disk is full"):
            add_parts(ledger, 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, handler)
    committed = len(ledger.committed_parts(JOB, "/scored"))
    assert committed > 0
    assert ledger.state(JOB).counters[REQUESTS] == 100 * committed
    ledger.add_parts("run-1", JOB, [part("last.parquet")])
    assert ledger.state(JOB).counters[REQUESTS] == 100 * (committed + 1)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("mysql://user:hunter2@host/db", r"mysql://user:\*\*\*@host/db: only SQLite and PostgreSQL are supported"),
        ("postgresql://user:hunter2@host", "names no database"),
        ("postgres://user:hunter2@127.0.0.1:1/db", r"postgresql://user:\*\*\*@127.0.0.1:1/db: nobody listens there"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("://", "can't be understood"),
        ("nonsense://user:hunter2@[::1/db", "can't be understood"),
        ("", "location is empty"),
    ],
)
def test_a_location_that_cannot_be_is_refused(location: str, message: str) -> None:
    """Without a password in the message."""
    with pytest.raises(LedgerError, match=message) as caught:
        Ledger.open(location)
    assert "hunter2" not in str(caught.value)


def test_a_url_and_a_path_are_the_same_ledger(tmp_path: Path) -> None:
    """And its folder is where locks and records of batches go."""
    location = tmp_path / "deep" / "er" / "ledger.db"
    with Ledger.open(f"sqlite:///{location}") as ledger:
        registered(ledger)
        assert (ledger.location, ledger.folder) == (str(location), location.parent)
    with Ledger.open(location) as ledger:
        assert ledger.jobs() == (JOB,)


def test_what_cannot_be_read_back_is_not_written(ledger: Ledger) -> None:
    """NaN has no place in JSON: refused when written, with nothing recorded, not found out when read."""
    registered(ledger).start_run(run_start(), next_expected_at=None)
    before = ledger.state(JOB)
    with pytest.raises(LedgerError, match="report of run 'run-1' can't be written down"):
        ledger.finish_run(replace(finished(), elapsed_seconds=float("nan")))
    with pytest.raises(LedgerError, match="not UTF-8"):
        ledger.add_parts("run-1", JOB, [replace(part(), source="/data/\udcff.parquet")])
    assert ledger.state(JOB) == before


def test_the_tables_are_of_the_version_they_say() -> None:
    """A changed table needs a higher version: this fails until both were changed."""
    columns = [
        f"{column} {column.type} {column.nullable}" for table in schema.metadata.sorted_tables for column in table.columns
    ]
    assert (schema.VERSION, sha256("\n".join(columns).encode()).hexdigest()[:8]) == (2, "855efa23")
