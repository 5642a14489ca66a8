"""Committed parts: what need not be scored again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os.path import dirname, normpath

from sqlalchemy import Connection, delete, select

from monitoring.ledger import schema
from monitoring.ledger.records import CommittedPart
from monitoring.ledger.store import upsert
from pipelines.report import PartReport

_parts = schema.parts
_FIELDS = ("name", "source", "output", "fingerprint", "model", "rows_scored")


def commit(connection: Connection, run_id: str, job: str, reports: Sequence[PartReport]) -> None:
    """Record parts, in place of what was recorded for the same outputs."""
    known = {"job": job, "run_id": run_id}
    values = [known | {"folder": _folder(one)} | {field: getattr(one, field) for field in _FIELDS} for one in reports]
    replaced = tuple(column.name for column in _parts.columns if not column.primary_key)
    if values:
        connection.execute(upsert(connection, _parts, replace=replaced), values)


def committed(connection: Connection, job: str, folder: str) -> dict[str, CommittedPart]:
    """The parts of one output folder, by absolute output path."""
    query = select(*(_parts.c[field] for field in _FIELDS)).where(_parts.c.job == job, _parts.c.folder == normpath(folder))
    return {row.output: CommittedPart(**row._mapping) for row in connection.execute(query)}  # noqa: SLF001  SQLAlchemy's public name


def other_owner(connection: Connection, job: str, folder: str) -> str | None:
    """Another job with parts in this output folder, or None."""
    query = select(_parts.c.job).where(_parts.c.folder == normpath(folder), _parts.c.job != job).limit(1)
    owner: str | None = connection.execute(query).scalar()
    return owner


def drop(connection: Connection, job: str, outputs: Iterable[str]) -> None:
    """Forget parts by their output paths."""
    for output in outputs:
        connection.execute(delete(_parts).where(_parts.c.job == job, _parts.c.output == output))


def _folder(report: PartReport) -> str:
    """The output folder: the output's path without the part's name, which may have folders of its own."""
    ending = f"/{report.name}"
    folder = report.output.removesuffix(ending) if report.output.endswith(ending) else dirname(report.output)  # noqa: PTH120  a str, as given
    return normpath(folder or "/")
