"""A champion and a candidate asked about the same labelled rows, by the way that a run takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from time import monotonic, time
from typing import Any

import numpy as np

from pipelines import pairs, planning, tuning
from pipelines.cancellation import Cancellation
from pipelines.comparison import Contest, contest
from pipelines.engines.local import local_engine
from pipelines.errors import DataError, ModelError
from pipelines.exam import Exam
from pipelines.finding import InputFile
from pipelines.holdout import HoldoutCounter, HoldoutCounts
from pipelines.pairs import PairCounter, PairCounts
from pipelines.planning import Part
from pipelines.report import HoldoutReport, ModelReport
from pipelines.scoring import Scorer
from pipelines.settings import PipelineSettings


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it: who took part, and every figure on every holdout and judged slice.

    `judged` is the candidate on the newest day of each exam, as a run of that day would report it, with the day.
    """

    champion: ModelReport
    candidate: ModelReport
    contests: tuple[Contest, ...]
    judged: tuple[tuple[HoldoutReport, date | None], ...]


def compare(
    settings: PipelineSettings,
    candidate: Path,
    exams: Sequence[Exam],
    *,
    folder: Path,
    cores: int,
    cancellation: Cancellation,
) -> Trial:
    """Both models on every exam. `settings` name the champion; `candidate` is a file of the same kind.

    Raises:
        ModelError: one of them can't be loaded or fails, or the candidate is not of the champion's classes, or has no
            answer (NaN, infinity) for a row that the champion has one for. The message says which one.
        DataError: a holdout can't be read, or its labels don't fit.
        Cancelled: between two batches.

    """
    hall = _Hall(settings, candidate, folder=folder, cores=cores, cancellation=cancellation)
    results = [hall.examine(exam) for exam in exams]
    contests = tuple(one for result in results for one in result.contests)
    judged = tuple((result.judged, exam.newest) for result, exam in zip(results, exams, strict=True))
    return Trial(hall.champion.model, hall.candidate.model, contests, judged)


def _with_file(settings: PipelineSettings, file: Path) -> PipelineSettings:
    """The same settings with another model file in the place of theirs."""
    key = "path" if settings.model.path else "weights"
    return settings.with_model(**{key: str(file)}, sha256=None)


@dataclass(frozen=True, slots=True)
class _Counted:
    """One part, or several: both models against each other, and the candidate by itself as far as the newest day goes."""

    pairs: PairCounts
    alone: HoldoutCounts
    rejected: Counter[str]

    def __add__(self, other: _Counted) -> _Counted:
        return _Counted(pairs.add(self.pairs, other.pairs), self.alone + other.alone, self.rejected + other.rejected)


@dataclass(frozen=True, slots=True)
class _Result:
    """One exam's."""

    contests: list[Contest]
    judged: HoldoutReport


class _Hall:
    """Where the models sit, side by side."""

    def __init__(
        self, settings: PipelineSettings, candidate: Path, *, folder: Path, cores: int, cancellation: Cancellation
    ) -> None:
        self._settings = settings
        self._cores = cores
        self._cancellation = cancellation
        self._warm = False

        with _named("champion"):
            self.champion = Scorer(settings, folder)
        with _named("candidate"):
            self.candidate = Scorer(_with_file(settings, candidate), folder)

    def examine(self, exam: Exam) -> _Result:
        """All figures of one holdout. Raises as `compare`."""
        began = monotonic()
        try:
            self._warm_up(self._plan(exam.days, self.champion.check_features, self.candidate.check_features))
            pairing = PairCounter(exam.holdout, self._classes(), self._settings.model.task)
            alone = HoldoutCounter(exam.holdout, self._classes(), self._settings.model.task)
            counted = self._counted(exam, pairing, alone)
        except DataError as error:
            raise DataError(f"holdout {exam.holdout.name!r}: {error}") from error
        found = pairing.pairs(counted.pairs)
        if not found:
            raise DataError(f"holdout {exam.holdout.name!r}: no row has a label and an answer of both models")
        task, name = self._settings.model.task, exam.holdout.name
        entered = (contest(task, name, figure, pair) for pair in found for figure in ("accuracy", "recall"))
        judged = alone.report(counted.alone, evaluated_at=time(), rejected=counted.rejected, seconds=monotonic() - began)
        return _Result([one for one in entered if one is not None], judged)

    def _counted(self, exam: Exam, pairing: PairCounter, alone: HoldoutCounter) -> _Counted:
        newest = frozenset(self._plan(exam.days[:1], alone.check))
        parts = self._plan(exam.days, alone.check)
        device, workers = self.champion.model.device, self._settings.batch.workers
        engine = local_engine(workers, device=device, cores=self._cores, parts=len(parts))

        def count(part: Part, _: Cancellation) -> _Counted:
            return self._count(pairing, alone if part in newest else None, part)

        total = _Counted((), HoldoutCounts.empty(), Counter())
        for counted in chain.from_iterable(engine.map(count, parts, self._cancellation)):
            total += counted
        self._cancellation.check()
        return total

    def _plan(self, days: Sequence[Sequence[InputFile]], *checks: Any) -> tuple[Part, ...]:
        def check(schema: Any) -> None:
            for one in checks:
                one(schema)

        part_rows = self._settings.input.part_rows
        plans = [planning.plan(day, check_schema=check, part_rows=part_rows) for day in days]
        rejections = [rejection for plan in plans for rejection in plan.rejections]
        if rejections:
            raise DataError(rejections[0].error)
        return tuple(part for plan in plans for part in plan.parts)

    def _warm_up(self, parts: Sequence[Part]) -> None:
        """Settle the size of batches, and how many classes there are, on the first part that will do."""
        for part in tuning.to_measure_on(parts):
            if self._warm:
                return
            try:
                with _named("champion"):
                    self.champion.warm_up(part, self._cancellation)
                with _named("candidate"):
                    self.candidate.warm_up(part, self._cancellation)
            except DataError:
                continue  # none of its first rows is valid
            self._warm = True

    def _classes(self) -> tuple[Any, ...]:
        ours, theirs = self.champion.classes, self.candidate.classes
        if ours != theirs:
            raise ModelError(f"the candidate: it tells {len(theirs)} classes apart, the champion {len(ours)}")
        return ours

    def _count(self, pairing: PairCounter, alone: HoldoutCounter | None, part: Part) -> _Counted:
        columns = pairing.columns()
        with _named("champion"):
            ours = self.champion.predict(part, columns, self._cancellation)
        with _named("candidate"):
            theirs = self.candidate.predict(part, columns, self._cancellation)
        answered = np.isin(ours.rows, theirs.rows)
        if not answered.all():
            unanswered = len(answered) - int(answered.sum())
            raise ModelError(
                f"the candidate: {part.source}: returned NaN or infinity for {unanswered:,} rows that the champion can judge"
            )
        paired = pairing.count(ours.table, ours.predicted, theirs.predicted[np.isin(theirs.rows, ours.rows)])
        if alone is None:
            return _Counted(paired, HoldoutCounts.empty(), Counter())
        return _Counted(paired, alone.count(theirs.table, theirs.predicted), Counter(theirs.rejected))


@contextmanager
def _named(who: str) -> Iterator[None]:
    """Errors of a model say which one it was."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"the {who}: {error}") from error
