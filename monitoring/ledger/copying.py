"""Moving a ledger: every row of every table, into an empty one, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, text

from monitoring.ledger import jobs, locks, schema
from monitoring.ledger.store import Store
from pipelines.errors import LedgerError, storable

_TABLES = tuple(table for table in schema.metadata.sorted_tables if table is not schema.ledger)
_ROWS = 5_000
"""Read and written at once."""


def copy(source: Store, target: Store) -> Mapping[str, int]:
    """Copy all that `source` knows into `target`; how many rows of each table that was.

    Nobody may be at work on the source meanwhile: its locks are held. Raises `LockHeld` when somebody is, `LedgerError`
    when the target isn't empty; nothing is copied then.
    """
    with ExitStack() as stack:
        stack.enter_context(locks.hold_scheduler(source))
        with source.read() as connection:
            known = jobs.names(connection)
        for job in known:
            for kind in locks.KINDS:
                stack.enter_context(locks.hold(source, kind, job, wait_seconds=0.0))
        read = stack.enter_context(source.read())
        written = stack.enter_context(target.write(""))
        _check_empty(written, target)
        return {table.name: _copy_table(read, written, table) for table in _TABLES}


def _check_empty(connection: Connection, target: Store) -> None:
    for table in _TABLES:
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            message = f"ledger {target.location}: has {table.name} already; name an empty or absent one to copy to"
            raise LedgerError(message)


def _storable(row: dict[str, Any], dialect: str) -> dict[str, Any]:
    """The row as that kind of database can have it: PostgreSQL has no NUL in a text."""
    if dialect != "postgresql":
        return row
    return {name: storable(value) if isinstance(value, str) else value for name, value in row.items()}


def _copy_table(source: Connection, target: Connection, table: Table) -> int:
    rows = 0
    found = source.execution_options(yield_per=_ROWS).execute(select(table))
    for partition in found.mappings().partitions():
        target.execute(insert(table), [_storable(dict(row), target.dialect.name) for row in partition])
        rows += len(partition)
    if "ordinal" in table.c and rows and target.dialect.name == "postgresql":  # SQLite goes on after the highest by itself
        highest = f"(SELECT max(ordinal) FROM {table.name})"  # noqa: S608  our own table
        target.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'ordinal'), {highest})"))
    return rows
