"""What tuning is asked, and what it found out. Imports no pyarrow and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from jobs.spec import JobSpec

if TYPE_CHECKING:
    from pipelines.measuring import Measurement

DEFAULT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """Which job, on which day's data (None: that of the latest scheduled time), for how many seconds.

    `latency_seconds` is what 95 % of the batches may take; None: the job's threshold, if it has one.
    """

    spec: JobSpec
    logical_date: date | None = None
    seconds: float = DEFAULT_SECONDS
    latency_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was measured, and on what: `rows` in `parts` parts of `path`, written to `scratch`.

    `current` is the measurement of what the job does today; `automatic` says that it leaves some of that to auto.
    `group_rows` are the rows in a median row group of the data. `bound_seconds` is what 95 % of the batches may take, if
    anything bounds it. `notes` say what may have spoilt the figures.
    """

    job: str
    path: str
    rows: int
    parts: int
    scratch: str
    cores: int
    group_rows: int
    measurements: Sequence[Measurement]
    current: Measurement
    automatic: bool
    bound_seconds: float | None
    notes: tuple[str, ...] = ()
