"""One session with PostgreSQL that holds advisory locks, as long as this process lives and holds them."""

from __future__ import annotations

import threading
from contextlib import suppress

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

WATCH_SECONDS = 1.0
"""How often it is asked whether the session still is there."""

_TAKE = text("SELECT pg_try_advisory_lock(:number)")
_RELEASE = text("SELECT pg_advisory_unlock(:number)")


class LockSession:
    """The locks of one process, on one connection, which there is only while a lock is held. Safe from several threads.

    A session that was lost (PostgreSQL was restarted, a network was cut) has lost its locks. A thread watches it, connects
    again and takes them again; one that somebody else has taken by then is lost for good. What a holder writes meanwhile
    is safe without: a run that somebody else took for dead has ended, and the ledger adds nothing to it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._alone = threading.Lock()
        self._connection: Connection | None = None
        self._held: dict[int, bool] = {}  # whether it is held, or was lost
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def take(self, number: int) -> bool:
        """Take a lock; False when somebody has it, another thread of this process included. Raises `SQLAlchemyError`."""
        with self._alone:
            if number in self._held:
                return False
            try:
                taken = bool(self._connected().execute(_TAKE, {"number": number}).scalar_one())
            except SQLAlchemyError:
                self._forget_connection()
                raise
            if taken:
                self._held[number] = True
                self._watch()
            elif not self._held:
                self._forget_connection()
            return taken

    def release(self, number: int) -> None:
        """Let go of a lock, should it not be lost."""
        with self._alone:
            if self._held.pop(number, False) and self._connection is not None:
                with suppress(SQLAlchemyError):  # a session that is lost holds nothing
                    self._connection.execute(_RELEASE, {"number": number})
            if not self._held:
                self._forget_connection()

    def holds(self, number: int) -> bool:
        """Whether the lock was held when the session was last looked at."""
        with self._alone:
            return self._held.get(number, False)

    def close(self) -> None:
        """Let go of all."""
        self._ended.set()
        with self._alone:
            self._held.clear()
            self._forget_connection()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._look_after, name="ledger locks", daemon=True)
            self._watcher.start()

    def _look_after(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            with self._alone, suppress(SQLAlchemyError):  # it is asked again in a moment
                self._look()

    def _look(self) -> None:
        if not self._held:
            return
        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
            except SQLAlchemyError:
                self._forget_connection()
        if self._connection is None:
            connection = self._connected()
            for number in self._held:
                self._held[number] = self._held[number] and bool(connection.execute(_TAKE, {"number": number}).scalar_one())

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()
