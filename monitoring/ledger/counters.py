"""What a report adds to a job's cumulative counters. Pure, apart from `add` and `load`."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

from pydantic import TypeAdapter
from sqlalchemy import Connection, select

from monitoring import names
from monitoring.ledger import records, schema
from monitoring.ledger.retrains import RetrainOutcome
from monitoring.ledger.store import only, upsert
from monitoring.state import JobDefinition
from pipelines.report import Outcome, PartReport, Reason, RunReport, Stage

Key = tuple[str, tuple[str, ...]]
"""Metric name, and label values in the metric's order."""

NANOSECONDS = 1_000_000_000
BUCKET = f"{names.BATCH_LATENCY.name}_bucket"
SUM = f"{names.BATCH_LATENCY.name}_sum"
_IN_NANOSECONDS = frozenset({names.STAGE_SECONDS.name, SUM})
_LABELS = TypeAdapter(tuple[str, ...])
_BOUNDS = (*names.LATENCY_BUCKETS, float("inf"))


def nanoseconds(seconds: float) -> int:
    """Seconds as a whole number, which adds up to the same total in any order."""
    return round(seconds * NANOSECONDS)


def zeros(definition: JobDefinition) -> dict[Key, int]:
    """Every counter that the job can be known to have, at 0: pushed before the first run, so its increase is seen."""
    keys: list[Key] = [(name, ()) for name in (names.REQUESTS.name, names.BATCHES.name, names.BATCHES_OUT_OF_MEMORY.name, SUM)]
    keys += [(names.ROWS_REJECTED.name, (reason,)) for reason in Reason]
    keys += [(names.STAGE_SECONDS.name, (stage,)) for stage in Stage]
    keys += [(names.RUNS.name, (outcome,)) for outcome in Outcome]
    keys += [(BUCKET, (repr(bound),)) for bound in _BOUNDS]
    for holdout in definition.holdouts:
        keys += [(names.EVALUATED_EXAMPLES.name, (holdout,)), (names.CORRECT_EXAMPLES.name, (holdout,))]
    if definition.retrains:
        keys += [(names.MODEL_RETRAINS.name, (outcome,)) for outcome in RetrainOutcome]
    return dict.fromkeys(keys, 0)


def of_parts(reports: Sequence[PartReport]) -> dict[Key, int]:
    """What parts add: rows, batches, rejections, stage seconds and the histogram of batch latencies."""
    tally: Counter[Key] = Counter()
    for report in reports:
        tally[names.REQUESTS.name, ()] += report.rows_scored
        tally[names.BATCHES.name, ()] += len(report.batches)
        tally[names.BATCHES_OUT_OF_MEMORY.name, ()] += report.batches_out_of_memory
        for reason, rows in report.rows_rejected.items():
            tally[names.ROWS_REJECTED.name, (reason,)] += rows
        for stage, seconds in report.stage_seconds.items():
            tally[names.STAGE_SECONDS.name, (stage,)] += nanoseconds(seconds)
        latencies = [batch.latency_seconds for batch in report.batches]
        tally[SUM, ()] += sum(map(nanoseconds, latencies))
        for place, batches in Counter(bisect_left(_BOUNDS, seconds) for seconds in latencies).items():
            tally[BUCKET, (repr(_BOUNDS[place]),)] += batches
    return dict(tally)


def of_run(report: RunReport) -> dict[Key, int]:
    """What the end of a run adds to what its parts have added: the outcome and the holdouts, with their seconds."""
    tally: Counter[Key] = Counter({(names.RUNS.name, (report.outcome,)): 1})
    evaluate_seconds = report.stage_seconds.get(Stage.EVALUATE, 0.0)
    tally[names.STAGE_SECONDS.name, (Stage.EVALUATE,)] += nanoseconds(evaluate_seconds)
    for holdout in report.holdouts:
        if holdout.error is None:
            tally[names.EVALUATED_EXAMPLES.name, (holdout.name,)] += holdout.examples
            tally[names.CORRECT_EXAMPLES.name, (holdout.name,)] += holdout.correct
    return dict(tally)


def of_retrain(outcome: RetrainOutcome) -> dict[Key, int]:
    """What the end of a retraining adds."""
    return {(names.MODEL_RETRAINS.name, (outcome,)): 1}


def add(connection: Connection, job: str, tally: Mapping[Key, int]) -> None:
    """Add a tally to the job's counters. Raises `ValueError` on a negative number: counters never fall."""
    falling = [key for key, value in tally.items() if value < 0]
    if falling:
        message = f"job {job!r}: {falling[0][0]} would fall"
        raise ValueError(message)
    rows = [
        {"job": job, "name": name, "labels": json.dumps(labels, ensure_ascii=False), "value": value}
        for (name, labels), value in tally.items()
    ]
    if rows:
        connection.execute(upsert(connection, schema.counters, add=("value",)), rows)


def stored(connection: Connection, job: str) -> frozenset[Key]:
    """The counters that the job has, as `zeros` names them."""
    table = schema.counters
    found = connection.execute(select(table.c.name, table.c.labels).where(table.c.job == job))
    return frozenset((name, _labels(text)) for name, text in found)


def load(connection: Connection, job: str | None = None) -> dict[str, dict[Key, float]]:
    """The counters of each job, or of one, as `JobState.counters` wants them: seconds in seconds, buckets by index.

    A bucket of a bound that is no longer in `LATENCY_BUCKETS` counts in the next larger one.
    """
    table = schema.counters
    found: dict[str, Counter[Key]] = defaultdict(Counter)
    query = only(select(table.c.job, table.c.name, table.c.labels, table.c.value), table.c.job, job)
    for owner, name, text, value in connection.execute(query):
        found[owner][_shown_key(name, text)] += value
    return {
        owner: {key: value / NANOSECONDS if key[0] in _IN_NANOSECONDS else value for key, value in values.items()}
        for owner, values in found.items()
    }


@lru_cache(maxsize=1_024)  # every job has much the same
def _shown_key(name: str, text: str) -> Key:
    labels = _labels(text)
    return (name, (records.parsed(_bucket, labels, f"the labels {text!r} of {name}"),)) if name == BUCKET else (name, labels)


def _labels(text: str) -> tuple[str, ...]:
    return records.read(_LABELS, text, "the labels of a counter")


def _bucket(labels: tuple[str, ...]) -> str:
    """The index of the bucket that these labels, its bound, name today."""
    return str(bisect_left(_BOUNDS, float(labels[0])))
