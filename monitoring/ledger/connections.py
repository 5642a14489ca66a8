"""Connections to PostgreSQL that end when nobody is at the other end any more.

TCP tells of a host that is gone: keepalives, both ways. It tells nothing of a server that hangs, or of one behind a proxy
that is there itself. So who hears nothing asks in a connection of its own whether PostgreSQL still works on it, and a
session that holds locks is ended by PostgreSQL itself when it says nothing for so long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

CONNECT_SECONDS = 10
"""How long an address may take to let us in."""
SILENCE_SECONDS = 10.0
"""How long nothing may be heard of a statement before it is asked whether it still is worked on."""
LEASE_SECONDS = 25
"""How long PostgreSQL keeps the locks of a session that it hears nothing of."""
LIMIT_REACHED = ("too many clients", "too many connections", "remaining connection slots")
"""How PostgreSQL says that it takes no more connections: there it is."""

RV = TypeVar("RV")

_CONNECT = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": LEASE_SECONDS * 1000}
_CONNECT |= {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}

# The server looks for us, too: a host that lost its power says nothing, and would keep its locks for two hours.
# And what is committed is on disk when we are told so.
_SETTINGS = (
    "SELECT pg_backend_pid(), set_config('tcp_keepalives_idle', '10', false), "
    "set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false), "
    "set_config('tcp_user_timeout', %(lease)s, false), set_config('idle_session_timeout', %(idle)s, false), "
    "set_config('synchronous_commit', "
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)"
)
# Where activities aren't tracked, PostgreSQL can't say, and only TCP tells.
_AT_WORK = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state IN ('active', 'disabled')"


def work_engine(url: URL, *, pool_size: int, pool_timeout: float) -> Engine:
    """Connections for transactions: they wait for as long as PostgreSQL works on a statement."""
    return _engine(
        url, asks=True, idle_seconds=0, pool_size=pool_size, max_overflow=0, pool_timeout=pool_timeout, pool_pre_ping=True
    )


def lock_engine(url: URL) -> Engine:
    """A connection for locks that are tried and never waited for: an answer comes soon, or not any more."""
    return _engine(url, asks=False, idle_seconds=LEASE_SECONDS, poolclass=NullPool, isolation_level="AUTOCOMMIT")


class HeardConnection(psycopg.Connection[Any]):
    """Is closed once nothing was heard of a statement for too long, which then raises `OperationalError`.

    `another` makes a second one, for the question whether the statement still is worked on; None: it can't take that long.
    """

    another: Callable[[], HeardConnection] | None = None
    process_id: int = 0
    """Of PostgreSQL's process, also behind a pooler."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg does, which comes back every `interval`, also where nothing was heard."""
        return super().wait(self._heard(gen), interval, timeout)

    def _heard(self, gen: PQGen[RV]) -> PQGen[RV]:
        since, doubted = monotonic(), False
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    since, doubted = monotonic(), False
                elif monotonic() - since >= SILENCE_SECONDS:
                    at_work = self._is_at_work()
                    if doubted and not at_work:
                        self._give_up()
                    since, doubted = monotonic(), not at_work  # an answer may have been under way
                wanted = gen.send(ready)
        except StopIteration as ended:
            result: RV = ended.value
            return result

    def _is_at_work(self) -> bool:
        if self.another is None:
            self._give_up()
        try:
            with self.another() as other:
                return other.execute(_AT_WORK, (self.process_id,)).fetchone() is not None
        except psycopg.OperationalError as error:
            if any(words in str(error) for words in LIMIT_REACHED):
                return True
            self._give_up()

    def _give_up(self) -> NoReturn:
        self.close()
        raise psycopg.OperationalError(f"no answer within {SILENCE_SECONDS:g} s")


def _engine(url: URL, *, asks: bool, idle_seconds: int, **options: Any) -> Engine:
    engine = create_engine(url.set(drivername="postgresql+psycopg"), connect_args=_CONNECT, **options)

    def connect(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> HeardConnection:
        connection = HeardConnection.connect(**parameters)
        if asks:
            connection.another = partial(HeardConnection.connect, **parameters)
        return connection

    def configure(connection: HeardConnection, _record: Any) -> None:
        before, connection.autocommit = connection.autocommit, True
        settings = {"lease": str(LEASE_SECONDS * 1000), "idle": str(idle_seconds * 1000)}
        connection.process_id = next(connection.execute(_SETTINGS, settings))[0]
        connection.autocommit = before

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", configure)
    return engine
