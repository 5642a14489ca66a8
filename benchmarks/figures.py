"""The figures: who is compared with whom, and what came of it. All are ratios of times taken in the same round."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal

from benchmarks import growth
from benchmarks.handwritten import DATA_LOADER, PANDAS_LOOP
from benchmarks.job_runs import MONITORED, UNMONITORED
from benchmarks.limit import LIMIT
from benchmarks.rounds import Contender, Timings
from benchmarks.sliced import GROUPBY_MEANS, HOLDOUT, SKLEARN_LOOP
from benchmarks.workload import DEEP_MLP, ODD_SHAPES, TRANSFORMER, Shape

Span = Literal["scoring", "elapsed", "peak_bytes"]


@dataclass(frozen=True, slots=True)
class Figure:
    """How many times as fast the contender `measured` is as the contender `against`, over a span of their runs.

    `reach` is what it should come to, in words; empty where nothing was promised. What grows is said the other way
    round: `against` is the larger one, so the figure is how many times as much it takes.
    """

    name: str
    meaning: str
    measured: str
    against: str
    span: Span = "scoring"
    reach: str = ""


def of_shape(contender: str, shape: Shape) -> str:
    """The contender's name when it scores rows of this shape."""
    return f"{contender}, {shape.name}"


def _shape_figure(shape: Shape) -> Figure:
    name = f"shape: {shape.name}"
    return Figure(name, "scoring, as a share of its limit", of_shape(MONITORED, shape), of_shape(LIMIT, shape))


def _compute_figure(name: str, shape: Shape) -> Figure:
    measured, against = of_shape(MONITORED, shape), of_shape(FORWARD_ONLY, shape)
    return Figure(name, f"{shape.name}, as a share of forward only", measured, against, reach="≥ 0.95")


FORWARD_ONLY = "forward only"
COMPUTE_BOUND = (DEEP_MLP, TRANSFORMER)
FIGURES = (
    Figure("pandas", "scoring, against a pandas loop", MONITORED, PANDAS_LOOP, reach="≥ 1.3"),
    Figure("dataloader", "scoring, against a DataLoader loop", MONITORED, DATA_LOADER, reach="≥ 1.6"),
    Figure("whole-run", "from start to end of the run, against a pandas loop", MONITORED, PANDAS_LOOP, "elapsed"),
    Figure("monitoring", "scoring, monitoring on against off", MONITORED, UNMONITORED, reach="≥ 0.99"),
    Figure("limit", "scoring, as a share of the limit", MONITORED, LIMIT, reach="≥ 0.85"),
    _compute_figure("compute-mlp", DEEP_MLP),
    _compute_figure("compute-transformer", TRANSFORMER),
    Figure("memory", "peak memory, ten times the rows", growth.ROWS, growth.TIMES_TEN, "peak_bytes", "≤ 1.1"),
    Figure("growth-rows", "seconds for each row, ten times the rows", growth.ROWS, growth.TIMES_TEN, reach="≤ 1.05"),
    Figure("growth-parts", "1,000 parts against 10 of the same rows", growth.FEW_PARTS, growth.MANY_PARTS, reach="≤ 1.1"),
    *map(_shape_figure, ODD_SHAPES),
    Figure("quality", "400 slices judged, against a scikit-learn loop", HOLDOUT, SKLEARN_LOOP),
    Figure("quality-groupby", "400 slices judged, against groupby means", HOLDOUT, GROUPBY_MEANS),
)


@dataclass(frozen=True, slots=True)
class Result:
    """A figure as it came out: one ratio for each round, above 1 where `measured` was faster."""

    figure: Figure
    measured: Contender
    against: Contender
    ratios: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure itself."""
        return median(self.ratios)


def result(figure: Figure, timings: Timings) -> Result:
    """The figure, from timings of both contenders; of several variants, the one that did best in these rounds."""

    def seconds(contender: Contender) -> list[float]:
        return [getattr(timing, figure.span) for timing in timings[contender]]

    def best(name: str) -> Contender:
        return min((one for one in timings if one.name == name), key=lambda one: median(seconds(one)))

    measured, against = best(figure.measured), best(figure.against)
    ratios = (theirs / ours for ours, theirs in zip(seconds(measured), seconds(against), strict=True))
    return Result(figure, measured, against, tuple(ratios))
