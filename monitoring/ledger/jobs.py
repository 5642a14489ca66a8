"""Jobs in the ledger: registering, looking up, what was pushed, forgetting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, Row, case, delete, insert, select, update

from monitoring.ledger import counters, records, runs, schema
from monitoring.ledger.records import Revision
from monitoring.ledger.store import only, upsert
from monitoring.state import JobDefinition, JobState, PushedGroup
from pipelines.errors import LedgerError
from pipelines.report import HoldoutReport, ModelReport

_jobs = schema.jobs
_LONGEST_STEP_SECONDS = 86_400.0
"""What was accounted for further in the future than this was so by a clock that was wrong."""


def names(connection: Connection) -> tuple[str, ...]:
    """All jobs, sorted."""
    return tuple(sorted(connection.scalars(select(_jobs.c.job))))


def revisions(connection: Connection) -> dict[str, Revision]:
    """See `Ledger.revisions`."""
    columns = (_jobs.c.job, *(_jobs.c[name] for name in Revision._fields))
    return {job: Revision(*rest) for job, *rest in connection.execute(select(*columns))}


def row(connection: Connection, job: str) -> Row[Any]:
    """The job's row. Raises `LedgerError` naming near matches when the job is unknown."""
    found = connection.execute(select(_jobs).where(_jobs.c.job == job)).first()
    if found is None:
        raise unknown(connection, job)
    return found


def unknown(connection: Connection, job: str) -> LedgerError:
    """The error for a job that isn't registered."""
    known = names(connection)
    near = get_close_matches(job, known, n=3) or known[:5]
    hint = f"known: {', '.join(map(repr, near))}" if near else "the ledger knows none"
    return LedgerError(f"job {job!r} is not in the ledger ({hint}); register or run its job file first")


def raise_sequence(connection: Connection, job: str) -> None:
    """Say that the job's state changed. First in every write: it locks the job. Raises `LedgerError` when unknown."""
    changed = update(_jobs).where(_jobs.c.job == job).values(sequence=_jobs.c.sequence + 1)
    if connection.execute(changed).rowcount == 0:
        raise unknown(connection, job)


def register(connection: Connection, definition: JobDefinition, *, now: float, next_expected_at: float | None) -> bool:
    """See `Ledger.register`."""
    job = definition.job
    text = records.written(records.DEFINITION, definition, f"the definition of job {job!r}")
    found = connection.execute(select(_jobs).where(_jobs.c.job == job)).first()
    if found is None:
        first = {
            "sequence": 1,
            "pushed_sequence": 0,
            "registered_at": now,
            "next_expected_at": next_expected_at,
            "accounted_until": now,
        }
        connection.execute(insert(_jobs).values(job=job, definition=text, **first))
        counters.add(connection, job, counters.zeros(definition))
        return True
    old = records.read(records.DEFINITION, found.definition, f"the definition of job {job!r}")
    rescheduled = (old.schedule, old.timezone) != (definition.schedule, definition.timezone)
    expected = next_expected_at if rescheduled or found.next_expected_at is None else found.next_expected_at
    if rescheduled or found.accounted_until > now + _LONGEST_STEP_SECONDS:
        connection.execute(update(_jobs).where(_jobs.c.job == job).values(accounted_until=now))
    missing = dict.fromkeys(counters.zeros(definition).keys() - counters.stored(connection, job), 0)
    if old != definition or expected != found.next_expected_at or missing:
        raise_sequence(connection, job)
        connection.execute(update(_jobs).where(_jobs.c.job == job).values(definition=text, next_expected_at=expected))
        counters.add(connection, job, missing)
    return False


def accounted_until(connection: Connection, job: str) -> float | None:
    """See `Ledger.accounted_until`."""
    until: float | None = connection.execute(select(_jobs.c.accounted_until).where(_jobs.c.job == job)).scalar()
    return until


def account(connection: Connection, job: str, due_at: float) -> None:
    """Note that every scheduled time up to `due_at` is accounted for. It never goes back by this."""
    latest = case((_jobs.c.accounted_until > due_at, _jobs.c.accounted_until), else_=due_at)
    connection.execute(update(_jobs).where(_jobs.c.job == job).values(accounted_until=latest))


def keep_quality(connection: Connection, job: str, holdout: HoldoutReport, *, logical_date: date, today: date) -> None:
    """Make this the holdout's last evaluation, unless a later day's is known: a backfill must not pass for today.

    A day that hasn't come yet (`--date` in the future) is no reason to keep anything out.
    """
    table = schema.quality
    query = select(table.c.logical_date).where(table.c.job == job, table.c.holdout == holdout.name)
    known = connection.execute(query).scalar()
    day = None if known is None else records.day(known, f"the day of job {job!r}'s figures on holdout {holdout.name!r}")
    if day is not None and logical_date < day <= today:
        return
    text = records.written(records.HOLDOUT, holdout, f"job {job!r}: the report on holdout {holdout.name!r}")
    statement = upsert(connection, table, replace=("logical_date", "report"))
    connection.execute(
        statement, {"job": job, "holdout": holdout.name, "logical_date": logical_date.isoformat(), "report": text}
    )


