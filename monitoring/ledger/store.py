"""What every database behind the ledger has in common: its tables, its transactions, what is said when they fail.

`sqlite` and `postgresql` have what is each one's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Insert, Select, Table, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from monitoring.ledger import schema, upgrades
from pipelines.errors import LedgerError

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

S = TypeVar("S", bound=Select[*tuple[Any, ...]])

DAMAGED = "it is damaged; restore it from a backup, or move it away to start afresh"


class TransactionLost(LedgerError):  # noqa: N818  it says what happened
    """The connection was lost, and nothing of the transaction was recorded: it can be done again."""


class Hold(Enum):
    """What a holder knows of its lock; true only while it is surely kept."""

    KEPT = "kept"
    UNSURE = "unsure"
    """Nothing was heard of the database for so long that somebody else may have the lock by now."""
    LOST = "lost"
    """Somebody else has taken it, or it was let go."""

    def __bool__(self) -> bool:
        return self is Hold.KEPT


class Store(ABC):
    """One database. Safe from several threads; open it anew after a fork.

    `location` is what may be shown of where it is.
    """

    shared: bool = False
    """Whether hosts can share it."""
    insists_seconds: float = 0.0
    """How long a transaction that was lost is tried again."""

    def __init__(self, engine: Engine, location: str) -> None:
        self._engine = engine
        self.location = location
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where files are kept that belong to the ledger. Raises `LedgerError` when nobody has said so."""

    @abstractmethod
    def lock(self, key: str, *, wait_seconds: float) -> AbstractContextManager[Callable[[], Hold]]:
        """Hold the lock of that name for the `with` block; what is given tells whether it is still held.

        Raises `TimeoutError` when it isn't free within `wait_seconds`, `LedgerError` when it can't be had.
        """

    @abstractmethod
    def read(self) -> AbstractContextManager[Connection]:
        """A consistent view; writers go on meanwhile. Raises `LedgerError`."""

    @abstractmethod
    def write(self, job: str) -> AbstractContextManager[Connection]:
        """One transaction, alone with the job from its start: at the end all of it is on disk, or nothing.

        Raises `LedgerError`.
        """

    @abstractmethod
    def _making(self) -> AbstractContextManager[Connection]:
        """A transaction in which tables are made or changed, by one process at a time."""

    @abstractmethod
    def _explanation(self, error: DBAPIError) -> str:
        """What a database's error means, and what to do."""

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise LedgerError(f"ledger {self.location}: {self._explanation(error)}") from error
        except SQLAlchemyError as error:
            raise LedgerError(f"ledger {self.location}: {error}") from error
        except UnicodeEncodeError as error:
            message = (
                f"ledger {self.location}: {error.object!r} is not UTF-8 text and can't be recorded; rename the file or job"
            )
            raise LedgerError(message) from error
        except (schema.Damaged, UnicodeDecodeError) as error:  # SQLite quotes a damaged schema as it is
            raise LedgerError(f"ledger {self.location}: {DAMAGED} ({error})") from error

    def _prepare(self) -> None:
        with self.read() as connection:
            version = self._version(connection)
        if version is None or version < schema.VERSION:
            with self._making() as connection:
                version = self._bring_up_to_date(connection)
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

    def _bring_up_to_date(self, connection: Connection) -> int:
        """Make the tables, or upgrade them, unless another process has by now. Returns the version that they have then."""
        version = self._version(connection)
        if version is None:
            schema.metadata.create_all(connection)
            connection.execute(schema.ledger.insert().values(version=schema.VERSION))
            return schema.VERSION
        upgrades.upgrade(connection, found=version, wanted=schema.VERSION)
        return max(version, schema.VERSION)


def only(query: S, column: ColumnElement[str], job: str | None) -> S:
    """The query for one job; None leaves it for all."""
    return query if job is None else query.where(column == job)


def upsert(connection: Connection, table: Table, *, add: tuple[str, ...] = (), replace: tuple[str, ...] = ()) -> Insert:
    """An insert that, where the key exists, adds to the columns `add` and replaces the columns `replace`."""
    return _upsert(connection.dialect.name, table, add, replace)


@cache  # a run builds the same few for every part, which takes longer than running them
def _upsert(dialect: str, table: Table, add: tuple[str, ...], replace: tuple[str, ...]) -> Insert:
    statement = _insert(dialect, table)
    changed = {name: table.c[name] + statement.excluded[name] for name in add}
    changed |= {name: statement.excluded[name] for name in replace}
    keys = list(table.primary_key)
    return statement.on_conflict_do_update(index_elements=keys, set_=changed) if changed else statement.on_conflict_do_nothing()


def _insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Both databases say it in the same words, and SQLAlchemy in the same methods. Importing the other's takes long."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert(table)
