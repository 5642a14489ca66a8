"""The ledger in a file: what is SQLite's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from monitoring.filenames import of_job
from monitoring.ledger import store
from monitoring.ledger.store import Hold, Store
from pipelines.errors import LedgerError

BUSY_SECONDS = 30.0
_BEGIN = "batchgauge_begin"

_ADVICE = {
    "SQLITE_BUSY": f"another process has held it for {BUSY_SECONDS:g} s; end that process, or try again",
    "SQLITE_READONLY": "it can't be written; give this user write access to the file and its folder",
    "SQLITE_NOTADB": "it is not a ledger; name another file, or move this one away to start afresh",
    "SQLITE_CORRUPT": store.DAMAGED,
    "SQLITE_FULL": "the disk is full; make room and run again, nothing was half-recorded",
    "SQLITE_CANTOPEN": "it can't be opened; check that it is a file and that this user may read and write it and its folder",
    "SQLITE_IOERR": "reading or writing it failed; check the disk",
}


class SQLiteStore(Store):
    """A file, and files beside it for locks, which the kernel frees when their holder dies."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._file: tuple[int, int] | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"ledger {path}: its folder can't be made ({error.strerror}); name another with BATCHGAUGE_LEDGER"
            raise LedgerError(message) from error
        super().__init__(_engine(path), str(path))
        self._file = _identity(path)

    @property
    def folder(self) -> Path:
        """The file's folder."""
        return self._folder

    @contextmanager
    def lock(self, key: str, *, wait_seconds: float) -> Iterator[Callable[[], Hold]]:
        """A file of that name."""
        kind, _, name = key.partition(":")
        path = self._folder / "locks" / f"{kind}-{of_job(name)}.lock"
        lock = FileLock(path, fallback_to_soft=False)  # a soft lock outlives a holder that dies
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=max(0.0, wait_seconds), poll_interval=0.02)
        except Timeout as error:
            raise TimeoutError(str(path)) from error
        except OSError as error:
            raise LedgerError(f"lock {path} can't be taken ({error.strerror}); check that this user may write there") from error
        try:
            yield lambda: Hold.KEPT
        finally:
            lock.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """As the log of changes shows it at the first look."""
        with self._explained(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, job: str) -> Iterator[Connection]:
        """Alone in the whole database."""
        del job
        self._check_in_place()
        with (
            self._explained(),
            self._engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection,
            connection.begin(),
        ):
            yield connection

    def _check_in_place(self) -> None:
        """A database that was deleted goes on taking commits, which nobody will ever read."""
        if self._file is not None and _identity(Path(self.location)) != self._file:
            message = f"ledger {self.location}: the file was deleted, moved or replaced while in use; put it back, or run again"
            raise LedgerError(message)

    @contextmanager
    def _making(self) -> Iterator[Connection]:
        # The switch to WAL is refused while anybody else looks at the file, whatever the busy timeout: one at a time.
        try:
            locks = self._folder / "locks"
            locks.mkdir(exist_ok=True)
            with FileLock(locks / f"ledger-{Path(self.location).name}.lock", timeout=BUSY_SECONDS):
                with self._explained():
                    _switch_to_wal(self._engine)
                with self.write("") as connection:
                    yield connection
        except Timeout as error:
            raise LedgerError(f"ledger {self.location}: {_ADVICE['SQLITE_BUSY']}") from error
        except OSError as error:
            raise LedgerError(f"ledger {self.location}: {_ADVICE['SQLITE_READONLY']} ({error.strerror})") from error

    def _explanation(self, error: DBAPIError) -> str:
        name = getattr(error.orig, "sqlite_errorname", "")
        advice = next((text for prefix, text in _ADVICE.items() if name.startswith(prefix)), "the database refused")
        return f"{advice} ({error.orig})"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # so that `_begin` decides how a transaction begins
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns


def _begin(connection: Connection) -> None:
    # A write takes its lock at the start: two that begin as readers and then both write would deadlock.
    if statement := connection.get_execution_options().get(_BEGIN, "BEGIN"):
        connection.exec_driver_sql(statement)


def _switch_to_wal(engine: Engine) -> None:
    with engine.connect().execution_options(**{_BEGIN: ""}) as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
