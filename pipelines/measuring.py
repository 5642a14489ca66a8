"""How fast a job is scored with other batches, workers and devices: measured by scoring real parts, as a run does.

Configurations are measured in turn, round by round, so that what else the machine does meanwhile touches all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil
from statistics import median
from time import perf_counter
from typing import Protocol

from pipelines.cancellation import Cancellation, Cancelled
from pipelines.engines.local import local_engine
from pipelines.errors import DataError
from pipelines.report import PartReport, Stage
from pipelines.source import Part

SIZES = (64, 256, 1024, 2048, 4096, 16_384, 65_536)
"""Rows in a batch that are tried."""

MOST_ROUNDS = 7
_FEWEST_ROUNDS = 3
_LEAST_SECONDS = 0.2
"""A pass over the parts that takes less is repeated, so that what starts the workers doesn't count."""
_WORTH_A_ROUND = 0.7
"""What reaches less than this share of the best throughput is not measured again, nor is what lies beyond it tried."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """How the machine is used: parts at once (`workers`), threads in a kernel of each, rows in a batch."""

    device: str
    workers: int
    kernel_threads: int
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Pass:
    """One measurement: some parts, scored once or more. Latencies are of batches; stage seconds are summed over workers."""

    rows: int
    seconds: float
    latencies: tuple[float, ...]
    stage_seconds: Mapping[Stage, float]

    @property
    def throughput(self) -> float:
        """Rows scored for each second that passed; 0 when none was."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class Measurement:
    """All passes of one configuration, in their order; at least one."""

    configuration: Configuration
    passes: list[Pass] = field(default_factory=list)

    @property
    def throughput(self) -> float:
        """Rows a second: the median over the passes."""
        return median(one.throughput for one in self.passes)

    @property
    def spread(self) -> float:
        """How far the passes are apart: largest less smallest throughput, ÷ median. 0 for a single one."""
        found = [one.throughput for one in self.passes]
        return (max(found) - min(found)) / self.throughput if self.throughput else 0.0

    def latency(self, quantile: float) -> float:
        """The batch latency, in seconds, that this share of all batches did not exceed; 0 without batches."""
        ordered = sorted(latency for one in self.passes for latency in one.latencies)
        return ordered[max(0, ceil(quantile * len(ordered)) - 1)] if ordered else 0.0

    @property
    def seconds_for_each_row(self) -> float:
        """Infer seconds ÷ rows, as `inference_latency_seconds` has it; 0 without rows."""
        rows = sum(one.rows for one in self.passes)
        return sum(one.stage_seconds.get(Stage.INFER, 0.0) for one in self.passes) / rows if rows else 0.0

    @property
    def shares(self) -> dict[Stage, float]:
        """Each stage's share of all seconds; empty when there were none."""
        total = sum(sum(one.stage_seconds.values()) for one in self.passes)
        stages = (Stage.READ, Stage.PREPARE, Stage.INFER, Stage.WRITE)
        summed = {stage: sum(one.stage_seconds.get(stage, 0.0) for one in self.passes) for stage in stages}
        return {stage: seconds / total for stage, seconds in summed.items()} if total else {}


class Scoring(Protocol):
    """What is measured, on one device: `pipelines.scoring.Scorer`."""

    batch_rows: int

    def score(self, part: Part, cancellation: Cancellation) -> PartReport:
        """Score one part."""


def configurations(devices: Iterable[str], *, cores: int, parts: int, longest_part: int) -> Iterator[Configuration]:
    """What is worth trying: on the CPU, one worker, all cores, and what lies between by powers of two; one or two elsewhere.

    There are never more workers than a run has parts, and no batch is larger than `longest_part` rows (but one may be as
    large).
    """
    sizes = [size for size in SIZES if size < longest_part]
    sizes += [longest_part] if longest_part <= SIZES[-1] else []
    for device in devices:
        most = cores if device == "cpu" else 2
        counts = sorted({min(2**power, most, parts) for power in range(most.bit_length())} | {min(most, parts)})
        for workers, rows in product(counts, sizes):
            yield Configuration(
                device, workers, local_engine(workers, device=device, cores=cores, parts=parts).threads_per_worker, rows
            )


