"""One holdout, from its files to what the model is worth on them: by the very way of scoring, but for what is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from time import monotonic, time
from typing import Any, NamedTuple

from pipelines import finding, planning
from pipelines.cancellation import Cancellation
from pipelines.errors import DataError
from pipelines.finding import InputFile
from pipelines.holdout import HoldoutCounter, HoldoutCounts
from pipelines.planning import Part, Plan
from pipelines.report import HoldoutReport, Stage
from pipelines.scoring import Scorer
from pipelines.settings import HoldoutSettings, PipelineSettings


class Counted(NamedTuple):
    """One part, judged: what was counted, rows that could not be judged by reason, and the seconds that it took."""

    counts: HoldoutCounts
    rejected: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Counting:
    """What is done with a part of a holdout, wherever there is a scorer; it may be sent there."""

    counter: HoldoutCounter

    def __call__(self, scorer: Scorer, part: Part, cancellation: Cancellation) -> Counted:
        """Raises as `Scorer.predict`."""
        began = monotonic()
        scored = scorer.predict(part, self.counter.columns(), cancellation, repeating=self.counter.repeating())
        return Counted(self.counter.count(scored.table, scored.predicted), scored.rejected, monotonic() - began)


Count = Callable[[Counting, Sequence[Part]], Iterator[Sequence[Counted]]]
"""Has the parts counted, by several workers at once."""


class Judge:
    """One holdout of a job, and the model that is judged on it.

    Raises:
        DataError: there are no files.

    """

    def __init__(self, settings: HoldoutSettings, pipeline: PipelineSettings, scorer: Scorer) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._scorer = scorer
        self._files = _files(settings)

    def parts_to_warm_up_on(self) -> tuple[Part, ...]:
        """Its parts, as far as the features decide: how many classes the model knows, a warm one says."""
        return self._planned(self._scorer.check_features).parts

    def plan(self) -> Plan:
        """Its parts. Raises `DataError` for a file that can't be judged; `ModelError` unless the model is warm."""
        counter = self._counter()

        def check(schema: Any) -> None:
            self._scorer.check_features(schema)
            counter.check(schema)

        plan = self._planned(check)
        if plan.rejections:
            raise DataError(plan.rejections[0].error)
        return plan

    def report(
        self, plan: Plan, count: Count, *, started: float, spent: Callable[[Mapping[Stage, float]], None]
    ) -> HoldoutReport:
        """Judge the parts. `started` is when that began, by the monotonic clock; `spent` hears what each part took.

        Raises `DataError` when no row could be judged, `ModelError`, and `Cancelled`.
        """
        counter = self._counter()
        counts, rejected = HoldoutCounts.empty(), Counter[str]()
        for counted, lost, seconds in chain.from_iterable(count(Counting(counter), plan.parts)):
            counts += counted
            rejected.update(lost)
            spent({Stage.EVALUATE: seconds})
        report = counter.report(counts, evaluated_at=time(), rejected=rejected, seconds=monotonic() - started)
        if not report.examples:
            raise DataError(f"path {plan.parts[0].source if plan.parts else 'given'}: no row could be judged{_why(report)}")
        return report

    def _counter(self) -> HoldoutCounter:
        return HoldoutCounter(self._settings, self._scorer.classes, self._pipeline.model.task)

    def _planned(self, check_schema: Callable[[Any], None]) -> Plan:
        return planning.plan(self._files, check_schema=check_schema, part_rows=self._pipeline.input.part_rows)


def _files(settings: HoldoutSettings) -> tuple[InputFile, ...]:
    files = finding.find_files(settings.path)
    if not files:
        raise DataError(f"path {settings.path}: no Parquet files")
    return files


def _why(report: HoldoutReport) -> str:
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in sorted(report.rejected.items()))
    return f" (rejected: {reasons})" if reasons else " (there are none)"
