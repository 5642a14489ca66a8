"""PostgreSQL restarted, crashed, cut off, full: a clean recovery or one clear error, and every part counted once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine.default import DefaultDialect

from monitoring.ledger import Hold, Ledger, LockHeld, postgresql
from pipelines.errors import LedgerError
from tests.polling import poll
from tests.postgres import PASSWORD, Postgres
from tests.reports import JOB, definition, finished, part, run_start
from tests.test_cli import NIGHT, Command
from tests.tiny_job import TinyJob

REQUESTS = ("inference_requests_total", ())
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One of the test's own: it is stopped and started."""
    with Postgres() as started:
        yield started


@pytest.fixture
def location(server: Postgres) -> str:
    return server.new_database()


def begun(location: str) -> Ledger:
    ledger = Ledger.open(location)
    ledger.register(definition(), now=1.0, next_expected_at=None)
    ledger.start_run(run_start(), next_expected_at=None)
    return ledger


def counted(location: str) -> tuple[float, int]:
    with Ledger.open(location) as ledger:
        return ledger.state(JOB).counters[REQUESTS], len(ledger.committed_parts(JOB, "/scored"))


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_restart_during_a_run_is_waited_for(server: Postgres, location: str, how: str) -> None:
    """By its administrator, or a crash: parts go on, and each counts once; the run's lock is its own again."""
    with begun(location) as ledger, ledger.lock("run", JOB) as held, ThreadPoolExecutor(1) as pool:

        def add(numbers: range) -> None:
            for number in numbers:
                ledger.add_parts("run-1", JOB, [part(f"{number}.parquet")])

        for first in (0, 200):
            adding = pool.submit(add, range(first, first + 200))
            poll(lambda first=first: len(ledger.committed_parts(JOB, "/scored")) > first + 20)  # type: ignore[misc]
            server.stop(how)
            server.start()
            adding.result(timeout=60)
        poll(lambda: server.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"))
        poll(held)
        with Ledger.open(location) as other, pytest.raises(LockHeld), other.lock("run", JOB):
            pass
        ledger.finish_run(finished())
    assert counted(location) == (40_000, 400)


class CutOff:
    """Has PostgreSQL end this process's session at its first commit: before it, or after it and before the answer."""

    def __init__(self, server: Postgres, where: str) -> None:
        self._server = server
        self._where = where
        self.commits = 0

    def commit(self, connection: Any) -> None:
        """In place of the dialect's."""
        self.commits += 1
        session = connection.driver_connection
        if self.commits == 1:
            if self._where == "after":
                session.commit()
            self._server.execute(f"SELECT pg_terminate_backend({session.info.backend_pid})")
            session.execute("SELECT 1")
        session.commit()


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_connection_lost_over_a_commit_counts_once(
    server: Postgres, location: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether PostgreSQL had committed or not: it is asked, and the parts are added again only if not."""
    with begun(location) as ledger:
        cut = CutOff(server, where)
        with monkeypatch.context() as patched:
            patched.setattr(DefaultDialect, "do_commit", lambda _dialect, connection: cut.commit(connection))
            ledger.add_parts("run-1", JOB, [part()])
        assert cut.commits > 1
        ledger.add_parts("run-1", JOB, [part("b.parquet")])
    assert counted(location) == (200, 2)


def test_a_server_that_stays_away_is_one_clear_error(server: Postgres, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute (shortened here); who comes anew waits for nothing."""
    monkeypatch.setattr(postgresql.PostgreSQLStore, "insists_seconds", 0.5)
    with begun(location) as ledger:
        server.stop()
        with pytest.raises(LedgerError, match=r"nobody listens there; is PostgreSQL up\?"):
            ledger.add_parts("run-1", JOB, [part()])
        with pytest.raises(LedgerError, match=r"nobody listens there; is PostgreSQL up\?"):
            Ledger.open(location)
        server.start()
        ledger.add_parts("run-1", JOB, [part()])
    assert counted(location) == (100, 1)


def test_a_limit_of_connections_that_is_reached_is_said(location: str) -> None:
    """With what to raise; what runs already goes on."""
    with begun(location) as ledger, ExitStack() as others:
        with suppress(psycopg.OperationalError):
            while True:
                others.enter_context(psycopg.connect(location))
        with pytest.raises(LedgerError, match="its limit of connections is reached; raise max_connections"):
            Ledger.open(location)
        ledger.add_parts("run-1", JOB, [part()])


def test_a_lock_that_somebody_else_took_meanwhile_is_known_to_be_lost(server: Postgres, location: str) -> None:
    """And the run that they called dead takes nothing more: it is counted as far as it came."""
    with begun(location) as ledger, ledger.lock("run", JOB) as held:
        ledger.add_parts("run-1", JOB, [part()])
        store = ledger._store
        assert isinstance(store, postgresql.PostgreSQLStore)
        with store._session._alone:  # its watcher waits, as on a host that is cut off
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            other = Ledger.open(location)
            lock = other.lock("run", JOB, wait_seconds=10.0)
            lock.__enter__()
            other.fail_dead_runs(JOB, now=2e9, reason="died")
        poll(lambda: held() is Hold.LOST)
        with pytest.raises(LedgerError, match="has ended already"):
            ledger.add_parts("run-1", JOB, [part("late.parquet")])
        lock.__exit__(None, None, None)
        other.close()
        assert not held()
    assert counted(location) == (100, 1)


def test_a_killed_process_leaves_no_lock(location: str) -> None:
    """PostgreSQL sees its connection close."""
    code = f"""
import time
from monitoring.ledger import Ledger
with Ledger.open({location!r}) as ledger, ledger.lock("run", {JOB!r}):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        with Ledger.open(location) as ledger, ledger.lock("run", JOB, wait_seconds=5.0):
            pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ledger_1", "absent"), "there is no such database or role"),
        ((PASSWORD, "wrong-secret"), "it refuses the password"),
        (("batch:", "nobody:"), "it refuses the password"),
    ],
)
def test_a_database_that_cannot_be_opened(location: str, change: tuple[str, str], message: str) -> None:
    """Said without the password."""
    with pytest.raises(LedgerError, match=message) as caught:
        Ledger.open(location.replace(*change))
    assert PASSWORD not in str(caught.value)
    assert "wrong-secret" not in str(caught.value)


def test_a_role_that_may_not_make_tables_is_told_so(server: Postgres, location: str) -> None:
    """And a database of somebody else's is left alone."""
    server.execute("CREATE ROLE reader LOGIN PASSWORD 'x'")
    with pytest.raises(LedgerError, match="this role may not do that"):
        Ledger.open(location.replace(f"batch:{PASSWORD}", "reader:x"))
    server.execute("CREATE TABLE mine (x int)", "ledger_1")
    with pytest.raises(LedgerError, match="is a database, but not a ledger"):
        Ledger.open(location)


def test_a_run_shows_no_password(location: str, tmp_path: Path) -> None:
    """Neither in its output, as JSON or for people, nor in its command line, which is anybody's to read."""
    job = TinyJob(tmp_path / "job")
    job.write_input(NIGHT, 500)
    batchgauge = Command(tmp_path, BATCHGAUGE_LEDGER=location, BATCHGAUGE_STATE=str(tmp_path / "state"))
    said = []
    for command in (f"run {job.spec} --date {NIGHT}", "list", "list --json", "status tiny", "doctor"):
        done = batchgauge(*command.split())
        assert done.returncode == 0, done.stderr
        said.append(done.stdout + done.stderr)
    assert len(job.output(NIGHT)) == 500
    for command in (f"crontab {job.spec}", f"systemd {job.spec} --output {tmp_path / 'units'}"):
        done = batchgauge(*command.split())
        assert done.returncode == 2
        assert "~/.pgpass" in done.stderr
        said.append(done.stdout + done.stderr)
    assert PASSWORD not in "".join(said)
    assert any("***" in text for text in said)
