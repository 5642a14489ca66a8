"""A ledger that knows no run of a job whose predictions are on disk: it was lost, or it is another one. That is said once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from jobs.paths import any_day
from jobs.spec import JobSpec
from monitoring.ledger import Ledger
from pipelines import sink
from pipelines.finding import find_files
from pipelines.objects import Place, StoreError
from pipelines.uris import is_uri

_LOOKED_AT = 1_000
"""Files that are looked at, at most: somebody else's may lie there, too."""


def warnings(ledger: Ledger, spec: JobSpec) -> tuple[str, ...]:
    """What to say at the start of a run: nothing, unless it is the first that this ledger knows but not the first there was."""
    if ledger.state(spec.job.name).latest is not None:
        return ()
    try:
        found = next(filter(sink.source_of, islice(_predictions(spec), _LOOKED_AT)), None)
    except StoreError:  # the run itself will say so
        return ()
    if found is None:
        return ()
    warning = (
        f"ledger {ledger.location} knows no earlier run of this job, but one has written {found}: the ledger was lost, or is "
        "another, or the job was forgotten. Its counters begin at zero and everything is scored again, in place; to keep "
        "them, put the ledger back from a backup"
    )
    return (warning,)


def _predictions(spec: JobSpec) -> Iterator[Place]:
    """Predictions of any day, as far as their names tell."""
    if is_uri(spec.output.path):
        yield from (file.path for file in find_files(any_day(spec.output.path)))
        return
    for folder in Path("/").glob(any_day(spec.output.path).lstrip("/")):
        yield from folder.glob("**/[!._]*.parquet")
