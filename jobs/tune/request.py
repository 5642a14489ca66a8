"""What tuning is asked, and what was measured: all that advice is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from jobs.environment import Environment
from jobs.spec import JobSpec
from pipelines.measuring import Comparison, Configuration, Measurement, Rewriting, WholeParts

DEFAULT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What one batch, and the mean row, may take; `origin` is the option or key that says so."""

    seconds: float
    origin: str


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """Which job to measure, for about how long. Without a logical date it is that of the latest scheduled time."""

    spec: JobSpec
    environment: Environment
    logical_date: date | None = None
    seconds: float = DEFAULT_SECONDS
    latency_seconds: float | None = None

    @property
    def limit(self) -> Limit | None:
        """The option's before the job file's."""
        if self.latency_seconds is not None:
            return Limit(self.latency_seconds, "--latency")
        threshold = self.spec.thresholds.latency_seconds
        return None if threshold is None else Limit(threshold, "thresholds.latency_seconds")


@dataclass(frozen=True, slots=True)
class Rows:
    """What was measured on: `holdout` is the name of the one that stood in for an empty input.

    `parts_by_group` is how many parts there would be if each row group were one.
    """

    path: str
    holdout: str | None
    rows: int
    parts: int
    parts_by_group: int
    most_rows: int


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What was measured.

    `current` is what a run would use now, with `auto` settled; `chosen` what was the fastest within the limit (the same, if
    nothing keeps the limit), and `comparison` how the two did against each other (None when they are the same). `whole` is
    where the time of whole parts went in `chosen`, written to a folder in `scratch`; `rewriting` is there when reading is much
    of it. `failures` and `unaffordable` were not measured: the model could not run so, or it would have taken too long.
    `slow_seconds` is how long one try of `current` took, if that left no time for anything else. `notes` say what else was
    different from a run, or in the way.
    """

    job: str
    logical_date: date
    model_version: str
    cores: int
    rows: Rows
    dtype: str
    auto_rows: bool
    auto_workers: bool
    limit: Limit | None
    measurements: tuple[Measurement, ...]
    current: Configuration
    chosen: Configuration
    comparison: Comparison | None
    whole: WholeParts | None
    rewriting: Rewriting | None
    scratch: str
    failures: Mapping[Configuration, str]
    unaffordable: tuple[Configuration, ...]
    slow_seconds: float | None
    notes: tuple[str, ...]

    def of(self, configuration: Configuration) -> Measurement:
        """Its measurement. Raises `KeyError` when there is none."""
        return {one.configuration: one for one in self.measurements}[configuration]
