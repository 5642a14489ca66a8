"""The figures: who is compared with whom, and what came of it. All are ratios of times taken in the same round."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal

from benchmarks.handwritten import DATA_LOADER, PANDAS_LOOP
from benchmarks.job_runs import MONITORED, UNMONITORED
from benchmarks.limit import LIMIT
from benchmarks.rounds import Contender, Timings
from benchmarks.sliced import GROUPBY_MEANS, HOLDOUT, SKLEARN_LOOP

Span = Literal["scoring", "elapsed"]


@dataclass(frozen=True, slots=True)
class Figure:
    """How many times as fast the contender `measured` is as the contender `against`, over a span of their runs."""

    name: str
    meaning: str
    measured: str
    against: str
    span: Span = "scoring"


FIGURES = (
    Figure("pandas", "scoring, against a pandas loop", MONITORED, PANDAS_LOOP),
    Figure("dataloader", "scoring, against a DataLoader loop", MONITORED, DATA_LOADER),
    Figure("whole-run", "from start to end of the run, against a pandas loop", MONITORED, PANDAS_LOOP, "elapsed"),
    Figure("monitoring", "scoring, monitoring on against off", MONITORED, UNMONITORED),
    Figure("limit", "scoring, as a share of the limit", MONITORED, LIMIT),
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
