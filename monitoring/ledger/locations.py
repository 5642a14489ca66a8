"""Where a ledger is: a path or a URL, and the store that is behind it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from monitoring.ledger.sqlite import SQLiteStore
from monitoring.ledger.store import Store
from monitoring.urls import is_postgresql
from pipelines.errors import LedgerError

_WAYS = "write a path, sqlite:////absolute/path, or postgresql://user@host/database"


def opened(location: str | Path, folder: Path | None) -> Store:
    """The store at a path or URL; `folder` is for files, where the ledger itself is none. Raises `LedgerError`."""
    if isinstance(location, Path) or "://" not in location:
        if not str(location).strip():
            raise LedgerError("the ledger's location is empty; give a file with BATCHGAUGE_LEDGER")
        return SQLiteStore(_absolute(Path(location)))
    url = _url(location)
    shown = url.set(query={}).render_as_string(hide_password=True)
    if is_postgresql(location):
        try:
            from monitoring.ledger.postgresql import PostgreSQLStore  # noqa: PLC0415  only those who use it wait for it
        except ModuleNotFoundError as error:
            raise LedgerError("a ledger in PostgreSQL needs psycopg: pip install 'batchgauge[postgres]'") from error
        return PostgreSQLStore(url, None if folder is None else _absolute(folder))
    if url.get_backend_name() != "sqlite":
        raise LedgerError(f"ledger {shown}: only SQLite and PostgreSQL are supported; {_WAYS}")
    if not url.database or url.database == ":memory:" or url.query:
        raise LedgerError(f"ledger {shown}: must name a file and nothing else, as in sqlite:////absolute/path")
    return SQLiteStore(_absolute(Path(url.database)))


def _url(location: str) -> URL:
    try:
        url = make_url(location)
    except (ArgumentError, ValueError) as error:
        scheme = location.split("://", 1)[0]
        raise LedgerError(f"the ledger's URL ({scheme}://…) can't be understood; {_WAYS}") from error
    if is_postgresql(location):
        if not url.database:
            raise LedgerError(f"the ledger's URL ({url.drivername}://…) names no database; {_WAYS}")
        return url.set(drivername="postgresql")
    return url


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except (RuntimeError, OSError) as error:  # `~name` of nobody; a current folder that is gone
        raise LedgerError(
            f"ledger {path}: can't be made an absolute path ({error}); give one with BATCHGAUGE_LEDGER"
        ) from error
