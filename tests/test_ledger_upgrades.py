"""A ledger of an earlier version upgrades itself when it is opened: whole, once, and without a loss."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection

from monitoring import names
from monitoring.ledger import GroupRecord, Ledger, ModelId, RetrainOutcome, schema, upgrades
from monitoring.state import PushedGroup
from pipelines.errors import LedgerError
from pipelines.report import Outcome
from tests.reports import JOB, MODEL, finished, holdout, part

ROOT = Path(__file__).parent.parent
EARLIER = sorted((ROOT / "tests" / "golden").glob("ledger-*.sql"))
REQUESTS = (names.REQUESTS.name, ())


def restored(dump: Path, folder: Path) -> Path:
    """The ledger that was dumped, as a file. `WAL` as batchgauge leaves it."""
    location = folder / "ledger.db"
    with sqlite3.connect(location) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return location


def tables(location: Path) -> dict[str, list[tuple[object, ...]]]:
    """Columns (name, type, whether not null, place in the key) and indexes of every table."""
    with sqlite3.connect(location) as connection:
        found = {
            name: sorted(
                [row[1:4] + row[5:] for row in connection.execute(f"PRAGMA table_info({name})")]
                + [row[1:4] for row in connection.execute(f"PRAGMA index_list({name})")]
            )
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        }
    connection.close()
    return found


def dumped(location: Path) -> list[str]:
    with sqlite3.connect(location) as connection:
        lines = list(connection.iterdump())
    connection.close()
    return lines


def test_every_earlier_version_has_its_ledger_here() -> None:
    """Whoever raises the version adds a step, and a ledger that the code before had written."""
    assert [dump.name for dump in EARLIER] == [f"ledger-{version}.sql" for version in range(1, schema.VERSION)]
    assert set(upgrades.STEPS) == set(range(2, schema.VERSION + 1))


@pytest.mark.parametrize("dump", EARLIER, ids=lambda dump: dump.stem)
def test_an_upgraded_ledger_has_the_tables_of_a_new_one(dump: Path, tmp_path: Path) -> None:
    """To the last index."""
    location = restored(dump, tmp_path)
    Ledger.open(location).close()
    Ledger.open(tmp_path / "new.db").close()
    assert tables(location) == tables(tmp_path / "new.db")


@pytest.mark.parametrize("dump", EARLIER, ids=lambda dump: dump.stem)
def test_an_upgraded_ledger_knows_what_it_knew(dump: Path, tmp_path: Path) -> None:
    """Counters, runs, parts, quality and retrainings; and it is written on."""
    with Ledger.open(restored(dump, tmp_path)) as ledger:
        state = ledger.state(JOB)
        assert (state.sequence, state.counters[REQUESTS], state.model) == (7, 75, MODEL)
        assert state.counters[names.ROWS_REJECTED.name, ("null",)] == 30
        assert state.quality == {"labelled": holdout()}
        assert [run.outcome for run in ledger.runs(JOB)] == [Outcome.SKIPPED, Outcome.SUCCESS]
        assert set(ledger.committed_parts(JOB, "/scored")) == {"/scored/a.parquet", "/scored/b.parquet"}
        last, promoted = ledger.retrains(JOB)
        assert (last.outcome, promoted.outcome, promoted.after) == (None, RetrainOutcome.PROMOTED, ModelId("v2", "bb"))
        group = PushedGroup("http://gateway:9091", {"job": JOB, "env": "prod", "a": "ü"})
        assert (state.pushed_group, state.push_error) == (group, "no answer")
        assert ledger.pushed_groups() == (GroupRecord(group, JOB, None, 1795228000.5, 1795228001.5),)
        assert ledger.accounted_until("other") == 1795227300.0
        ledger.add_parts("run-3", "other", [part("d.parquet")])
        ledger.finish_run(finished("run-3", "other"))
        assert ledger.state("other").counters[REQUESTS] == 200
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        assert ledger.state(JOB) == state


def test_many_processes_upgrade_one_ledger(tmp_path: Path) -> None:
    """Together, once, and each of them works on in it."""
    location = restored(EARLIER[0], tmp_path)
    commands = [
        [sys.executable, "-m", "tests.ledger_writer", str(location), f"job-{number}", f"new-{number}", "3"]
        for number in range(6)
    ]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait(60) for process in processes] == [0] * 6
    with Ledger.open(location) as ledger:
        assert ledger.state(JOB).counters[REQUESTS] == 75
        assert [ledger.state(f"job-{number}").counters[REQUESTS] for number in range(6)] == [30] * 6
        assert len(ledger.pushed_groups()) == 1


@pytest.mark.parametrize("after", ["CREATE TABLE pushed_groups", "INSERT INTO pushed_groups", "UPDATE batchgauge_ledger"])
def test_a_process_killed_while_it_upgrades_leaves_the_ledger_as_it_was(after: str, tmp_path: Path) -> None:
    """Whatever statement was its last; the next one upgrades it."""
    location = restored(EARLIER[0], tmp_path)
    before = dumped(location)
    code = f"""
import os, signal
from sqlalchemy import Engine, event
from monitoring.ledger import Ledger
@event.listens_for(Engine, "after_cursor_execute")
def killed(connection, cursor, statement, *rest):
    if statement.startswith({after!r}):
        os.kill(os.getpid(), signal.SIGKILL)
Ledger.open({str(location)!r})
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    assert dumped(location) == before
    with Ledger.open(location) as ledger:
        assert ledger.state(JOB).counters[REQUESTS] == 75
        assert len(ledger.pushed_groups()) == 1


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the tables it had made: all of it is one transaction."""
    location = restored(EARLIER[0], tmp_path)
    before = dumped(location)
    first = upgrades.STEPS[2]

    def half(connection: Connection) -> None:
        first(connection)
        raise schema.Damaged("a test's")

    steps: dict[int, Callable[[Connection], None]] = {2: half}
    monkeypatch.setattr(upgrades, "STEPS", steps)
    with pytest.raises(LedgerError, match=f"{location}: it is damaged.*a test's"):
        Ledger.open(location)
    assert dumped(location) == before


@pytest.mark.parametrize("version", [0, -3, "one", 1.5])
def test_a_version_that_never_was_is_damage(version: object, tmp_path: Path) -> None:
    """There is nothing to upgrade it from."""
    location = restored(EARLIER[0], tmp_path)
    with sqlite3.connect(location) as connection:
        connection.execute("UPDATE batchgauge_ledger SET version = ?", [version])
    connection.close()
    with pytest.raises(LedgerError, match="it is damaged"):
        Ledger.open(location)
