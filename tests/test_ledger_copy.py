"""Moving a ledger between databases: nothing is lost, no counter falls, and no two go on at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from monitoring.ledger import Ledger, copying
from monitoring.state import Destination, PushedGroup
from pipelines.errors import LedgerError
from pipelines.report import Outcome
from tests.postgres import PASSWORD, Postgres
from tests.reports import JOB, definition, finished, holdout, one_run, part, run_start
from tests.test_cli import Command
from tests.test_ledger_upgrades import EARLIER, restored


def filled(location: str) -> None:
    with Ledger.open(location) as ledger:
        destination = Destination(gateway="http://gateway:9091", labels={"env": "ü"})
        for job in (JOB, "other"):
            ledger.register(definition(job, destination=destination), now=1.0, next_expected_at=None)
        for number in range(3):
            reports = tuple(part(f"{number}-{one}.parquet", rows=70) for one in range(3))
            one_run(ledger, finished(f"run-{number}", parts=reports, holdouts=(holdout(),)), reports)
        group = PushedGroup("http://gateway:9091", {"job": JOB, "env": "ü"})
        ledger.note_push(JOB, group, ca_file=None, at=5.0)
        ledger.mark_pushed(JOB, sequence=3, at=5.0, group=group)
        ledger.keep_tuning("m", "x", "{}", at=1.0)
        ledger.skip_run(replace(finished("run-9", "other", outcome=Outcome.SKIPPED), model=None))


def known(ledger: Ledger) -> object:
    return [
        (ledger.state(job), ledger.runs(job), ledger.committed_parts(job, "/scored"), ledger.retrains(job))
        for job in ledger.jobs()
    ] + [ledger.pushed_groups(), ledger.tuning("m", "x"), ledger.latest_runs(limit=100)]


@pytest.fixture
def locations(new_location: Callable[[], str], tmp_path: Path) -> tuple[str, str]:
    """From SQLite to each database, the second time by way of `test_there_and_back`."""
    return str(tmp_path / "from" / "ledger.db"), new_location()


def test_a_text_that_the_other_database_cannot_have_is_copied_without_what_is_wrong_with_it(locations: tuple[str, str]) -> None:
    """SQLite has NUL in a text, PostgreSQL has not."""
    filled(locations[0])
    with Ledger.open(locations[0]) as old, Ledger.open(locations[1]) as new:
        old.mark_push_failed("other", error="it said \0", at=6.0)
        old.copy_to(new)
        assert new.state("other").push_error in {"it said \0", "it said \ufffd"}


def test_a_copy_knows_what_the_ledger_knew_and_goes_on(locations: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every counter, run, part and group; what comes next is added to it, in the same order."""
    monkeypatch.setattr(copying, "_ROWS", 2)
    filled(locations[0])
    with Ledger.open(locations[0]) as old, Ledger.open(locations[1]) as new:
        rows = old.copy_to(new)
        assert (rows["jobs"], rows["runs"], rows["parts"], rows["tunings"]) == (2, 4, 9, 1)
        assert known(new) == known(old)
        counters = old.state(JOB).counters
        one_run(new, finished("run-10", parts=(part(),)), (part(),))
        after = new.state(JOB).counters
        assert all(after[key] >= value for key, value in counters.items())
        assert after["inference_requests_total", ()] == counters["inference_requests_total", ()] + 100
        assert [run.run_id for run in new.runs(JOB, limit=2)] == ["run-10", "run-2"]


def test_there_and_back(postgres: Postgres, tmp_path: Path) -> None:
    """A ledger of the first version, into PostgreSQL and out again, is what it was."""
    first, second = restored(EARLIER[0], tmp_path), tmp_path / "back.db"
    with Ledger.open(first) as old, Ledger.open(postgres.new_database()) as middle, Ledger.open(second) as new:
        old.copy_to(middle)
        middle.copy_to(new)
        assert known(new) == known(middle) == known(old)
    dumps = []
    for location in (first, second):
        with sqlite3.connect(location) as connection:
            dumps.append(sorted(line for line in connection.iterdump() if line.startswith("INSERT")))
        connection.close()
    assert dumps[0] == dumps[1]


def test_a_ledger_that_is_not_empty_is_not_copied_to(locations: tuple[str, str]) -> None:
    """Nothing of it is touched."""
    filled(locations[0])
    with Ledger.open(locations[0]) as old, Ledger.open(locations[1]) as new:
        new.register(definition("mine"), now=1.0, next_expected_at=None)
        with pytest.raises(LedgerError, match="has counters already; name an empty"):
            old.copy_to(new)
        assert new.jobs() == ("mine",)


@pytest.mark.parametrize("kind", ["run", "push", "retrain"])
def test_a_ledger_that_somebody_is_at_work_on_is_not_copied(locations: tuple[str, str], kind: str) -> None:
    """What they add would be missing."""
    filled(locations[0])
    with Ledger.open(locations[0]) as old, Ledger.open(locations[1]) as new:
        with old.lock(kind, "other"), pytest.raises(LedgerError, match=f"a {kind} is in progress"):  # type: ignore[arg-type]
            old.copy_to(new)
        with old.scheduler_lock(), pytest.raises(LedgerError, match="another scheduler"):
            old.copy_to(new)
        assert new.jobs() == ()
        old.start_run(run_start("run-20"), next_expected_at=None)  # its process has died: it is settled in the copy
        old.copy_to(new)
        assert new.fail_dead_runs(JOB, now=2e9, reason="died") == ("run-20",)


def test_a_copy_that_fails_leaves_nothing(locations: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it had copied by then."""
    filled(locations[0])
    copy_table = copying._copy_table

    def fails(source: object, target: object, table: object) -> int:
        rows = copy_table(source, target, table)  # type: ignore[arg-type]
        if getattr(table, "name", "") == "runs":
            raise LedgerError("a test's")
        return rows

    monkeypatch.setattr(copying, "_copy_table", fails)
    with Ledger.open(locations[0]) as old, Ledger.open(locations[1]) as new:
        with pytest.raises(LedgerError, match="a test's"):
            old.copy_to(new)
        assert (new.jobs(), new.pushed_groups()) == ((), ())


def test_the_command(postgres: Postgres, tmp_path: Path) -> None:
    """It shows no password, takes none in an argument, and copies nothing that isn't there."""
    source, url = str(tmp_path / "from" / "ledger.db"), postgres.new_database()
    filled(source)
    batchgauge = Command(tmp_path, PGPASSWORD=PASSWORD)
    refused = batchgauge("ledger", "copy", source, url)
    assert (refused.returncode, PASSWORD in refused.stderr) == (2, False)
    assert "~/.pgpass" in refused.stderr
    target = url.replace(f":{PASSWORD}", "")
    assert batchgauge("ledger", "copy", str(tmp_path / "absent.db"), target).returncode == 2
    assert batchgauge.json("ledger", "copy", source, target)["rows"]["runs"] == 4
    batchgauge.environment["BATCHGAUGE_LEDGER"] = url
    batchgauge.environment["BATCHGAUGE_STATE"] = str(tmp_path / "state")
    listed = batchgauge("list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert '"digits"' in listed.stdout
    assert PASSWORD not in listed.stdout + listed.stderr
