"""What a run found out, as plain values: the only thing that crosses from scoring to monitoring.

A `PartReport` is the additive delta of one committed part; a `RunReport` is the whole run. Both are
frozen, hold no tensors and no tables, and survive a round trip through JSON.
Counts add and ratios don't: everything that is summed over parts is a count or a number of seconds, and a
ratio is a property, computed once from the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from math import ceil
from typing import NamedTuple


class Stage(StrEnum):
    """Where a run's time goes. Everything done for a holdout is `evaluate`."""

    READ = "read"
    PREPARE = "prepare"
    INFER = "infer"
    WRITE = "write"
    EVALUATE = "evaluate"


class Outcome(StrEnum):
    """How a run ended. `partial`: it went to the end, but something was rejected on the way.

    Two never began. `skipped`: another run stood in its way; `missed`: nothing started it while it was due.
    """

    SUCCESS = "success"
    PARTIAL = "partial"
    FAILED = "failed"
    SKIPPED = "skipped"
    MISSED = "missed"

    @property
    def began(self) -> bool:
        """Whether there was a run at all."""
        return self not in {Outcome.SKIPPED, Outcome.MISSED}


class Reason(StrEnum):
    """Why a row was not scored.

    null: a feature is null; nan, infinity: a feature is not finite (after the cast to the model's dtype);
    output: the model returned NaN or infinity for it; unreadable: its part can't be read; schema: its file
    lacks a column, or has it with another type.
    """

    NULL = "null"
    NAN = "nan"
    INFINITY = "infinity"
    OUTPUT = "output"
    UNREADABLE = "unreadable"
    SCHEMA = "schema"


class Trigger(StrEnum):
    """What started the run."""

    MANUAL = "manual"
    CRON = "cron"
    SCHEDULER = "scheduler"


class BatchRecord(NamedTuple):
    """One batch. Times in seconds; read and write are the part's, shared out by rows.

    `latency_seconds`: tensors on the host → predictions on the host, device synchronised, warm-up excluded.
    """

    part: str
    batch: int
    rows: int
    latency_seconds: float
    read_seconds: float
    prepare_seconds: float
    write_seconds: float

    @property
    def throughput_rows_per_second(self) -> float:
        """Rows ÷ all the seconds one worker spent on them (0 where none passed)."""
        seconds = self.read_seconds + self.prepare_seconds + self.latency_seconds + self.write_seconds
        return self.rows / seconds if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PartReport:
    """The additive delta of one part.

    `name` is the part's file name relative to the output folder, `source` the absolute path of its input
    file. `rows_read == rows_scored + sum(rows_rejected.values())` always. `batches_out_of_memory` counts those that didn't
    fit into memory since the part before: their rows are in smaller ones. `error` is set when the part was rejected whole
    (then nothing was written and it is not committed).
    """

    name: str
    source: str
    output: str
    fingerprint: str
    model: str
    rows_read: int
    rows_scored: int
    rows_rejected: Mapping[Reason, int]
    stage_seconds: Mapping[Stage, float]
    batches: tuple[BatchRecord, ...] = ()
    batches_out_of_memory: int = 0
    error: str | None = None

    def __post_init__(self) -> None:
        rejected = sum(self.rows_rejected.values())
        if self.rows_read != self.rows_scored + rejected:
            message = f"{self.name}: read {self.rows_read} != scored {self.rows_scored} + rejected {rejected}"
            raise ValueError(message)


class Estimate(NamedTuple):
    """A ratio (0 to 1) with its 95 % confidence bounds."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One class of a holdout: `examples` rows are of it, `predicted` rows were said to be, `correct` were both.

    `recall` is None without examples, `precision` is None when it was never predicted.
    """

    name: str
    examples: int
    predicted: int
    correct: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True, slots=True)
class SliceReport:
    """One slice of a holdout. `judged` is False when it has fewer than `min_examples` examples."""

    dimension: str
    value: str
    examples: int
    correct: int
    accuracy: Estimate | None
    recall: Estimate | None
    judged: bool


@dataclass(frozen=True, slots=True)
class HoldoutReport:
    """A model judged on one labelled holdout; figures are None where there is nothing to divide by.

    `confusion` lists the non-zero cells as (true class, predicted class, examples), by index into `classes`.
    `rejected` counts rows that could not be judged, by reason (`label` = no label). `slices_dropped` counts
    the slices that were summed into `__other__`. `evaluated_at` is a Unix timestamp. With `error` set the
    holdout could not be evaluated, and every figure is empty.
    """

    name: str
    min_examples: int
    evaluated_at: float
    examples: int = 0
    correct: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    accuracy: Estimate | None = None
    recall: Estimate | None = None
    precision: float | None = None
    f1_score: float | None = None
    classes: tuple[ClassReport, ...] = ()
    confusion: tuple[tuple[int, int, int], ...] = ()
    slices: tuple[SliceReport, ...] = ()
    slices_dropped: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ModelReport:
    """Which model ran, and how.

    `sha256` is of the weights file; `format` is safetensors, pt2, state_dict or pickle; `precision` is float32 for a model
    that computes as it is, bfloat16 or float16 under autocast. `compiled` says whether `torch.compile` was used; None where
    nobody asked for it.
    """

    version: str
    sha256: str
    format: str
    device: str
    parameters: int
    precision: str = "float32"
    compiled: bool | None = None

    @property
    def manner(self) -> str:
        """Where and how it computes, in words: `cuda:0, bfloat16, compiled`."""
        precision = () if self.precision == "float32" else (self.precision,)
        compiled = () if self.compiled is None else ("compiled" if self.compiled else "not compiled",)
        return ", ".join((self.device, *precision, *compiled))


