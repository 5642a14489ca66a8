"""The scheduler's own metrics, for its `/metrics`. Never pushed: they are the daemon's."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from monitoring import names
from monitoring.exposition import number

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Prometheus's text format, version 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/."""


@dataclass(frozen=True, slots=True)
class Lags:
    """How late runs were started: how many in each bucket of `LAG_BUCKETS` (the last: above all bounds), and their sum."""

    counts: tuple[int, ...] = (0,) * (len(names.LAG_BUCKETS) + 1)
    sum_seconds: float = 0.0

    def observed(self, seconds: float) -> Lags:
        """With one more."""
        bucket = bisect_left(names.LAG_BUCKETS, seconds)
        counts = (*self.counts[:bucket], self.counts[bucket] + 1, *self.counts[bucket + 1 :])
        return Lags(counts, self.sum_seconds + seconds)


@dataclass(frozen=True, slots=True)
class SchedulerFigures:
    """What the scheduler knows of itself. Timestamps are Unix seconds; None: there was no sync that succeeded yet."""

    jobs: int
    broken_files: int
    runs_started: int
    runs_missed: int
    running: int
    waiting: int
    max_running: int
    sync_failures: int
    last_sync_at: float | None
    ledger_trouble: bool
    began_at: float
    alert_messages: int
    retrains_started: int
    retrains_running: int
    retrains_waiting: int
    lags: Lags = field(default_factory=Lags)


class SchedulerCollector(Collector):
    """Makes families of the figures."""

    def __init__(self, figures: SchedulerFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """The families of `SCHEDULER_TABLE`, in its order; what is not known is absent."""
        figures = self._figures
        values = {
            names.SCHEDULER_JOBS: figures.jobs,
            names.SCHEDULER_BROKEN: figures.broken_files,
            names.SCHEDULER_STARTED_RUNS: figures.runs_started,
            names.SCHEDULER_MISSED_RUNS: figures.runs_missed,
            names.SCHEDULER_RUNNING: figures.running,
            names.SCHEDULER_WAITING: figures.waiting,
            names.SCHEDULER_MAX_RUNNING: figures.max_running,
            names.SCHEDULER_SYNC_FAILURES: figures.sync_failures,
            names.SCHEDULER_LAST_SYNC: figures.last_sync_at,
            names.SCHEDULER_TROUBLE: int(figures.ledger_trouble),
            names.SCHEDULER_ALERTS: figures.alert_messages,
            names.SCHEDULER_STARTED_RETRAINS: figures.retrains_started,
            names.SCHEDULER_RETRAINING: figures.retrains_running,
            names.SCHEDULER_WAITING_RETRAINS: figures.retrains_waiting,
            names.SCHEDULER_BEGAN: figures.began_at,
        }
        for metric in names.SCHEDULER_TABLE:
            if metric == names.SCHEDULER_LAG:
                yield _histogram(metric, figures.lags)
            elif (value := values[metric]) is not None:
                family = Metric(metric.name.removesuffix("_total"), metric.help, metric.kind)
                family.add_sample(metric.name, {}, value)
                yield family


def exposed(figures: SchedulerFigures) -> bytes:
    """The body of a scrape, in the text format of `CONTENT_TYPE`."""
    made = CollectorRegistry(auto_describe=False)  # of its own, so that nothing else gets into it
    made.register(SchedulerCollector(figures))
    return generate_latest(made)


def _histogram(metric: names.Metric, lags: Lags) -> Metric:
    family = Metric(metric.name, metric.help, metric.kind)
    bounds = [*map(number, names.LAG_BUCKETS), "+Inf"]
    for bound, count in zip(bounds, accumulate(lags.counts), strict=True):
        family.add_sample(f"{metric.name}_bucket", {"le": bound}, count)
    family.add_sample(f"{metric.name}_count", {}, sum(lags.counts))
    family.add_sample(f"{metric.name}_sum", {}, lags.sum_seconds)
    return family
