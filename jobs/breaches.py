"""Which of the job's limits a run is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pipelines.report import Estimate, RunReport


@dataclass(frozen=True, slots=True)
class Breach:
    """A figure on the wrong side of its threshold. `certain`: the whole 95 % interval is."""

    figure: str
    holdout: str | None
    value: float
    threshold: float
    certain: bool

    def sentence(self) -> str:
        """For a person."""
        side = "below" if self.holdout else "above"
        where = f" on holdout {self.holdout}" if self.holdout else ""
        doubt = "" if self.certain else " (not enough examples to be sure)"
        figure = self.figure.removesuffix("_seconds")
        unit = "" if figure == self.figure else " s"
        return f"{figure} {self.value:.4g}{unit} is {side} the threshold of {self.threshold:g}{unit}{where}{doubt}"


class Limits(Protocol):
    """The job's limits, whether from its file or from the ledger; None means no limit."""

    @property
    def latency_seconds(self) -> float | None:
        """Mean seconds for each row: not above."""

    @property
    def accuracy(self) -> float | None:
        """Not below, from 0 to 1."""

    @property
    def recall(self) -> float | None:
        """Not below, from 0 to 1."""


def breaches(report: RunReport, thresholds: Limits) -> tuple[Breach, ...]:
    """All of them: mean latency first, then accuracy and recall of each holdout. A figure that is absent breaches nothing."""
    return (*_latency(report, thresholds.latency_seconds), *_quality(report, thresholds))


def _latency(report: RunReport, threshold: float | None) -> Iterator[Breach]:
    value = report.latency_seconds
    if threshold is not None and value is not None and value > threshold:
        yield Breach("latency_seconds", None, value, threshold, certain=True)


def _quality(report: RunReport, thresholds: Limits) -> Iterator[Breach]:
    for holdout in report.holdouts:
        yield from _below("accuracy", holdout.name, holdout.accuracy, thresholds.accuracy)
        yield from _below("recall", holdout.name, holdout.recall, thresholds.recall)


def _below(figure: str, holdout: str, estimate: Estimate | None, threshold: float | None) -> Iterator[Breach]:
    if estimate is not None and threshold is not None and estimate.value < threshold:
        yield Breach(figure, holdout, estimate.value, threshold, certain=estimate.upper < threshold)
