"""Groups that were pushed to gateways: noted before anything is sent there, until they have been deleted."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, Row, delete, select, update

from monitoring.ledger import records, schema
from monitoring.ledger.store import upsert
from monitoring.state import PushedGroup

_groups = schema.pushed_groups
_LABELS = TypeAdapter(dict[str, str])


class GroupRecord(NamedTuple):
    """A group that this ledger's state of `job` was sent to. `ca_file`: what its gateway's certificate was checked by.

    What the group says of when it was sent lies between `since` and `pushed_at`, Unix seconds: it is the last push that is
    known to have arrived, or the first of all where none is, or one of those after it, whose answer was lost.
    """

    group: PushedGroup
    job: str
    ca_file: str | None
    since: float
    pushed_at: float


def note(connection: Connection, job: str, group: PushedGroup, *, ca_file: str | None, at: float) -> None:
    """See `Ledger.note_push`."""
    values = {"gateway": group.gateway, "labels": _written(group), "job": job, "ca_file": ca_file, "since": at, "pushed_at": at}
    connection.execute(upsert(connection, _groups, replace=("job", "ca_file", "pushed_at")), values)


def arrived(connection: Connection, group: PushedGroup, *, at: float) -> None:
    """Note that what was sent at that time is what the group shows."""
    connection.execute(update(_groups).where(_is(group)).values(since=at))


def drop(connection: Connection, group: PushedGroup) -> None:
    """See `Ledger.drop_group`."""
    connection.execute(delete(_groups).where(_is(group)))


def all_of(connection: Connection) -> tuple[GroupRecord, ...]:
    """See `Ledger.pushed_groups`."""
    found = connection.execute(select(_groups).order_by(_groups.c.gateway, _groups.c.job, _groups.c.labels))
    return tuple(_record(row) for row in found)


def _record(row: Row[Any]) -> GroupRecord:
    labels = records.read(_LABELS, row.labels, f"the labels of a group of job {row.job!r}")
    return GroupRecord(PushedGroup(row.gateway, labels), row.job, row.ca_file, row.since, row.pushed_at)


def _is(group: PushedGroup) -> ColumnElement[bool]:
    return (_groups.c.gateway == group.gateway) & (_groups.c.labels == _written(group))


def _written(group: PushedGroup) -> str:
    return json.dumps(dict(group.labels), sort_keys=True, ensure_ascii=False)
