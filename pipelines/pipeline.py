"""One run's work, in order: find → plan → load the model → warm up → score parts → judge holdouts.

Nothing here knows the ledger: what was committed before, and what is committed now, goes through a `Journal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import Protocol

from pipelines import finding, planning, sink, tuning
from pipelines.cancellation import Cancellation
from pipelines.errors import DataError, ModelError
from pipelines.judging import Judge
from pipelines.objects import Place, place
from pipelines.planning import Part, Plan
from pipelines.report import (
    HoldoutReport,
    ModelReport,
    PartReport,
    Reason,
    Rejection,
    RunReport,
    TuningReport,
    exact_quantiles,
)
from pipelines.scoring import Scorer
from pipelines.settings import HoldoutSettings, PipelineSettings
from pipelines.settling import Question
from pipelines.site import Expense, Site, Task, site
from pipelines.superseded import superseded
from pipelines.tally import Tally


class Committed(Protocol):
    """A part committed by an earlier run."""

    @property
    def source(self) -> str:
        """Absolute path, or URI, of its input file."""

    @property
    def fingerprint(self) -> str:
        """What the input was then."""

    @property
    def model(self) -> str:
        """Which model, and which settings, scored it."""


class Journal(Protocol):
    """Where parts are recorded, outside this package."""

    def loaded(self, model: ModelReport) -> None:
        """The model that will run."""

    def committed(self, output_folder: str) -> Mapping[str, Committed]:
        """Parts committed before, by absolute output path."""

    def add(self, reports: Sequence[PartReport]) -> None:
        """These parts are done (or rejected whole): record them and their counts, durably, before returning."""

    def drop(self, outputs: Iterable[str]) -> None:
        """These output files are gone: forget their parts."""

    def tuning(self, key: str) -> TuningReport | None:
        """What an earlier run on a machine like this one has kept by this key."""

    def keep_tuning(self, key: str, found: TuningReport) -> None:
        """Keep what was measured for the next run."""


class Observer(Protocol):
    """Who watches a run go on."""

    def phase(self, name: str) -> None:
        """What happens next, in a word or two."""

    def planned(self, *, rows: int, rows_skipped: int) -> None:
        """How much there is to score, and how much was committed before."""

    def part(self, report: PartReport) -> None:
        """One part is done."""


class Pipeline:
    """The work of one run. What was found out so far can be read at any moment, also after an error."""

    def __init__(
        self,
        settings: PipelineSettings,
        *,
        folder: Path,
        journal: Journal,
        observer: Observer,
        cancellation: Cancellation,
        cores: int,
        latency_limit_seconds: float | None = None,
        rescore: bool = False,
        whole_drop: bool = False,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._journal = journal
        self._observer = observer
        self._cancellation = cancellation
        self._cores = cores
        self._latency_limit_seconds = latency_limit_seconds
        self._rescore = rescore
        self._whole_drop = whole_drop
        self.tally = Tally()
        self.workers: int | None = None
        self.tuning: TuningReport | None = None
        self.parts_planned = 0
        self.parts_skipped = 0
        self.scoring_seconds = 0.0
        self.holdouts: list[HoldoutReport] = []
        self._site: Site | None = None
        self._warm = False

    def execute(self) -> None:
        """Do all of it. Raises `DataError`, `ModelError`, `SpecError`, `EngineError`, or `Cancelled`."""
        files = self._find()
        self._observer.phase("loading the model")
        with site(self._settings, self._folder, cores=self._cores, cancellation=self._cancellation) as found:
            self._site = found
            self._execute(found, files)

    def _execute(self, at: Site, files: tuple[finding.InputFile, ...]) -> None:
        scorer = at.scorer
        self._journal.loaded(scorer.model)
        self._observer.phase("planning")
        plan = planning.plan(files, check_schema=scorer.check_schema, part_rows=self._settings.input.part_rows)
        self._account(plan, files=len(files))
        todo = self._todo(plan, scorer.fingerprint)
        self._cancellation.stop_if_requested()
        self._observer.phase("warming up")
        self._warm_up(at, todo or plan.parts)
        self._score(at, todo)
        self._remove_superseded(files, plan)
        self._nothing_scored(plan)
        for settings in self._settings.holdout:
            self._cancellation.stop_if_requested()
            self._observer.phase(f"evaluating {settings.name}")
            self.holdouts.append(self._evaluate(at, settings))

    @property
    def accelerator_memory_peak_bytes(self) -> int | None:
        """The most memory allocated on an accelerator so far, by one process; None without one."""
        return self._site.condition.accelerator_memory_peak_bytes if self._site else None

    @property
    def expense(self) -> Expense | None:
        """What other processes have cost; None where this one works alone."""
        return self._site.expense if self._site else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What did not go as the job asked, though nothing was lost by it."""
        return self._site.condition.warnings if self._site else ()

    def filled_in(self, report: RunReport) -> RunReport:
        """The report with all that this pipeline knows put into it."""
        tally, condition = self.tally, self._site.condition if self._site else None
        return replace(
            report,
            model=condition.model if condition else None,
            batch_rows=condition.batch_rows if condition and tally.latencies else None,
            workers=self.workers,
            hosts=self._site.hosts if self._site else (),
            tuning=self.tuning,
            parts_planned=self.parts_planned,
            parts_done=tally.parts_done,
            parts_skipped=self.parts_skipped,
            rows_read=tally.rows_read,
            rows_scored=tally.rows_scored,
            rows_rejected=tally.rows_rejected,
            batches=len(tally.latencies),
            batches_out_of_memory=tally.batches_out_of_memory,
            latency_quantiles=exact_quantiles(tally.latencies),
            stage_seconds=tally.stage_seconds,
            rejections=tally.rejections,
            holdouts=tuple(self.holdouts),
        )

    def _find(self) -> tuple[finding.InputFile, ...]:
        settings = self._settings.input
        files = finding.find_files(settings.path)
        if not files and settings.empty == "fail":
            raise DataError(f"input.path {settings.path}: no Parquet files; is the drop late, or the path wrong?{_EMPTY}")
        inside = f"{self._output_folder}/"
        for file in files:  # by their names alone not every glob can be told from one that finds the output
            if str(file.path).startswith(inside) and sink.source_of(file.path) is not None:
                found = f"finds {file.path}, which a run has written; keep output.path apart"
                raise DataError(f"input.path {settings.path}: {found}")
        return files

    def _account(self, plan: Plan, *, files: int) -> None:
        for rejection in plan.rejections:
            self._reject(rejection)
        if plan.rejections and len(plan.rejections) == files:
            raise DataError(f"no input file can be scored; the first of {files}: {plan.rejections[0].error}")
        if not plan.parts and not plan.rejections and self._settings.input.empty == "fail":
            raise DataError(f"input.path {self._settings.input.path}: {files} files with 0 rows{_EMPTY}")
        self.parts_planned = len(plan.parts)

    def _reject(self, rejection: Rejection) -> None:
        """Count a whole file as rejected; of one without a footer nobody knows the rows."""
        report = PartReport(
            name="",
            source=rejection.source,
            output="",
            fingerprint="",
            model="",
            rows_read=rejection.rows,
            rows_scored=0,
            rows_rejected={Reason.SCHEMA: rejection.rows} if rejection.rows else {},
            stage_seconds={},
            error=rejection.error,
        )
        self._journal.add([report])
        self.tally.add(report)

    def _todo(self, plan: Plan, model: str) -> tuple[Part, ...]:
        committed = self._journal.committed(self._settings.output.path)
        is_there = sink.presence(self._output_folder) if committed else None

        def done(part: Part) -> bool:
            path = self._output(part.name)
            before = committed.get(str(path))
            same = before is not None and (before.fingerprint, before.model) == (part.fingerprint, model)
            return same and is_there is not None and is_there(path) and not self._rescore

        todo = tuple(part for part in plan.parts if not done(part))
        self.parts_skipped = len(plan.parts) - len(todo)
        rows = sum(part.rows for part in todo)
        self._observer.planned(rows=rows, rows_skipped=sum(part.rows for part in plan.parts) - rows)
        return todo

    @property
    def _output_folder(self) -> Place:
        return place(self._settings.output.path)

    def _output(self, name: str) -> Place:
        return self._output_folder / name

    def _warm_up(self, at: Site, parts: tuple[Part, ...]) -> None:
        asked = Question(
            self._settings.batch,
            parts=len(parts),
            rows=sum(part.rows for part in parts),
            cores=self._cores,
            limit_seconds=self._latency_limit_seconds,
            elsewhere=at.elsewhere,
        )
        key = asked.key(at.scorer)
        known = self._journal.tuning(key) if asked.settings.open else None
        for part in tuning.to_measure_on(parts):
            try:
                found = at.settle(part, asked, known)
            except DataError:
                continue  # scoring it will say so, with its rows counted
            self._warm = True
            if asked.settings.open:
                self.tuning = found
                if found is not known:
                    self._journal.keep_tuning(key, found)
            return

    def _score(self, at: Site, todo: tuple[Part, ...]) -> None:
        self._observer.phase("scoring")
        sink.remove_leftovers(self._output_folder)
        if not todo:
            return
        # What is about to be replaced is forgotten first: should this run die between a rename and its commit, the
        # ledger must not vouch for the file with what was there before.
        self._journal.drop([str(self._output(part.name)) for part in todo])
        task: Task[PartReport] = Scorer.score
        scored = at.map(task, todo)
        self.workers = at.workers
        started = monotonic()
        try:
            for reports in scored:
                self._journal.add(reports)
                for report in reports:
                    self.tally.add(report)
                    self._observer.part(report)
        finally:
            self.scoring_seconds = monotonic() - started
        if at.lost:
            sink.remove_leftovers(self._output_folder)
        self._cancellation.stop_if_requested()

    def _remove_superseded(self, files: tuple[finding.InputFile, ...], plan: Plan) -> None:
        folder = self._output_folder
        outputs = superseded(
            files,
            path=self._settings.input.path,
            folder=folder,
            current={str(self._output(part.name)) for part in plan.parts},
            committed=self._journal.committed(str(folder)),
            rejected={rejection.source for rejection in self.tally.rejections},
            whole_drop=self._whole_drop,
        )
        for output in sorted(outputs):
            sink.remove_part(place(output), folder=folder)
        self._journal.drop(outputs)

    def _nothing_scored(self, plan: Plan) -> None:
        unreadable = self.tally.rejections
        if unreadable and plan.parts and not self.tally.parts_done and not self.parts_skipped:
            raise DataError(f"no part of the input can be read; the first: {unreadable[0].error}")

    def _evaluate(self, at: Site, settings: HoldoutSettings) -> HoldoutReport:
        started = monotonic()
        try:
            judge = Judge(settings, self._settings, at.scorer)
            if not self._warm:  # there was no input to warm up on
                self._warm_up(at, judge.parts_to_warm_up_on())
            return judge.report(judge.plan(), at.map, started=started, spent=self.tally.add_seconds)
        except (DataError, ModelError) as error:
            # The predictions are out: a holdout that can't be judged must not take them back.
            message = f"holdout {settings.name!r}: {error}"
            return HoldoutReport(settings.name, min_examples=settings.min_examples, evaluated_at=time(), error=message)
        finally:
            self._cancellation.stop_if_requested()


_EMPTY = ' (set input.empty = "allow" if that is normal)'
