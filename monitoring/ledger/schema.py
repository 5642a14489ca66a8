"""The ledger's tables. Any database that SQLAlchemy speaks can hold them.

Counters are whole numbers: rows, batches and runs as they are, seconds as nanoseconds. Whole numbers add up to
the same total in any order, so a total is exact however many processes and parts it came from.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

VERSION = 1
"""Raised whenever a table changes; a ledger with a higher one is refused."""

# SQLite fills a primary key by itself only when it is an Integer; elsewhere it is a 64-bit identity.
_ORDINAL = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

ledger = Table("batchgauge_ledger", metadata, Column("version", Integer, nullable=False))

jobs = Table(
    "jobs",
    metadata,
    Column("job", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    Column("registered_at", Float, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("next_expected_at", Float),
    # Every scheduled time up to this one is accounted for: it was run, skipped or missed.
    Column("accounted_until", Float, nullable=False),
    Column("latest_run_id", Text),
    Column("last_success_at", Float),
    Column("model", Text),
    Column("pushed_sequence", BigInteger, nullable=False),
    Column("pushed_at", Float),
    Column("pushed_group", Text),
    Column("push_error", Text),
    Column("push_failed_at", Float),
)

counters = Table(
    "counters",
    metadata,
    Column("job", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("labels", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

quality = Table(
    "quality",
    metadata,
    Column("job", Text, primary_key=True),
    Column("holdout", Text, primary_key=True),
    Column("logical_date", Text, nullable=False),
    Column("report", Text, nullable=False),
)

# `outcome` is null while the run is in progress; `rejected` and `stages` are JSON objects, summed part by part.
runs = Table(
    "runs",
    metadata,
    Column("ordinal", _ORDINAL, primary_key=True, autoincrement=True),
    Column("run_id", Text, nullable=False, unique=True),
    Column("job", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("logical_date", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("outcome", Text),
    Column("model", Text),
    Column("parts_done", BigInteger, nullable=False),
    Column("batches", BigInteger, nullable=False),
    Column("rows_read", BigInteger, nullable=False),
    Column("rows_scored", BigInteger, nullable=False),
    Column("rejected", Text, nullable=False),
    Column("stages", Text, nullable=False),
    Column("report", Text),
    Index("runs_of_job", "job", "ordinal"),
)

parts = Table(
    "parts",
    metadata,
    Column("job", Text, primary_key=True),
    Column("output", Text, primary_key=True),
    Column("folder", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("rows_scored", BigInteger, nullable=False),
    Column("run_id", Text, nullable=False),
    Index("parts_of_folder", "folder", "job"),
)

# `outcome` is null while it is in progress; `alerts` and `figures` are JSON. `after` is put down before the model file is
# switched, so that whoever finds a dead one can tell from the file whether it was.
retrains = Table(
    "retrains",
    metadata,
    Column("ordinal", _ORDINAL, primary_key=True, autoincrement=True),
    Column("retrain_id", Text, nullable=False, unique=True),
    Column("job", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("alerts", Text, nullable=False),
    Column("logical_date", Text, nullable=False),
    Column("model_path", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("outcome", Text),
    Column("reason", Text),
    Column("figures", Text, nullable=False),
    Column("before_version", Text),
    Column("before_sha256", Text),
    Column("after_version", Text),
    Column("after_sha256", Text),
    Index("retrains_of_job", "job", "ordinal"),
)
