"""A run's workers on a Ray cluster. This process plans, and alone talks to ledger and gateway; no rows pass through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

from pipelines import replica
from pipelines.cancellation import Cancellation
from pipelines.engines.ray import ray_engine
from pipelines.engines.ray_cluster import connected, described
from pipelines.errors import BatchgaugeError, EngineError, UnreadableError
from pipelines.planning import Part
from pipelines.replica import Condition, Settled, Settlement, Settling, There, condition, unseen
from pipelines.report import PartReport, TuningReport
from pipelines.scoring import Scorer
from pipelines.settings import PipelineSettings
from pipelines.settling import Question
from pipelines.site import Expense, Result, Task


@contextmanager
def ray_site(settings: PipelineSettings, folder: Path, *, cancellation: Cancellation) -> Iterator[RaySite]:
    """See `pipelines.site.site`."""
    with connected(settings.engine.address):
        site = RaySite(settings, folder, cancellation=cancellation)
        try:
            yield site
            site.take_stock()
        finally:
            site.close()


class RaySite:
    """A pool of actors, each with a scorer of its own, made by the recipe of this process's one."""

    def __init__(self, settings: PipelineSettings, folder: Path, *, cancellation: Cancellation) -> None:
        # This machine need not have the workers' device: its own model decides nothing but what the model is.
        self.scorer = Scorer(settings.with_model(device="cpu"), folder)
        self.condition = condition(self.scorer)
        self.workers: int | None = None
        engine = settings.engine
        self.elsewhere: tuple[str | float, ...] = ("ray", engine.cpus_per_worker, engine.accelerators_per_worker)
        self._cpus = engine.cpus_per_worker
        self._asked = settings.batch.workers
        self._cancellation = cancellation
        self._recipe = replica.recipe(self.scorer, settings, folder)
        self._settled: Settled | None = None
        self._engine = ray_engine(
            self._asked, cpus_per_worker=engine.cpus_per_worker, accelerators_per_worker=engine.accelerators_per_worker
        )

    @property
    def hosts(self) -> tuple[str, ...]:
        """As `Site.hosts` promises."""
        return self._engine.hosts

    @property
    def expense(self) -> Expense:
        """As `Site.expense` promises; the CPUs are those that the workers reserved."""
        usage = self._engine.usage
        return Expense(usage.cpu_seconds, self._cpus * (self.workers or 1), usage.max_resident_memory_bytes)

    @property
    def lost(self) -> int:
        """As `Site.lost` promises."""
        return self._engine.lost

    def settle(self, part: Part, asked: Question, known: TuningReport | None) -> TuningReport:
        """As `Site.settle` promises: one worker measures, with the others idle, and the others get warm then."""
        engine = self._engine
        engine.start(asked.parts, self._cancellation)
        threads = engine.threads_per_worker
        alone = replace(asked, settings=asked.settings.model_copy(update={"workers": 1}), parts=1, cores=threads)
        found = self._settlement(part, Settling(alone, known))
        self.condition = found.condition
        self.scorer.take_over(self.scorer.columns, found.classes)
        self.scorer.batch_rows = found.tuning.batch_rows
        self._settled = Settled(self.scorer.columns, found.classes, part, found.tuning.batch_rows, threads)
        engine.everywhere(There(self._recipe, self._settled, condition), self._cancellation)
        return known if known == found.tuning else replace(found.tuning, workers=engine.workers)

    def map(self, task: Task[Result], parts: Sequence[Part]) -> Iterator[tuple[Result, ...]]:
        """As `Site.map` promises. Raises `EngineError` when a worker doesn't see the same files as this host."""
        if parts:
            self._engine.start(len(parts), self._cancellation)
        self.workers = self._engine.workers
        settled = self._settled or Settled(self.scorer.columns, self.scorer.width)
        return self._checked(self._engine.map(There(self._recipe, settled, task), parts, self._cancellation), parts)

    def take_stock(self) -> None:
        """Ask the workers how they are, and keep that; whoever can't say is passed over."""
        try:
            settled = Settled(self.scorer.columns, self.scorer.width)
            found = self._engine.everywhere(There(self._recipe, settled, condition), self._cancellation)
        except BatchgaugeError:
            found = []
        self.condition = self._together(found)

    def close(self) -> None:
        """End the workers."""
        self._engine.close()

    def _settlement(self, part: Part, settling: Settling) -> Settlement:
        there = There(self._recipe, Settled(self.scorer.columns, self.scorer.width), settling)
        try:
            for found in chain.from_iterable(self._engine.map(there, (part,), self._cancellation)):
                return found
        except UnreadableError as error:
            if self.scorer.can_read(part):
                raise unseen(part.source, error) from error
            raise
        self._cancellation.stop_if_requested()
        raise EngineError("the workers said nothing")

    def _checked(self, groups: Iterator[tuple[Result, ...]], parts: Sequence[Part]) -> Iterator[tuple[Result, ...]]:
        for results in groups:
            for result in results:
                if isinstance(result, PartReport):
                    self._check_files(result, parts)
            yield results

    def _check_files(self, report: PartReport, parts: Sequence[Part]) -> None:
        """What a worker can't read, or has written, must be so here too: or the ledger would vouch for something else."""
        if report.error is not None:
            part = next(one for one in parts if one.name == report.name)
            if self.scorer.can_read(part):
                raise unseen(report.source, report.error)
        elif report.output.startswith("/") and not Path(report.output).exists():
            raise EngineError(
                f"{report.output}: a worker has written it, but it isn't there on this host; output.path must lie where all "
                "nodes of the cluster see it at the same path"
            )

    def _together(self, found: Sequence[Condition]) -> Condition:
        peaks = [one.accelerator_memory_peak_bytes for one in found if one.accelerator_memory_peak_bytes is not None]
        warnings = dict.fromkeys(chain.from_iterable(one.warnings for one in found))
        if self.lost:
            warnings[f"workers that were lost: {self.lost}; what they had in hand was done again by others"] = None
        if self._engine.absent:
            warnings[f"workers that could not be started, for want of room: {self._engine.absent}; {described()}"] = None
        latest = found[0] if found else self.condition
        return Condition(
            latest.model,
            min((one.batch_rows for one in found), default=latest.batch_rows),
            tuple(warnings),
            max(peaks, default=None),
        )
