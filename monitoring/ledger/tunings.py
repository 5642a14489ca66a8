"""What was found fastest for a model on a kind of machine, kept until it was measured again."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from monitoring.ledger import schema
from monitoring.ledger.store import upsert

_tunings = schema.tunings
KEPT = 1000
"""More models than anybody has in use on more machines: older findings give way."""


def found(connection: Connection, model: str, machine: str) -> str | None:
    """See `Ledger.tuning`."""
    query = select(_tunings.c.found).where(_tunings.c.model == model, _tunings.c.machine == machine)
    text: str | None = connection.execute(query).scalar()
    return text


def keep(connection: Connection, model: str, machine: str, text: str, *, at: float) -> None:
    """See `Ledger.keep_tuning`."""
    values = {"model": model, "machine": machine, "found": text, "measured_at": at}
    connection.execute(upsert(connection, _tunings, replace=("found", "measured_at")), values)
    newest = select(_tunings.c.model, _tunings.c.machine).order_by(_tunings.c.measured_at.desc())
    for old in connection.execute(newest.offset(KEPT)).all():
        connection.execute(delete(_tunings).where(_tunings.c.model == old.model, _tunings.c.machine == old.machine))
