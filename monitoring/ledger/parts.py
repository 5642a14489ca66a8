"""Committed parts: what need not be scored again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os.path import dirname, normpath, realpath
from pathlib import PurePosixPath

from sqlalchemy import Connection, bindparam, delete, func, select

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
    once: dict[str, str] = {}  # sources and models are few, and parts may be a hundred thousand
    return {
        output: CommittedPart(
            name, once.setdefault(source, source), output, fingerprint, once.setdefault(model, model), rows_scored
        )
        for name, source, output, fingerprint, model, rows_scored in connection.execute(query)
    }


def other_owner(connection: Connection, job: str, folder: str) -> str | None:
    """Another job with parts in this output folder, of that folder or of one that it is in; or None."""
    names = [folder] if "://" in folder else [normpath(folder), realpath(folder)]
    owners = (owner for name in dict.fromkeys(names) for owner in _owners(connection, job, name.rstrip("/")))
    return next(owners, None)


def _owners(connection: Connection, job: str, folder: str) -> Iterator[str]:
    inside = select(_parts.c.job).where(_parts.c.folder == normpath(folder)).limit(1)
    # One of them is at an end of the index; to ask for `!= job` would go through all that the job itself has there.
    ends = (connection.execute(inside.order_by(order)).scalar() for order in (_parts.c.job, _parts.c.job.desc()))
    yield from (owner for owner in ends if owner not in {None, job})
    around = [str(one) for one in PurePosixPath(normpath(folder)).parents]
    below = func.substr(_parts.c.output, 1, len(folder) + 1) == f"{folder}/"
    found = connection.execute(select(_parts.c.job).where(_parts.c.folder.in_(around), _parts.c.job != job, below).limit(1))
    yield from (owner for owner in found.scalars())


def drop(connection: Connection, job: str, outputs: Iterable[str]) -> None:
    """Forget parts by their output paths."""
    values = [{"of": job, "at": output} for output in outputs]
    if values:
        connection.execute(delete(_parts).where(_parts.c.job == bindparam("of"), _parts.c.output == bindparam("at")), values)


def _folder(report: PartReport) -> str:
    """The output folder: the output's path without the part's name, which may have folders of its own."""
    ending = f"/{report.name}"
    folder = report.output.removesuffix(ending) if report.output.endswith(ending) else dirname(report.output)  # noqa: PTH120  a str, as given
    return normpath(folder or "/")
