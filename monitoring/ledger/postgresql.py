"""The ledger in PostgreSQL (14 or newer): what is its own.

A writer has the job to itself from the start of its transaction, by an advisory lock, so what it reads stays so. Locks
that outlive a transaction are held by a session (see `sessions`). Needs the extra `batchgauge[postgres]`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from monitoring.ledger.connections import LIMIT_REACHED, lock_engine, work_engine
from monitoring.ledger.sessions import LockSession
from monitoring.ledger.store import Hold, Store, TransactionLost
from pipelines.errors import LedgerError

INSISTS_SECONDS = 60.0
"""A restart of PostgreSQL takes seconds; for so long a run waits for it to come back."""
POOL = 5
"""Connections of one process for its transactions, at most; with one more while it holds a lock."""
_POOL_SECONDS, _PAUSE_SECONDS = 30.0, 0.2

# Which of its transactions a writer has committed last: asked when the connection was lost over a commit.
_WRITERS = (
    "CREATE TABLE IF NOT EXISTS batchgauge_writers "
    "(writer TEXT PRIMARY KEY, number BIGINT NOT NULL, written_at TIMESTAMPTZ NOT NULL DEFAULT now())"
)
_TIDY = "DELETE FROM batchgauge_writers WHERE written_at < now() - interval '1 day'"
_WRITE = text(
    "INSERT INTO batchgauge_writers (writer, number) VALUES (:writer, :number) "
    "ON CONFLICT (writer) DO UPDATE SET number = excluded.number, written_at = now()"
)
_WRITTEN = text(  # waits for one that is still being decided
    "INSERT INTO batchgauge_writers AS known (writer, number) VALUES (:writer, 0) "
    "ON CONFLICT (writer) DO UPDATE SET number = known.number RETURNING number"
)

_ADVICE = {
    "password authentication failed": "it refuses the password; check the URL, PGPASSWORD, or ~/.pgpass",
    "no password supplied": "it wants a password; put it into ~/.pgpass (or PGPASSWORD)",
    "does not exist": "there is no such database or role; create it, or correct the URL",
    "no pg_hba.conf entry": "it lets nobody in from here; see its pg_hba.conf",
    "connection timeout expired": "nobody answers there; is PostgreSQL up, and does a firewall let us through?",
    "no answer": "it has gone silent; is its host up, and the network between?",
    "Connection refused": "nobody listens there; is PostgreSQL up?",
    "failed to resolve host": "its host's name can't be resolved; correct the URL",
    "starting up": "it is starting; try again in a moment",
    "shutting down": "it is shutting down",
}
_ADVICE_BY_STATE = {
    "42501": "this role may not do that; GRANT it, or let it own the database",
    "25006": "it can only be read (a standby?); name the primary in the URL",
    "53100": "its disk is full; make room and run again, nothing was half-recorded",
    "54000": "a name or path is longer than an index of it can hold; shorten it",
    "22021": "a text has a character that it can't keep; rename the file or job",
}


class PostgreSQLStore(Store):
    """A database, or a schema of one, that hosts share. `folder` is where this host keeps files."""

    shared = True
    insists_seconds = INSISTS_SECONDS

    def __init__(self, url: URL, folder: Path | None) -> None:
        self._folder = folder
        self._opened = False
        self._writer, self._numbers = uuid4().hex, count(1)
        shown = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
        self._session = LockSession(lock_engine(url))
        super().__init__(work_engine(url, pool_size=POOL, pool_timeout=_POOL_SECONDS), shown)
        self._opened = True

    @property
    def folder(self) -> Path:
        """A folder of our host's; none is shared."""
        if self._folder is None:
            raise LedgerError(f"ledger {self.location}: name a folder for what is kept in files with BATCHGAUGE_STATE")
        return self._folder

    def close(self) -> None:
        """Let go of the database, and of its locks."""
        self._session.close()
        super().close()

    @contextmanager
    def lock(self, key: str, *, wait_seconds: float) -> Iterator[Callable[[], Hold]]:
        """An advisory lock: PostgreSQL frees it when our session ends: with our process, or when it hears nothing for 25 s."""
        number, end = self._number(key), time.monotonic() + wait_seconds
        with self._explained():
            while not self._session.take(number):
                if time.monotonic() >= end:
                    raise TimeoutError(f"advisory lock {number}")
                time.sleep(min(_PAUSE_SECONDS, max(0.0, end - time.monotonic())))
        try:
            yield lambda: self._session.hold(number)
        finally:
            self._session.release(number)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """As of its first statement."""
        with self._explained(), self._again_when_lost(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, job: str) -> Iterator[Connection]:
        """Alone with the job. Raises `TransactionLost` when it can be done again."""
        mine = {"writer": f"{self._writer}-{threading.get_ident()}", "number": next(self._numbers)}
        with self._explained():
            with self._again_when_lost():
                connection = self._engine.connect()
            with connection:
                with self._again_when_lost():
                    transaction = connection.begin()
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._number(f"write:{job}")})
                    connection.execute(_WRITE, mine)
                    yield connection
                try:
                    transaction.commit()
                except DBAPIError as error:
                    if not error.connection_invalidated:
                        raise
                    self._find_out(mine, error)

    def _find_out(self, mine: dict[str, Any], error: DBAPIError) -> None:
        """Return if the transaction was committed, though we were not told. Raises `TransactionLost` if it was not."""
        end = time.monotonic() + self.insists_seconds
        while True:
            try:
                with self._engine.begin() as connection:
                    last = connection.execute(_WRITTEN, {"writer": mine["writer"]}).scalar_one()
            except DBAPIError:
                if time.monotonic() >= end:
                    message = f"the connection was lost over a commit, and {self.insists_seconds:g} s later it is not back"
                    raise LedgerError(f"ledger {self.location}: {message}: nobody knows whether it was recorded") from error
                time.sleep(_PAUSE_SECONDS)
            else:
                if last != mine["number"]:
                    raise TransactionLost(f"ledger {self.location}: {self._explanation(error)}") from error
                return

    @contextmanager
    def _again_when_lost(self) -> Iterator[None]:
        """What loses its connection before it commits has recorded nothing."""
        try:
            yield
        except DBAPIError as error:
            unreachable = isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) is None
            if self._opened and (error.connection_invalidated or unreachable):
                raise TransactionLost(f"ledger {self.location}: {self._explanation(error)}") from error
            raise

    @contextmanager
    def _making(self) -> Iterator[Connection]:
        with self._explained(), self._engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._number("making:")})
            yield connection

    def _prepare(self) -> None:
        with self._explained(), self._engine.connect() as connection:
            place, encoding = connection.execute(text("SELECT current_schema(), current_setting('server_encoding')")).one()
        if encoding != "UTF8":
            raise LedgerError(f"ledger {self.location}: its encoding is {encoding}; create a database with ENCODING 'UTF8'")
        if place is None:
            raise LedgerError(f"ledger {self.location}: this role has no schema to make tables in; see its search_path")
        self._place = str(place)
        super()._prepare()
        with self._explained(), self._engine.begin() as connection:
            connection.execute(text(_TIDY))

    def _bring_up_to_date(self, connection: Connection) -> int:
        version = super()._bring_up_to_date(connection)
        connection.execute(text(_WRITERS))
        return version

    def _number(self, key: str) -> int:
        """A lock's number: 64 bits of its name's hash. Two schemas of one database are two ledgers."""
        named = f"batchgauge:{getattr(self, '_place', '')}:{key}".encode(errors="surrogateescape")
        return int.from_bytes(blake2b(named, digest_size=8).digest(), signed=True)

    def _explanation(self, error: DBAPIError) -> str:
        words = " ".join(str(error.orig).split())
        advice = _ADVICE_BY_STATE.get(getattr(error.orig, "sqlstate", None) or "")
        if any(part in words for part in LIMIT_REACHED):
            advice = (
                "its limit of connections is reached; raise max_connections, or the role's or database's, or run fewer at once"
            )
        advice = advice or next((said for part, said in _ADVICE.items() if part in words), None)
        if advice is None:
            advice = "the connection was lost" if error.connection_invalidated else "the database refused"
        return f"{advice} ({words})"