@dataclass(frozen=True, slots=True)
class Rejection:
    """An input file or part that was rejected whole, and why; `rows` of a file, where its footer tells."""

    source: str
    error: str
    rows: int = 0


@dataclass(frozen=True, slots=True)
class ResourceReport:
    """What a run cost: CPU seconds ÷ (elapsed × cores), peak resident bytes, peak accelerator bytes."""

    cpu_usage_ratio: float | None = None
    max_resident_memory_bytes: int | None = None
    accelerator_memory_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BatchTrial:
    """A batch of so many rows, prepared and inferred, took so long at its best."""

    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkersTrial:
    """So many workers, of so many kernel threads each, would read, prepare and infer so many rows a second together."""

    workers: int
    kernel_threads: int
    rows_per_second: float


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What `auto` was settled to, and what was tried for it: the first of `workers_trials` is the one that was chosen.

    `rows` are those of the run that it was measured for, at the Unix time `measured_at`: an earlier run's, where its choice
    was kept. `workers_trials` is empty where that was not measured, and so is `together_trials`: batches as they go with all
    workers at it, on average, which decides where one alone does not say it.
    """

    batch_rows: int
    workers: int
    rows: int
    measured_at: float
    batch_trials: tuple[BatchTrial, ...]
    workers_trials: tuple[WorkersTrial, ...] = ()
    together_trials: tuple[BatchTrial, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReport:
    """A whole run, as it ended.

    Timestamps are Unix seconds; `elapsed_seconds` (all of it) and `scoring_seconds` (from the first read to the
    last commit: no imports, model load, warm-up or holdouts) are measured on the monotonic clock, so they are
    never negative. `parts_skipped` were already committed with the same input and model. `latency_quantiles` maps
    0.5, 0.95, 0.99 and 1.0 to exact batch latencies (empty without batches). `batch_rows` is what was used in the end, None
    when nothing was scored; `tuning` says how it, and `workers`, came about, where the job leaves them to be measured.
    `batches_out_of_memory` counts batches that didn't fit into memory, whose rows were inferred in smaller ones. `hosts` are
    where workers were, sorted, when they were other processes than the run's: `host` is the run's.
    """

    run_id: str
    job: str
    trigger: Trigger
    logical_date: date
    host: str
    started_at: float
    finished_at: float
    elapsed_seconds: float
    scoring_seconds: float
    outcome: Outcome
    reason: str | None = None
    model: ModelReport | None = None
    batch_rows: int | None = None
    workers: int | None = None
    tuning: TuningReport | None = None
    parts_planned: int = 0
    parts_done: int = 0
    parts_skipped: int = 0
    rows_read: int = 0
    rows_scored: int = 0
    rows_rejected: Mapping[Reason, int] = field(default_factory=dict)
    batches: int = 0
    batches_out_of_memory: int = 0
    latency_quantiles: Mapping[float, float] = field(default_factory=dict)
    stage_seconds: Mapping[Stage, float] = field(default_factory=dict)
    rejections: tuple[Rejection, ...] = ()
    holdouts: tuple[HoldoutReport, ...] = ()
    resources: ResourceReport = field(default_factory=ResourceReport)
    warnings: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def latency_seconds(self) -> float | None:
        """Mean processing time of one request: infer seconds (summed over workers) ÷ rows scored."""
        seconds = self.stage_seconds.get(Stage.INFER)
        return seconds / self.rows_scored if seconds is not None and self.rows_scored else None

    @property
    def throughput_rows_per_second(self) -> float | None:
        """Rows scored ÷ elapsed seconds of scoring; None when nothing was scored."""
        return self.rows_scored / self.scoring_seconds if self.rows_scored and self.scoring_seconds > 0 else None

    @property
    def rows_rejected_total(self) -> int:
        """Rows rejected, for whatever reason."""
        return sum(self.rows_rejected.values())


def exact_quantiles(values: Iterable[float], quantiles: tuple[float, ...] = (0.5, 0.95, 0.99, 1.0)) -> dict[float, float]:
    """Nearest-rank quantiles: the smallest value that at least q of all values don't exceed. Empty in, empty out."""
    ordered = sorted(values)
    return {q: ordered[max(0, ceil(q * len(ordered)) - 1)] for q in quantiles} if ordered else {}