def definition(connection: Connection, job: str) -> JobDefinition:
    """See `Ledger.definition`."""
    return _definition(row(connection, job))


def _definition(found: Row[Any]) -> JobDefinition:
    return records.read(records.DEFINITION, found.definition, f"the definition of job {found.job!r}")


def state(connection: Connection, job: str) -> JobState:
    """See `Ledger.state`."""
    return _states(connection, [row(connection, job)], job)[0]


def states(connection: Connection) -> tuple[JobState, ...]:
    """See `Ledger.states`."""
    found = connection.execute(select(_jobs)).all()
    return _states(connection, sorted(found, key=lambda row: row.job), None)


def _states(connection: Connection, rows: Sequence[Row[Any]], job: str | None) -> tuple[JobState, ...]:
    """Of these rows, which are that of one job, or all: as many queries for one as for all."""
    counted, running = counters.load(connection, job), runs.running(connection, job)
    latest, quality = runs.latest_reports(connection, job), _quality_texts(connection, job)
    return tuple(
        JobState(
            definition=(definition := _definition(row)),
            sequence=row.sequence,
            counters=counted.get(row.job, {}),
            running=running.get(row.job),
            latest=latest.get(row.job),
            model=None if row.model is None else records.read(records.MODEL, row.model, f"the model of job {row.job!r}"),
            quality=_quality(definition, quality.get(row.job, {})),
            last_success_at=row.last_success_at,
            next_expected_at=row.next_expected_at,
            pushed_sequence=row.pushed_sequence,
            pushed_at=row.pushed_at,
            pushed_group=_pushed_group(row.job, row.pushed_group),
            push_error=row.push_error,
        )
        for row in rows
    )


def _quality_texts(connection: Connection, job: str | None) -> dict[str, dict[str, str]]:
    """The last evaluation of every holdout of each job, or of one, as it is stored."""
    table = schema.quality
    texts: dict[str, dict[str, str]] = defaultdict(dict)
    for row in connection.execute(only(select(table.c.job, table.c.holdout, table.c.report), table.c.job, job)):
        texts[row.job][row.holdout] = row.report
    return texts


def _quality(definition: JobDefinition, texts: Mapping[str, str]) -> dict[str, HoldoutReport]:
    """The last evaluation of every holdout that the job still has."""
    return {
        name: records.read(records.HOLDOUT, texts[name], f"job {definition.job!r}: the report on holdout {name!r}")
        for name in definition.holdouts
        if name in texts
    }


def _pushed_group(job: str, text: str | None) -> PushedGroup | None:
    return None if text is None else records.read(records.PUSHED_GROUP, text, f"the group of job {job!r}")


def mark_pushed(connection: Connection, job: str, *, sequence: int, at: float, group: PushedGroup | None) -> None:
    """See `Ledger.mark_pushed`."""
    newest = case((_jobs.c.pushed_sequence > sequence, _jobs.c.pushed_sequence), else_=sequence)
    values = {"pushed_sequence": newest, "pushed_at": at, "push_error": None, "push_failed_at": None}
    if group is not None:
        values["pushed_group"] = records.written(records.PUSHED_GROUP, group, f"the group of job {job!r}")
    connection.execute(update(_jobs).where(_jobs.c.job == job).values(values))


def set_model(connection: Connection, job: str, model: ModelReport) -> None:
    """Say which model the job has."""
    set_values(connection, job, model=records.written(records.MODEL, model, f"the model of job {job!r}"))


def stood_in(connection: Connection, job: str, *, next_expected_at: float | None, due_at: float | None) -> None:
    """Note when the next run is expected, and that the scheduled time `due_at` is accounted for; None changes nothing."""
    if next_expected_at is not None:
        set_values(connection, job, next_expected_at=next_expected_at)
    if due_at is not None:
        account(connection, job, due_at)


def set_values(connection: Connection, job: str, **values: str | float) -> None:
    """Put values into the job's row."""
    connection.execute(update(_jobs).where(_jobs.c.job == job).values(**values))


def unset_group(connection: Connection, group: PushedGroup) -> None:
    """Let no job think that its state is in this group."""
    job = group.labels["job"]
    text: str | None = connection.execute(select(_jobs.c.pushed_group).where(_jobs.c.job == job)).scalar()
    if _pushed_group(job, text) == group:
        connection.execute(update(_jobs).where(_jobs.c.job == job).values(pushed_group=None))


def mark_push_failed(connection: Connection, job: str, *, error: str, at: float) -> None:
    """See `Ledger.mark_push_failed`."""
    connection.execute(update(_jobs).where(_jobs.c.job == job).values(push_error=error, push_failed_at=at))


def forget(connection: Connection, job: str) -> None:
    """See `Ledger.forget`."""
    row(connection, job)
    for table in (schema.parts, schema.runs, schema.retrains, schema.quality, schema.counters, schema.jobs):
        connection.execute(delete(table).where(table.c.job == job))
