"""From the tables of one version to those of the next.

A step is never changed again: it says what its version was, whatever `schema` says today.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, text

from monitoring.ledger import records
from monitoring.ledger.schema import Damaged

Step = Callable[[Connection], None]


def _to_2(connection: Connection) -> None:
    """Groups that were pushed, as far as version 1 knew them: the newest of each job; and tunings."""
    connection.execute(
        text(
            "CREATE TABLE pushed_groups (gateway TEXT NOT NULL, labels TEXT NOT NULL, job TEXT NOT NULL, ca_file TEXT, "
            "since FLOAT NOT NULL, pushed_at FLOAT NOT NULL, PRIMARY KEY (gateway, labels))"
        )
    )
    connection.execute(
        text(
            "CREATE TABLE tunings (model TEXT NOT NULL, machine TEXT NOT NULL, found TEXT NOT NULL, "
            "measured_at FLOAT NOT NULL, PRIMARY KEY (model, machine))"
        )
    )
    insert = text(
        "INSERT INTO pushed_groups (gateway, labels, job, ca_file, since, pushed_at) "
        "VALUES (:gateway, :labels, :job, :ca_file, :since, :pushed_at)"
    )
    query = text("SELECT job, definition, pushed_group, pushed_at, push_failed_at FROM jobs WHERE pushed_group IS NOT NULL")
    for job, definition, group, since, failed_at in connection.execute(query).all():
        gateway, labels, ca_file = records.parsed(_group_of_1, (definition, group), f"the group of job {job!r}")
        values = {"gateway": gateway, "labels": labels, "job": job, "ca_file": ca_file, "since": since}
        # The push that failed last may have arrived all the same.
        values["pushed_at"] = max(since, failed_at or since)
        connection.execute(insert, values)


def _group_of_1(texts: tuple[str, str]) -> tuple[str, str, str | None]:
    definition, group = map(json.loads, texts)
    labels = json.dumps(group["labels"], sort_keys=True, ensure_ascii=False)
    return group["gateway"], labels, definition["destination"]["ca_file"]


STEPS: Mapping[int, Step] = {2: _to_2}
"""What makes a version of the one before."""


def upgrade(connection: Connection, *, found: int, wanted: int) -> None:
    """Make the tables of version `found` those of version `wanted`. Raises `Damaged` for a version that never was."""
    missing = [version for version in range(found + 1, wanted + 1) if version not in STEPS]
    if missing:
        raise Damaged(f"it says that it has schema version {found}, which no batchgauge has written")
    for version in range(found + 1, wanted + 1):
        STEPS[version](connection)
    connection.execute(text("UPDATE batchgauge_ledger SET version = :version"), {"version": wanted})
