"""Where a run's parts are worked on: this machine, or a Ray cluster. The one place that chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pipelines.cancellation import Cancellation
from pipelines.engines import Function, Rest
from pipelines.engines.local import LocalEngine, local_engine
from pipelines.errors import SpecError
from pipelines.planning import Part
from pipelines.replica import Condition, condition
from pipelines.report import TuningReport
from pipelines.scoring import Scorer
from pipelines.settings import EngineSettings, PipelineSettings
from pipelines.settling import Question, settle

Result = TypeVar("Result")
Task = Callable[[Scorer, Part, Cancellation], Result | Rest[Result]]
"""What is done with a part by whoever has a scorer. It may be sent: a method of `Scorer`, or a value that can be called."""


@dataclass(frozen=True, slots=True)
class Expense:
    """What processes beside this one have cost: CPU seconds of all, of so many CPUs, and the largest one's peak of memory."""

    cpu_seconds: float
    cpus: float
    max_resident_memory_bytes: int


class Site(Protocol):
    """The workers of one run.

    `scorer` is this process's: it plans, and knows what was settled. `elsewhere` says what settled choices depend on beside
    this machine.
    """

    scorer: Scorer
    elsewhere: tuple[str | float, ...]

    @property
    def workers(self) -> int | None:
        """Parts worked on at once by the latest `map`; None before it."""

    @property
    def condition(self) -> Condition:
        """How the scorers are."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Other machines, or processes there, that work or worked: their names, sorted; none for this process."""

    @property
    def expense(self) -> Expense | None:
        """What they have cost; None without them."""

    @property
    def lost(self) -> int:
        """Workers that died: they may have left temporary files."""

    def settle(self, part: Part, asked: Question, known: TuningReport | None) -> TuningReport:
        """Get warm on the part, and settle what is asked. Raises as `pipelines.settling.settle`, and `EngineError`."""

    def map(self, task: Task[Result], parts: Sequence[Part]) -> Iterator[tuple[Result, ...]]:
        """What comes of the parts, as `Engine.map` promises."""


class Here:
    """One machine, ours: threads of this process, which share one scorer."""

    elsewhere: tuple[str | float, ...] = ()
    hosts: tuple[str, ...] = ()
    expense: Expense | None = None
    lost = 0

    def __init__(self, settings: PipelineSettings, folder: Path, *, cores: int, cancellation: Cancellation) -> None:
        self.scorer = Scorer(settings, folder)
        self.workers: int | None = None
        self._asked = settings.batch.workers
        self._cores = cores
        self._cancellation = cancellation

    @property
    def condition(self) -> Condition:
        """As `Site.condition` promises."""
        return condition(self.scorer)

    def settle(self, part: Part, asked: Question, known: TuningReport | None) -> TuningReport:
        """As `Site.settle` promises."""
        found = settle(self.scorer, part, asked, known, self._cancellation)
        if self._asked == "auto":
            self._asked = found.workers
        # Not before it is known with how many threads kernels will run: torch compiles for a number of them.
        threads = self._engine(asked.parts).threads_per_worker
        self.scorer.compile_if_faster(part, self._cancellation, kernel_threads=threads)
        return found

    def map(self, task: Task[Result], parts: Sequence[Part]) -> Iterator[tuple[Result, ...]]:
        """As `Site.map` promises."""
        engine = self._engine(len(parts))
        self.workers = engine.workers
        function: Function[Part, Result] = lambda part, cancellation: task(self.scorer, part, cancellation)  # noqa: E731  its type
        return engine.map(function, parts, self._cancellation)

    def _engine(self, parts: int) -> LocalEngine:
        return local_engine(self._asked, device=self.scorer.model.device, cores=self._cores, parts=parts)


def site(settings: PipelineSettings, folder: Path, *, cores: int, cancellation: Cancellation) -> AbstractContextManager[Site]:
    """The workers that the job asks for, for as long as one is inside. `folder` is the job file's.

    Raises:
        EngineError: there is no Ray cluster at the address.
        SpecError: Ray is not installed; an entrypoint can't be loaded.
        ModelError: the model can't be loaded.

    """
    if settings.engine.kind == "local":
        return nullcontext(Here(settings, folder, cores=cores, cancellation=cancellation))
    with _ray_is_an_extra():
        from pipelines.ray_site import ray_site  # noqa: PLC0415  Ray takes long to import
    return ray_site(settings, folder, cancellation=cancellation)


def machines(engine: EngineSettings) -> str:
    """What the engine has to work with now, in words. Raises `EngineError` and `SpecError` as `site`."""
    if engine.kind == "local":
        return "this machine"
    with _ray_is_an_extra():
        from pipelines.engines.ray_cluster import connected, described  # noqa: PLC0415  Ray takes long to import
    with connected(engine.address):
        return f"Ray answers at {engine.address}: {described()}"


@contextmanager
def _ray_is_an_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise SpecError("engine.kind = 'ray' needs Ray, which isn't installed here: pip install 'batchgauge[ray]'") from error
