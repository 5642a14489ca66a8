"""PostgreSQL that says nothing any more, and closes nothing: nobody waits for it for ever, or takes a lock for held."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from monitoring.ledger import Hold, Ledger, connections, postgresql, sessions
from pipelines.errors import LedgerError
from tests.faults.silence import SilentProxy
from tests.faults.test_postgresql import REQUESTS, ROOT, begun, counted
from tests.polling import poll
from tests.postgres import PASSWORD, Postgres
from tests.reports import JOB, finished, part
from tests.test_cli import NIGHT
from tests.tiny_job import TinyJob

BOUND_SECONDS = 30.0
"""More than any wait may take here, where they are all shortened; without a bound it would be hours."""


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One of the test's own: it is stopped."""
    with Postgres() as started:
        yield started


@pytest.fixture
def network(server: Postgres) -> Iterator[SilentProxy]:
    with SilentProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def location(server: Postgres, network: SilentProxy) -> str:
    """By way of the network."""
    return server.new_database().replace(f":{server.port}/", f":{network.port}/")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of what is waited otherwise; psycopg's least time for a connection is 2 s."""
    monkeypatch.setitem(connections._CONNECT, "connect_timeout", 2)
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(sessions, "SURE_SECONDS", 2.0)
    monkeypatch.setattr(sessions, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(sessions, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(postgresql.PostgreSQLStore, "insists_seconds", 3.0)


def go_silent(how: str, server: Postgres, network: SilentProxy) -> None:
    server.freeze() if how == "server" else network.fall_silent()


def come_back(how: str, server: Postgres, network: SilentProxy) -> None:
    server.thaw() if how == "server" else network.heal()


@pytest.mark.parametrize("how", ["network", "server"])
def test_a_silence_is_one_clear_error_within_a_bound_and_what_comes_after_it_counts_once(
    server: Postgres, network: SilentProxy, location: str, how: str
) -> None:
    """It names the server, without the password. The lock is not taken for held meanwhile; who lets go of it is not held up."""
    with begun(location) as ledger, ThreadPoolExecutor(2) as pool:
        lock = ledger.lock("run", JOB)
        hold = lock.__enter__()
        ledger.add_parts("run-1", JOB, [part()])
        assert hold() is Hold.KEPT
        go_silent(how, server, network)
        adding = pool.submit(ledger.add_parts, "run-1", JOB, [part("b.parquet")])
        poll(lambda: hold() is Hold.UNSURE, deadline_seconds=BOUND_SECONDS)
        with pytest.raises(LedgerError) as caught:
            adding.result(BOUND_SECONDS)
        assert f"127.0.0.1:{network.port}" in str(caught.value)
        assert PASSWORD not in str(caught.value)
        with pytest.raises(LedgerError, match=r"nobody answers|no answer"), ledger.lock("push", JOB):
            pass
        pool.submit(lock.__exit__, None, None, None).result(BOUND_SECONDS)
        assert hold() is Hold.LOST
        come_back(how, server, network)
        ledger.add_parts("run-1", JOB, [part("c.parquet")])
        poll(lambda: _is_free(location), deadline_seconds=BOUND_SECONDS)
    # The part over whose commit it fell silent may have been recorded, but not twice.
    assert counted(location) in {(200, 2), (300, 3)}


def _is_free(location: str) -> bool:
    try:
        with Ledger.open(location) as other, other.lock("run", JOB):
            return True
    except LedgerError:
        return False


@pytest.mark.parametrize("how", ["network", "server"])
def test_a_silence_that_ends_in_time_is_waited_for(server: Postgres, network: SilentProxy, location: str, how: str) -> None:
    """The run goes on, and its lock is its own again."""
    with begun(location) as ledger, ledger.lock("run", JOB) as hold, ThreadPoolExecutor(1) as pool:
        go_silent(how, server, network)
        adding = pool.submit(ledger.add_parts, "run-1", JOB, [part()])
        poll(lambda: hold() is Hold.UNSURE, deadline_seconds=BOUND_SECONDS)
        come_back(how, server, network)
        adding.result(BOUND_SECONDS)
        poll(lambda: hold() is Hold.KEPT, deadline_seconds=BOUND_SECONDS)
        ledger.finish_run(finished())
    assert counted(location) == (100, 1)


def test_a_silent_server_is_not_waited_for_when_a_ledger_is_opened(network: SilentProxy, location: str) -> None:
    """Who comes anew is told so."""
    network.fall_silent()
    with pytest.raises(LedgerError, match=rf"127\.0\.0\.1:{network.port}/.* nobody answers there; is PostgreSQL up") as caught:
        Ledger.open(location)
    assert PASSWORD not in str(caught.value)


def test_what_postgresql_works_on_is_waited_for(server: Postgres, location: str) -> None:
    """However long: here another writer of the job keeps it waiting for longer than any silence may last."""
    with begun(location) as ledger, ThreadPoolExecutor(1) as pool, psycopg.connect(location) as other:
        store = ledger._store
        assert isinstance(store, postgresql.PostgreSQLStore)
        other.execute("SELECT pg_advisory_xact_lock(%s)", (store._number(f"write:{JOB}"),))
        adding = pool.submit(ledger.add_parts, "run-1", JOB, [part()])
        asked = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND now() - query_start > '4 s'"
        poll(lambda: server.execute(asked))
        assert not adding.done()
        other.commit()
        adding.result(BOUND_SECONDS)
    assert counted(location) == (100, 1)


def test_the_lock_of_a_session_that_says_nothing_is_taken_from_it(
    server: Postgres, network: SilentProxy, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although every TCP peer is there: by PostgreSQL, after the lease; its holder has known before, and learns who has it."""
    monkeypatch.setattr(connections, "LEASE_SECONDS", 3)
    direct = location.replace(f":{network.port}/", f":{server.port}/")
    with begun(location) as ledger, ledger.lock("run", JOB) as hold, Ledger.open(direct) as other:
        network.fall_silent()
        with other.lock("run", JOB, wait_seconds=BOUND_SECONDS):
            assert not hold()
            network.heal()
            poll(lambda: hold() is Hold.LOST, deadline_seconds=BOUND_SECONDS)


@pytest.mark.parametrize("heals", [True, False])
def test_a_run_over_which_it_falls_silent_goes_on_or_ends_with_one_clear_error(
    server: Postgres, network: SilentProxy, location: str, tmp_path: Path, *, heals: bool
) -> None:
    """The process too: nothing of it waits for what never comes, and what it had recorded is what counts."""
    job = TinyJob(tmp_path / "job")
    job.write_input(NIGHT, 3000)
    job.slow_down(seconds_for_each_batch=0.05)
    variables = {**os.environ, "BATCHGAUGE_LEDGER": location, "BATCHGAUGE_STATE": str(tmp_path / "state")}
    command = [sys.executable, "-m", "tests.hasty_cli", "run", str(job.spec), "--date", NIGHT]
    with Ledger.open(location.replace(f":{network.port}/", f":{server.port}/")) as ledger:

        def committed() -> int:
            return len(ledger.committed_parts("tiny", str(job.folder / "scored" / f"date={NIGHT}")))

        with subprocess.Popen(command, env=variables, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
            poll(lambda: ledger.jobs() and committed())
            before = _ports_towards(network, run)
            network.fall_silent()
            if heals:
                poll(lambda: _ports_towards(network, run) - before)  # it has given up a connection, and makes another
                network.heal()
            said = run.communicate(timeout=60)[1]
        network.heal()
        assert "Traceback" not in said
        assert PASSWORD not in said
        if heals:
            assert run.returncode == 0, said
            assert committed() == 30
        else:
            assert run.returncode == 1, said
            assert said.count("error: ") == 1, said
            assert f"127.0.0.1:{network.port}/" in said
        assert ledger.state("tiny").counters[REQUESTS] == 100 * committed()


def _ports_towards(network: SilentProxy, process: subprocess.Popen[str]) -> set[int]:
    sockets = psutil.Process(process.pid).net_connections()
    return {one.laddr[1] for one in sockets if one.raddr[1:] == (network.port,)}
