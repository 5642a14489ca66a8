"""The run's scorer in another process: loaded there once, from plain values, and warm before its first part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from pipelines.cancellation import Cancellation
from pipelines.entrypoint_files import PythonFile, collected, placed
from pipelines.errors import EngineError, ModelError, UnreadableError
from pipelines.planning import Part
from pipelines.report import ModelReport, TuningReport
from pipelines.scoring import Scorer
from pipelines.settings import PipelineSettings
from pipelines.settling import Question, settle

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a process needs to have the same scorer. `fingerprint` is what that must be."""

    settings: PipelineSettings
    folder: Path
    files: tuple[PythonFile, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What the run has found out: the feature columns, how many classes there are, and how to get warm.

    `part` is None as long as nobody knows one that a scorer gets warm on.
    """

    columns: tuple[str, ...]
    classes: int
    part: Part | None = None
    batch_rows: int | None = None
    kernel_threads: int = 1


@dataclass(frozen=True, slots=True)
class Condition:
    """What a scorer knows of itself: the model, rows to a batch, warnings, peak bytes on an accelerator (None without one)."""

    model: ModelReport
    batch_rows: int
    warnings: tuple[str, ...]
    accelerator_memory_peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling on a worker came to."""

    tuning: TuningReport
    classes: int
    condition: Condition


@dataclass(frozen=True, slots=True)
class There(Generic[Item, Result]):
    """A function of a scorer, an item and a cancellation that can be sent: it is called with the scorer of whoever gets it."""

    recipe: Recipe
    settled: Settled
    function: Callable[[Scorer, Item, Cancellation], Result]

    def __call__(self, item: Item, cancellation: Cancellation) -> Result:
        """What an `Engine` calls."""
        return self.function(_replica(self.recipe).ready(self.settled, cancellation), item, cancellation)


@dataclass(frozen=True, slots=True)
class Settling:
    """Settles, on the worker's scorer, what is asked; see `pipelines.settling.settle`."""

    asked: Question
    known: TuningReport | None

    def __call__(self, scorer: Scorer, part: Part, cancellation: Cancellation) -> Settlement:
        """To be sent by way of `There`."""
        found = settle(scorer, part, self.asked, self.known, cancellation)
        scorer.compile_if_faster(part, cancellation, kernel_threads=self.asked.cores)
        return Settlement(found, scorer.width, condition(scorer))


def recipe(scorer: Scorer, settings: PipelineSettings, folder: Path) -> Recipe:
    """The recipe for the run's scorer. Raises `SpecError` when the entrypoints' files can't be sent."""
    references = (settings.model.factory, settings.input.collate)
    files = collected(references, folder)
    # No more of a job than that: it is sent to other machines.
    mine = PipelineSettings.model_construct(**{name: getattr(settings, name) for name in PipelineSettings.model_fields})
    return Recipe(mine, folder, files, scorer.fingerprint)


def condition(scorer: Scorer, _item: object = None, _cancellation: Cancellation | None = None) -> Condition:
    """How the scorer is; its arguments are those of any function for `There`."""
    return Condition(scorer.model, scorer.batch_rows, scorer.warnings, scorer.accelerator_memory_peak_bytes())


class _Replica:
    """The process's scorer, and what it was made ready with."""

    def __init__(self, recipe: Recipe) -> None:
        folder = placed(recipe.files, recipe.folder)
        self._scorer = Scorer(recipe.settings, folder)
        if self._scorer.fingerprint != recipe.fingerprint:
            raise ModelError(
                "the model file is another one than when the run began; run again, and all is scored with that one"
            )

    def ready(self, settled: Settled, cancellation: Cancellation) -> Scorer:
        """The scorer, warm if there is a part to get warm on. Raises `EngineError` when that can't be read here."""
        scorer, part = self._scorer, settled.part
        scorer.take_over(settled.columns, settled.classes)
        if part is None or scorer.warm:
            return scorer
        threads = settled.kernel_threads
        try:
            scorer.warm_up(part, cancellation, kernel_threads=threads, batch_rows=settled.batch_rows)
        except UnreadableError as error:
            raise unseen(part.source, error) from error
        scorer.compile_if_faster(part, cancellation, kernel_threads=threads)
        return scorer


def unseen(source: str, error: object) -> EngineError:
    """A file that one host can read, and this one, or a worker, can't."""
    return EngineError(
        f"{source}: a worker can't read it, although it is there ({error}); input, holdouts, model and output must lie where "
        "all nodes of the cluster see them at the same path"
    )


@lru_cache(maxsize=1)
def _replica(recipe: Recipe) -> _Replica:
    return _Replica(recipe)
