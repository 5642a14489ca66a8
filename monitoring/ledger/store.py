"""The database behind the ledger: opening it, its transactions, its errors. All that is SQLite's own is here."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, select
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from monitoring.ledger import schema, upgrades
from pipelines.errors import LedgerError

BUSY_SECONDS = 30.0
_BEGIN = "batchgauge_begin"

_ADVICE = {
    "SQLITE_BUSY": f"another process has held it for {BUSY_SECONDS:g} s; end that process, or try again",
    "SQLITE_READONLY": "it can't be written; give this user write access to the file and its folder",
    "SQLITE_NOTADB": "it is not a ledger; name another file, or move this one away to start afresh",
    "SQLITE_CORRUPT": "it is damaged; restore it from a backup, or move it away to start afresh",
    "SQLITE_FULL": "the disk is full; make room and run again, nothing was half-recorded",
    "SQLITE_CANTOPEN": "it can't be opened; check that it is a file and that this user may read and write it and its folder",
    "SQLITE_IOERR": "reading or writing it failed; check the disk",
}


class Store:
    """One database. Safe from several threads; open it anew after a fork."""

    def __init__(self, location: str | Path) -> None:
        path = _path(location)
        self.folder = path.parent
        self.location = str(path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"ledger {path}: its folder can't be made ({error.strerror}); name another with BATCHGAUGE_LEDGER"
            raise LedgerError(message) from error
        self._engine = _engine(path)
        self._file: tuple[int, int] | None = None
        try:
            self._prepare()
            self._file = _identity(path)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; writers go on meanwhile. Raises `LedgerError`."""
        with self._explained(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, alone from its start: at the end all of it is on disk, or nothing. Raises `LedgerError`."""
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
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise LedgerError(f"ledger {self.location}: {_explanation(error)}") from error
        except SQLAlchemyError as error:
            raise LedgerError(f"ledger {self.location}: {error}") from error
        except UnicodeEncodeError as error:
            message = (
                f"ledger {self.location}: {error.object!r} is not UTF-8 text and can't be recorded; rename the file or job"
            )
            raise LedgerError(message) from error
        except (schema.Damaged, UnicodeDecodeError) as error:  # SQLite quotes a damaged schema as it is
            raise LedgerError(f"ledger {self.location}: {_ADVICE['SQLITE_CORRUPT']} ({error})") from error

    def _prepare(self) -> None:
        with self.read() as connection:
            version = self._version(connection)
        if version is None or version < schema.VERSION:
            version = self._bring_up_to_date()
        if version > schema.VERSION:
            message = (
                f"ledger {self.location} has schema version {version}, this batchgauge knows {schema.VERSION}; "
                "upgrade batchgauge, or name another ledger with BATCHGAUGE_LEDGER"
            )
            raise LedgerError(message)

    def _version(self, connection: Connection) -> int | None:
        """The schema version, or None for an empty database. Raises `LedgerError` when the tables are somebody else's."""
        tables = inspect(connection).get_table_names()
        if not tables:
            return None
        if schema.ledger.name not in tables:
            message = f"{self.location} is a database, but not a ledger; name another with BATCHGAUGE_LEDGER"
            raise LedgerError(message)
        version: int = connection.execute(select(schema.ledger.c.version)).scalar_one()
        return version

    def _bring_up_to_date(self) -> int:
        """Make the tables, or upgrade them, unless another process has by now. Returns the version that they have then."""
        # The switch to WAL is refused while anybody else looks at the file, whatever the busy timeout: one at a time.
        try:
            locks = self.folder / "locks"
            locks.mkdir(exist_ok=True)
            with FileLock(locks / f"ledger-{Path(self.location).name}.lock", timeout=BUSY_SECONDS):
                with self._explained():
                    _switch_to_wal(self._engine)
                with self.write() as connection:
                    version = self._version(connection)
                    if version is None:
                        schema.metadata.create_all(connection)
                        connection.execute(schema.ledger.insert().values(version=schema.VERSION))
                        return schema.VERSION
                    upgrades.upgrade(connection, found=version, wanted=schema.VERSION)
                    return max(version, schema.VERSION)
        except Timeout as error:
            raise LedgerError(f"ledger {self.location}: {_ADVICE['SQLITE_BUSY']}") from error
        except OSError as error:
            raise LedgerError(f"ledger {self.location}: {_ADVICE['SQLITE_READONLY']} ({error.strerror})") from error


@cache  # a run builds the same two for every part, which takes longer than running them
def upsert(table: Table, *, add: tuple[str, ...] = (), replace: tuple[str, ...] = ()) -> Insert:
    """An insert that, where the key exists, adds to the columns `add` and replaces the columns `replace`."""
    statement = insert(table)
    changed = {name: table.c[name] + statement.excluded[name] for name in add}
    changed |= {name: statement.excluded[name] for name in replace}
    keys = list(table.primary_key)
    return statement.on_conflict_do_update(index_elements=keys, set_=changed) if changed else statement.on_conflict_do_nothing()


def _path(location: str | Path) -> Path:
    if isinstance(location, Path) or "://" not in location:
        if not str(location).strip():
            raise LedgerError("the ledger's location is empty; give a file with BATCHGAUGE_LEDGER")
        return _absolute(Path(location))
    try:
        url = make_url(location)
    except (ArgumentError, ValueError) as error:
        scheme = location.split("://", 1)[0]
        message = f"the ledger's URL ({scheme}://…) can't be understood; write a path, or sqlite:////absolute/path"
        raise LedgerError(message) from error
    shown = url.set(query={}).render_as_string(hide_password=True)
    if url.get_backend_name() != "sqlite":
        raise LedgerError(f"ledger {shown}: only SQLite is supported; write a path, or sqlite:////absolute/path")
    if not url.database or url.database == ":memory:" or url.query:
        raise LedgerError(f"ledger {shown}: must name a file and nothing else, as in sqlite:////absolute/path")
    return _absolute(Path(url.database))


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except (RuntimeError, OSError) as error:  # `~name` of nobody; a current folder that is gone
        raise LedgerError(
            f"ledger {path}: can't be made an absolute path ({error}); give one with BATCHGAUGE_LEDGER"
        ) from error


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


def _explanation(error: DBAPIError) -> str:
    name = getattr(error.orig, "sqlite_errorname", "")
    advice = next((text for prefix, text in _ADVICE.items() if name.startswith(prefix)), "the database refused")
    return f"{advice} ({error.orig})"
