"""Ways to use a machine as values: what was measured of each, which is the fastest, and whether one surely beats another.

Which are measured, and for how long, is in `pipelines.survey`; what runs a job's real model in them in `pipelines.rehearsal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import comb
from statistics import median

from pipelines.report import Stage, exact_quantiles
from pipelines.tuning import SIZES as SIZES_OF_A_RUN
from pipelines.tuning import WORTH_WHILE

SIZES = (*SIZES_OF_A_RUN, 65_536)
"""The sizes tried first, in rows; the neighbours of the best one follow."""

_LEAST_PAIRS = 6
"""Fewer pairs of trials settle nothing: that all of five agree is chance once in sixteen times."""
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to use the machine: on which device, how many rows to a batch, how many workers with how many threads each."""

    device: str
    rows: int
    workers: int
    kernel_threads: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What a configuration did in one go.

    `rows_per_second` is of preparing and inferring, over all workers; `rows` were inferred, in `prepare_seconds` and
    `infer_seconds` summed over workers; `latencies` are the seconds of each batch, as a run measures them.
    """

    rows_per_second: float
    rows: int
    prepare_seconds: float
    infer_seconds: float
    latencies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A configuration and its trials, one a round; at least one. Figures are over all of them."""

    configuration: Configuration
    trials: tuple[Trial, ...]

    @property
    def rows_per_second(self) -> float:
        """The median of the rounds."""
        return median(trial.rows_per_second for trial in self.trials)

    @property
    def spread(self) -> float | None:
        """Half the range of the rounds, as a share of their median; None when it was tried once."""
        speeds = [trial.rows_per_second for trial in self.trials]
        return (max(speeds) - min(speeds)) / 2 / median(speeds) if len(speeds) > 1 else None

    @property
    def slowest_and_fastest(self) -> tuple[float, float]:
        """Rows per second of the rounds that differ most."""
        speeds = [trial.rows_per_second for trial in self.trials]
        return min(speeds), max(speeds)

    @property
    def seconds_per_row(self) -> float:
        """Seconds of inference, summed over workers, ÷ rows: what a run reports as its mean latency."""
        return sum(trial.infer_seconds for trial in self.trials) / sum(trial.rows for trial in self.trials)

    @property
    def batch_seconds(self) -> tuple[float, float]:
        """Median and 95th percentile (nearest rank) of all batches."""
        quantiles = exact_quantiles((latency for trial in self.trials for latency in trial.latencies), (0.5, 0.95))
        return quantiles[0.5], quantiles[0.95]

    def within(self, limit_seconds: float | None) -> bool:
        """Whether both alerts on latency would be quiet: 95 % of the batches, and the mean row, are within the limit."""
        return limit_seconds is None or max(self.batch_seconds[1], self.seconds_per_row) <= limit_seconds


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times as fast a challenger is as what is set now: one ratio for each pair of fresh trials, side by side.

    They are fresh because whoever is picked as the fastest of many has also been lucky.
    """

    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of the pairs."""
        return median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """What the median lies in with 95 % confidence, whatever the distribution; of fewer than six pairs, their range.

        The k-th smallest and the k-th largest, with the largest k that the sign test allows (Conover, Practical
        Nonparametric Statistics, 3.2).
        """
        ordered, count = sorted(self.ratios), len(self.ratios)
        outside, rank = 0.0, 0
        while (outside := outside + 2 * comb(count, rank) / 2**count) <= 1 - _CONFIDENCE:
            rank += 1
        rank = max(rank, 1)
        return ordered[rank - 1], ordered[count - rank]

    @property
    def noise(self) -> float:
        """Half the interval's width."""
        low, high = self.interval
        return (high - low) / 2

    @property
    def settles(self) -> bool:
        """Whether there are enough pairs for the interval to have its confidence."""
        return len(self.ratios) >= _LEAST_PAIRS

    @property
    def surely_faster(self) -> bool:
        """Whether a change is worth it: faster with confidence, and by more than a batch must be to be made larger."""
        return self.settles and self.interval[0] > 1 and self.ratio * WORTH_WHILE > 1


@dataclass(frozen=True, slots=True)
class WholeParts:
    """Some parts from Parquet to predictions on disk, by the way that a run goes.

    `rows` were read in `parts` parts, by up to `workers` at a time, in `elapsed_seconds` altogether; `stage_seconds` are
    summed over workers.
    """

    rows: int
    parts: int
    workers: int
    elapsed_seconds: float
    stage_seconds: Mapping[Stage, float]

    def share(self, stage: Stage) -> float:
        """The stage's share of the workers' time, from 0 to 1."""
        return self.stage_seconds.get(stage, 0.0) / (sum(self.stage_seconds.values()) or 1.0)

    def times_as_fast(self, stage: Stage, speed: float) -> float:
        """How many times as fast everything would be if that stage were `speed` times as fast (Amdahl, 1967)."""
        share = self.share(stage)
        return 1 / (1 - share + share / speed)


@dataclass(frozen=True, slots=True)
class Rewriting:
    """One part's feature columns read as they lie, and written again as one row group with zstd; seconds of the best try."""

    row_groups: int
    rows: int
    compression: str
    seconds: float
    rewritten_seconds: float


def splits(cores: int, parts: int) -> tuple[tuple[int, int], ...]:
    """The cores shared out, as (workers, kernel threads of each): by powers of two, from one worker to one for each core.

    More workers than parts would have nothing to do.
    """
    most = max(1, min(cores, parts))
    counts = [2**power for power in range(most.bit_length()) if 2**power < most]
    return tuple((workers, max(1, cores // workers)) for workers in (*counts, most))


def fastest(measurements: Iterable[Measurement], limit_seconds: float | None) -> Measurement:
    """The one that is fastest within the limit; of those that are nearly as fast, the one with the fewest rows to a batch.

    Where none keeps the limit, the one whose batches are the quickest.
    """
    found = list(measurements)
    allowed = [one for one in found if one.within(limit_seconds)]
    if not allowed:
        return min(found, key=lambda one: (one.batch_seconds[1], one.configuration.rows))
    best = max(one.rows_per_second for one in allowed)
    near = [one for one in allowed if one.rows_per_second >= best * WORTH_WHILE]
    least = min(one.configuration.rows for one in near)
    return max((one for one in near if one.configuration.rows == least), key=lambda one: one.rows_per_second)