class Measuring:
    """Measures configurations on the same parts. `scorers` has one for each device, warm. `clock` counts seconds."""

    def __init__(
        self,
        scorers: Mapping[str, Scoring],
        parts: Sequence[Part],
        *,
        cores: int,
        cancellation: Cancellation,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._scorers = scorers
        self._parts = parts
        self._cores = cores
        self._cancellation = cancellation
        self._clock = clock

    def measure(
        self,
        tried: Sequence[Configuration],
        *,
        keep: Configuration,
        seconds: float,
        said: Callable[[str], None],
        bound_seconds: float | None = None,
    ) -> list[Measurement]:
        """Measure them for about so many seconds; at least `keep`, and that in every round.

        From `keep` on larger and smaller batches are tried as long as they are worth it (or until 95 % of the batches take
        no longer than `bound_seconds`), and then the same with other workers and devices. `said` is told each step.
        Raises `Cancelled`, `DataError` when no row of the parts can be scored, and what scoring raises.
        """
        now = self._clock()
        found: dict[Configuration, Measurement] = {}
        for configuration in self._worth_trying(tried, keep, found, bound_seconds, until=now + seconds / 2):
            said(_step(configuration, 1))
            found[configuration] = Measurement(configuration, [self._pass(configuration)])
        self._again(found, keep, now + seconds, said)
        return list(found.values())

    def _worth_trying(
        self,
        tried: Sequence[Configuration],
        keep: Configuration,
        found: Mapping[Configuration, Measurement],
        bound_seconds: float | None,
        *,
        until: float,
    ) -> Iterator[Configuration]:
        """What to measure next, as far as what was `found` by then lets hope; until it is time to tell apart the best."""
        yield keep
        crews = sorted({(one.device, one.workers) for one in tried}, key=lambda one: _unlike(one, keep))
        for crew in crews:
            sizes = {one.batch_rows: one for one in tried if (one.device, one.workers) == crew}
            best = max(found.values(), key=lambda one: one.throughput).configuration.batch_rows
            start = keep.batch_rows if crew == (keep.device, keep.workers) else min(sizes, key=lambda rows: abs(rows - best))
            larger, smaller = sorted(rows for rows in sizes if rows >= start), sorted(rows for rows in sizes if rows < start)
            for direction, wanted in ((larger, None), (smaller[::-1], bound_seconds)):
                for rows in direction:
                    if self._clock() >= until:
                        return
                    if sizes[rows] not in found:
                        yield sizes[rows]
                    if self._is_hopeless(found[sizes[rows]], found, wanted):
                        break

    @staticmethod
    def _is_hopeless(one: Measurement, found: Mapping[Configuration, Measurement], bound_seconds: float | None) -> bool:
        """Whether what lies beyond it in the same direction need not be tried."""
        if bound_seconds is not None and one.latency(0.95) > bound_seconds:
            return False
        return one.throughput < _WORTH_A_ROUND * max(other.throughput for other in found.values())

    def _again(
        self, found: dict[Configuration, Measurement], keep: Configuration, deadline: float, said: Callable[[str], None]
    ) -> None:
        best = max(one.throughput for one in found.values())
        promising = [one for one in found.values() if one.configuration == keep or one.throughput >= _WORTH_A_ROUND * best]
        for number in range(2, MOST_ROUNDS + 1):
            if number > _FEWEST_ROUNDS and self._clock() >= deadline:
                return
            for measurement in promising:
                said(_step(measurement.configuration, number))
                measurement.passes.append(self._pass(measurement.configuration))

    def _pass(self, configuration: Configuration) -> Pass:
        """All parts, again and again until it has taken long enough to count."""
        scorer = self._scorers[configuration.device]
        scorer.batch_rows = configuration.batch_rows
        engine = local_engine(configuration.workers, device=configuration.device, cores=self._cores, parts=len(self._parts))
        reports: list[PartReport] = []
        started = self._clock()
        while not reports or self._clock() - started < _LEAST_SECONDS:
            reports += engine.map(lambda part: scorer.score(part, self._cancellation), self._parts, self._cancellation)
            if self._cancellation.requested:
                raise Cancelled(self._cancellation.reason or "cancelled")
            if not any(report.rows_scored for report in reports):
                raise DataError(f"{self._parts[0].source}: no row could be scored{_why(reports)}")
        return _summed(reports, self._clock() - started)


def _unlike(crew: tuple[str, int], keep: Configuration) -> tuple[bool, bool, int]:
    """In which order to try devices and workers: as now, other workers, other devices."""
    device, workers = crew
    return device != keep.device, workers != keep.workers, workers


def _summed(reports: Sequence[PartReport], seconds: float) -> Pass:
    stages = {stage: sum(report.stage_seconds.get(stage, 0.0) for report in reports) for stage in Stage}
    return Pass(
        rows=sum(report.rows_scored for report in reports),
        seconds=seconds,
        latencies=tuple(batch.latency_seconds for report in reports for batch in report.batches),
        stage_seconds=stages,
    )


def _why(reports: Sequence[PartReport]) -> str:
    error = next((report.error for report in reports if report.error), None)
    reasons = ", ".join(sorted({str(reason) for report in reports for reason in report.rows_rejected}))
    return f": {error}" if error else f" (rejected: {reasons})" if reasons else ""


def _step(configuration: Configuration, number: int) -> str:
    workers = f"{configuration.workers} worker{'' if configuration.workers == 1 else 's'}"
    return f"round {number}: {configuration.device}, {workers}, batches of {configuration.batch_rows:,}"
