"""A job with 10,000 series: rendered and pushed by us, encoded by prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, time

from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from benchmarks import known_jobs
from benchmarks.rounds import Contender, Timing
from monitoring import exposition, push
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger

RENDERED, RENDERED_AND_PUT, DELIVERED = "render", "render and PUT", "deliver from the ledger"
CLIENT, CLIENT_GAUGES = "prometheus_client, one collector", "prometheus_client, labelled gauges"
JOB = "many slices"
_SLICES = 1_428
"""With seven series each about 10,000, which is the most that is shown of a job."""


def contenders(folder: Path, gateway: str) -> tuple[Contender, ...]:
    """The same samples by five ways. `folder` gets a ledger."""
    ledger = Ledger.open(folder / "many slices.db")
    known_jobs.add(ledger, JOB, gateway=gateway, slices=_SLICES)
    state = ledger.state(JOB)
    families = list(text_string_to_metric_families(exposition.render(state, pushed_at=time()).decode()))
    destination = Gateway(gateway)
    registry = CollectorRegistry()
    registry.register(_Families(families))
    series = sum(len(family.samples) for family in families)
    ways: dict[str, tuple[Callable[[], object], str]] = {
        RENDERED: (lambda: exposition.render(state, pushed_at=time()), "state → text"),
        RENDERED_AND_PUT: (
            lambda: destination.put({"job": JOB}, exposition.render(state, pushed_at=time())),
            "state → text → gzip → PUT to a real Pushgateway, its whole answer read",
        ),
        DELIVERED: (lambda: push.deliver(ledger, JOB), "the whole push: locks, ledger → state → … → answer read → ledger"),
        CLIENT: (lambda: generate_latest(registry), "generate_latest of a collector whose families are made already"),
        CLIENT_GAUGES: (lambda: generate_latest(_gauges(families)), "Gauge.labels(…).set(…) of each, then generate_latest"),
    }
    return tuple(Contender(name, f"{series:,} series: {settings}", _timed(way)) for name, (way, settings) in ways.items())


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Them."""
        return iter(self._families)


def _gauges(families: Sequence[Metric]) -> CollectorRegistry:
    """What a person writes who sets each value."""
    registry = CollectorRegistry()
    for family in families:
        for name in dict.fromkeys(sample.name for sample in family.samples):
            samples = [sample for sample in family.samples if sample.name == name]
            names = list(samples[0].labels)
            gauge = Gauge(name, family.documentation, names, registry=registry)
            for sample in samples:
                (gauge.labels(**sample.labels) if names else gauge).set(sample.value)
    return registry


def _timed(way: Callable[[], object]) -> Callable[[], Timing]:
    def run() -> Timing:
        started = perf_counter()
        way()
        seconds = perf_counter() - started
        return Timing(seconds, seconds)

    return run
