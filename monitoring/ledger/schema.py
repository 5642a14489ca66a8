"""The ledger's tables. Any database that SQLAlchemy speaks can hold them.

Counters are whole numbers: rows, batches and runs as they are, seconds as nanoseconds. Whole numbers add up to
the same total in any order, so a total is exact however many processes and parts it came from.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Dialect, Float, Index, Integer, MetaData, Table, Text, TypeDecorator

from pipelines.errors import LedgerError

VERSION = 2
"""Raised whenever a table changes, together with a step in `upgrades`; a ledger with a higher one is refused."""


class Damaged(LedgerError):  # noqa: N818  it says what was found
    """The ledger holds a value that nobody has written so."""


class _Kept(TypeDecorator[Any]):
    """A type that is looked at when it is read: a damaged SQLite file has any kind of value, or none, in any column."""

    impl: Any = Text
    cache_ok = True
    kind: type = str

    def __init__(self, *, null: bool) -> None:
        super().__init__()
        self.null = null

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The value as it is. Raises `Damaged` for one of another kind."""
        del dialect
        if type(value) is self.kind or (self.null and value is None):
            return value
        raise Damaged(f"there is {value!r} where {self.kind.__name__} belongs")


class _Words(_Kept):
    cache_ok = True


class _Whole(_Kept):
    impl: Any = BigInteger
    cache_ok = True
    kind = int


class _Small(_Whole):
    impl = Integer
    cache_ok = True


class _Number(_Kept):
    impl = Float
    cache_ok = True
    kind = float


def _column(
    name: str, kind: type[_Kept], *, null: bool = False, primary_key: bool = False, unique: bool | None = None
) -> Column[Any]:
    return Column(name, kind(null=null), nullable=null, primary_key=primary_key, unique=unique)


# SQLite fills a primary key by itself only when it is an Integer; elsewhere it is a 64-bit identity.
_ORDINAL = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

ledger = Table("batchgauge_ledger", metadata, _column("version", _Small))

jobs = Table(
    "jobs",
    metadata,
    _column("job", _Words, primary_key=True),
    _column("definition", _Words),
    _column("registered_at", _Number),
    _column("sequence", _Whole),
    _column("next_expected_at", _Number, null=True),
    # Every scheduled time up to this one is accounted for: it was run, skipped or missed.
    _column("accounted_until", _Number),
    _column("latest_run_id", _Words, null=True),
    _column("last_success_at", _Number, null=True),
    _column("model", _Words, null=True),
    _column("pushed_sequence", _Whole),
    _column("pushed_at", _Number, null=True),
    _column("pushed_group", _Words, null=True),
    _column("push_error", _Words, null=True),
    _column("push_failed_at", _Number, null=True),
)

counters = Table(
    "counters",
    metadata,
    _column("job", _Words, primary_key=True),
    _column("name", _Words, primary_key=True),
    _column("labels", _Words, primary_key=True),
    _column("value", _Whole),
)

quality = Table(
    "quality",
    metadata,
    _column("job", _Words, primary_key=True),
    _column("holdout", _Words, primary_key=True),
    _column("logical_date", _Words),
    _column("report", _Words),
)

# `outcome` is null while the run is in progress; `rejected` and `stages` are JSON objects, summed part by part.
runs = Table(
    "runs",
    metadata,
    Column("ordinal", _ORDINAL, primary_key=True, autoincrement=True),
    _column("run_id", _Words, unique=True),
    _column("job", _Words),
    _column("trigger", _Words),
    _column("logical_date", _Words),
    _column("host", _Words),
    _column("pid", _Whole, null=True),
    _column("started_at", _Number),
    _column("finished_at", _Number, null=True),
    _column("outcome", _Words, null=True),
    _column("model", _Words, null=True),
    _column("parts_done", _Whole),
    _column("batches", _Whole),
    _column("rows_read", _Whole),
    _column("rows_scored", _Whole),
    _column("rejected", _Words),
    _column("stages", _Words),
    _column("report", _Words, null=True),
    Index("runs_of_job", "job", "ordinal"),
)

parts = Table(
    "parts",
    metadata,
    _column("job", _Words, primary_key=True),
    _column("output", _Words, primary_key=True),
    _column("folder", _Words),
    _column("name", _Words),
    _column("source", _Words),
    _column("fingerprint", _Words),
    _column("model", _Words),
    _column("rows_scored", _Whole),
    _column("run_id", _Words),
    Index("parts_of_folder", "folder", "job"),
)

# `outcome` is null while it is in progress; `alerts` and `figures` are JSON. `after` is put down before the model file is
# switched, so that whoever finds a dead one can tell from the file whether it was.
retrains = Table(
    "retrains",
    metadata,
    Column("ordinal", _ORDINAL, primary_key=True, autoincrement=True),
    _column("retrain_id", _Words, unique=True),
    _column("job", _Words),
    _column("cause", _Words),
    _column("alerts", _Words),
    _column("logical_date", _Words),
    _column("model_path", _Words),
    _column("started_at", _Number),
    _column("finished_at", _Number, null=True),
    _column("outcome", _Words, null=True),
    _column("reason", _Words, null=True),
    _column("figures", _Words),
    _column("before_version", _Words, null=True),
    _column("before_sha256", _Words, null=True),
    _column("after_version", _Words, null=True),
    _column("after_sha256", _Words, null=True),
    Index("retrains_of_job", "job", "ordinal"),
)

# Every group that was ever pushed, noted before it is sent and until we have deleted it; `labels` are JSON, sorted by name.
# What the group says of when it was sent lies between `since` and `pushed_at`.
pushed_groups = Table(
    "pushed_groups",
    metadata,
    _column("gateway", _Words, primary_key=True),
    _column("labels", _Words, primary_key=True),
    _column("job", _Words),
    _column("ca_file", _Words, null=True),
    _column("since", _Number),
    _column("pushed_at", _Number),
)

# What was found fastest for a model on a kind of machine; `found` is JSON.
tunings = Table(
    "tunings",
    metadata,
    _column("model", _Words, primary_key=True),
    _column("machine", _Words, primary_key=True),
    _column("found", _Words),
    _column("measured_at", _Number),
)
