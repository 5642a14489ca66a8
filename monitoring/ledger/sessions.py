"""One session with PostgreSQL that holds advisory locks, as long as this process lives and holds them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as Occupied

from monitoring.ledger.store import Hold

WATCH_SECONDS = 1.0
"""How often it is asked whether the session still is there."""
SURE_SECONDS = 20.0
"""How long after the last answer a lock is surely ours: less than PostgreSQL needs to take it from a host that is gone."""
PATIENCE_SECONDS = 10.0
"""How long one thread waits for another that waits for PostgreSQL."""

_PING = text("SELECT true")
_TAKE = text("SELECT pg_try_advisory_lock(:number)")
_RELEASE = text("SELECT pg_advisory_unlock(:number)")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Of a computer that sleeps, too, the first goes on."""


class LockSession:
    """The locks of one process, on one connection, which there is only while a lock is held. Safe from several threads.

    A session that was lost (PostgreSQL was restarted, a network was cut) has lost its locks. A thread watches it, connects
    again and takes them again; one that somebody else has taken by then is lost for good. What a holder writes meanwhile
    is safe without: a run that somebody else took for dead has ended, and the ledger adds nothing to it.

    Nobody waits for the network for long: whether a lock is held is answered at once, by what was heard last.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._alone = threading.Lock()  # with the connection; the sets are changed by single calls, which need none
        self._connection: Connection | None = None
        self._wanted: set[int] = set()
        self._lost: set[int] = set()
        self._taken: set[int] = set()  # by the session that there is now
        self._heard_at = float("-inf")
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def take(self, number: int) -> bool:
        """Take a lock; False when somebody has it, another thread of this process included. Raises `SQLAlchemyError`."""
        with self._connection_alone():
            if number in self._wanted:
                return False
            self._let_go()
            taken = self._ask(_TAKE, number)
            if taken:
                self._taken.add(number)
                self._lost.discard(number)
                self._wanted.add(number)
                self._watch()
            self._let_go()
            return taken

    def release(self, number: int) -> None:
        """Let go of a lock, should it not be lost: now, or as soon as PostgreSQL answers."""
        self._wanted.discard(number)
        with suppress(SQLAlchemyError), self._connection_alone():
            self._let_go()

    def hold(self, number: int) -> Hold:
        """What is known of a lock that was taken."""
        if number not in self._wanted or number in self._lost:
            return Hold.LOST
        sure = number in self._taken and time.clock_gettime(_CLOCK) - self._heard_at < SURE_SECONDS
        return Hold.KEPT if sure else Hold.UNSURE

    def close(self) -> None:
        """Let go of all."""
        self._ended.set()
        self._wanted.clear()
        with suppress(SQLAlchemyError), self._connection_alone():
            self._forget_connection()
        if self._watcher is not None:
            self._watcher.join(PATIENCE_SECONDS)

    @contextmanager
    def _connection_alone(self) -> Iterator[None]:
        if not self._alone.acquire(timeout=PATIENCE_SECONDS):
            raise Occupied(f"no answer of PostgreSQL to another thread within {PATIENCE_SECONDS:g} s")
        try:
            yield
        finally:
            self._alone.release()

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._look_after, name="ledger locks", daemon=True)
            self._watcher.start()

    def _look_after(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            for step in (self._look, self._take_again):  # others may come between
                with suppress(SQLAlchemyError), self._connection_alone():  # it is asked again in a moment
                    step()
        with suppress(SQLAlchemyError), self._connection_alone():
            self._forget_connection()

    def _look(self) -> None:
        self._let_go()
        if self._taken:
            self._ask(_PING)

    def _take_again(self) -> None:
        for number in tuple(self._wanted - self._lost - self._taken):
            (self._taken if self._ask(_TAKE, number) else self._lost).add(number)

    def _let_go(self) -> None:
        """Of what nobody wants any more, and of the connection when nothing is left."""
        for number in tuple(self._taken - self._wanted):
            self._ask(_RELEASE, number)
            self._taken.discard(number)
        if not self._wanted:
            self._forget_connection()

    def _ask(self, statement: TextClause, number: int | None = None) -> bool:
        asked_at = time.clock_gettime(_CLOCK)
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            answer = bool(self._connection.execute(statement, {} if number is None else {"number": number}).scalar_one())
        except SQLAlchemyError:
            self._forget_connection()
            raise
        self._heard_at = asked_at
        return answer

    def _forget_connection(self) -> None:
        self._taken.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()
