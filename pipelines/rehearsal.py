"""A job's real model on its real rows, run over and over to be timed, through the same code as a run. Nothing of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter

import pyarrow.parquet as pq
import torch

from pipelines import finding, planning, reading
from pipelines.batches import Batch
from pipelines.cancellation import Cancellation
from pipelines.crew import Span, trial
from pipelines.engines import Function
from pipelines.engines.local import LocalEngine, local_engine
from pipelines.errors import DataError, ModelError, UnreadableError
from pipelines.finding import InputFile
from pipelines.measuring import Configuration, Rewriting, Trial, WholeParts, splits
from pipelines.objects import parquet_file, place
from pipelines.planning import Part, Plan
from pipelines.report import PartReport, Stage, TuningReport
from pipelines.scoring import Scorer
from pipelines.settings import BatchSettings, PipelineSettings
from pipelines.settling import Question, settle
from pipelines.survey import Climb

_MOST_PARTS = 4
_ENOUGH_ROWS = 131_072
"""So many rows are held in memory at most, but for the last part's, of so many parts at most."""
_MOST_BATCH_BYTES = 2**29
"""Of Parquet, in the batches of all workers at once: what the model makes of them comes on top."""
_MOST_PASSES = 5
_READS = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """Where there are rows: a path and its files. `holdout` is the name of the holdout that stands in for an empty input."""

    path: str
    files: tuple[InputFile, ...]
    holdout: str | None


def find_rows(settings: PipelineSettings) -> Origin:
    """The job's input; if there are no rows in it, the first holdout that has some. Raises `DataError` when none has."""
    places = [(settings.input.path, None), *((holdout.path, holdout.name) for holdout in settings.holdout)]
    for path, holdout in places:
        files = finding.find_files(path)
        found = planning.plan(files, check_schema=lambda _: None, part_rows=settings.input.part_rows)
        if found.parts or found.rejections:  # what can't be used is said as a run says it
            return Origin(path, files, holdout)
    looked = " nor in ".join(path for path, _ in places)
    raise DataError(f"there are no rows to measure with in {looked}; give --date a day whose input is still there")


def other_devices(than: str) -> tuple[str, ...]:
    """The kinds of device that this machine has besides that one: the CPU, and the first accelerator if torch sees one."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    kinds = ["cpu", *([accelerator.type] if accelerator else [])]
    return tuple(kind for kind in kinds if kind != torch.device(than).type)


@contextmanager
def _without_exit() -> Iterator[None]:
    """What a model's code does to end the process is an error, in whichever thread. Raises `ModelError`."""
    try:
        yield
    except SystemExit as error:
        raise ModelError(f"the model's code called sys.exit({error.code!r}); it must raise an error that says why") from error


class Rehearsal:
    """One job, ready to be timed. Predictions go to the folder `scratch`, never to the job's output.

    Raises:
        DataError: no file of the origin can be scored, or no part has a valid row.
        ModelError, SpecError: as a run: the model, or the device that the job names, isn't there.

    """

    def __init__(
        self,
        settings: PipelineSettings,
        origin: Origin,
        *,
        folder: Path,
        scratch: Path,
        cores: int,
        cancellation: Cancellation,
        latency_limit_seconds: float | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._settings = _away_from_output(settings, origin, scratch)
        self._folder = folder
        self._scratch = scratch
        self._cores = cores
        self._cancellation = cancellation
        self._latency_limit_seconds = latency_limit_seconds
        self._clock = clock
        scorer = self._load(settings.model.device)
        self.device = scorer.model.device
        self.model_version = scorer.model.version
        self._scorers = {self.device: scorer}
        self._held: dict[str, list[tuple[Callable[[int, int], Batch], int]]] = {}
        self._batch_seconds: dict[Configuration, float] = {}  # of what ran already, the slowest
        self.plan = self._planned(origin, scorer)
        self._parts = self._readable(sorted(self.plan.parts, key=lambda part: -part.rows))
        self.most_rows = self._parts[0].rows

    def current(self) -> Configuration:
        """What a run would use now; `auto` is settled as a run settles it, what is set needs no batch for that.

        Raises (for `auto`):
            DataError: none of the rows that were tried is valid.
            ModelError: the model doesn't fit the data.

        """
        parts, asked = len(self.plan.parts), self._settings.batch
        rows, workers = asked.rows, asked.workers
        if rows == "auto" or workers == "auto":
            found = self._settled(asked)
            rows, workers = found.batch_rows, found.workers
        engine = local_engine(workers, device=self.device, cores=self._cores, parts=parts)
        return Configuration(self.device, min(rows, self.most_rows), engine.workers, engine.threads_per_worker)

    def climbs(self) -> tuple[Climb, ...]:
        """What there is to try: each device, the job's first, with each way to share out the cores."""
        fitting = _MOST_BATCH_BYTES // _bytes_of_a_row(self._parts[0])
        return tuple(
            Climb(device, workers, threads, max(1, min(self.most_rows, fitting // workers)))
            for device in (self.device, *other_devices(self.device))
            for workers, threads in splits(self._cores, len(self.plan.parts))
        )

    @_without_exit()
    def trial(self, configuration: Configuration, seconds: float) -> Trial:
        """Prepare and infer for so long, but each worker a batch of each kind at least (see `Crew`), all of them at once.

        A batch that isn't timed comes before, the first time; and later too, unless one alone would take longer than that.

        Raises `ModelError` when the model can't run so, `DataError` when no row is valid, `Cancelled`.
        """
        warm = self._batch_seconds.get(configuration, 0.0) > seconds
        found = trial(
            self._spans(configuration),
            seconds,
            workers=configuration.workers,
            kernel_threads=configuration.kernel_threads,
            cancellation=self._cancellation,
            clock=self._clock,
            warm=warm,
        )
        self._batch_seconds[configuration] = max(found.latencies)
        return found

    @_without_exit()
    def whole_parts(self, configuration: Configuration, seconds: float) -> WholeParts:
        """Score a part for each worker, from Parquet to predictions on disk, for so long but once at least: the median pass.

        Raises `DataError` when a part can't be read, or predictions can't be written; `ModelError`; `Cancelled`.
        """
        scorer = self._scorer(configuration.device)
        scorer.batch_rows = configuration.rows
        engine = LocalEngine(configuration.workers, configuration.kernel_threads)
        until, passes = self._clock() + seconds, list[WholeParts]()
        while not passes or (len(passes) < _MOST_PASSES and self._clock() + passes[-1].elapsed_seconds <= until):
            began = self._clock()
            parts = self._parts[: configuration.workers]
            score: Function[Part, PartReport] = scorer.score
            reports = tuple(chain.from_iterable(engine.map(score, parts, self._cancellation)))
            self._cancellation.stop_if_requested()
            passes.append(_whole(reports, configuration.workers, self._clock() - began))
        return sorted(passes, key=lambda one: one.elapsed_seconds)[len(passes) // 2]

    def rewriting(self) -> Rewriting:
        """How long the largest part's features take to read, as they lie and written again: whether the file makes it slow.

        Raises `DataError` when it can't be read or written.
        """
        part = self._parts[0]
        columns, groups = self._scorers[self.device].columns, part.last_group - part.first_group + 1
        compression = pq.read_metadata(parquet_file(place(part.source))).row_group(part.first_group).column(0).compression
        table = reading.read(part, columns)
        file = self._scratch / "rewritten.parquet"
        try:
            pq.write_table(table, file, row_group_size=part.rows, compression="zstd")
        except OSError as error:
            raise DataError(f"{file}: can't be written: {error.strerror}") from error
        (again,) = planning.plan((InputFile(file, file.name),), check_schema=lambda _: None, part_rows=part.rows).parts
        seconds, rewritten = (self._seconds_to_read(one, columns) for one in (part, again))
        file.unlink()
        return Rewriting(groups, part.rows, compression.lower(), seconds, rewritten)

    def parts_at(self, part_rows: int) -> int:
        """Into how many parts a run would cut the rows if `input.part_rows` were this."""
        files = [InputFile(place(name), name) for name in dict.fromkeys(part.source for part in self.plan.parts)]
        return len(planning.plan(files, check_schema=lambda _: None, part_rows=part_rows).parts)

    @_without_exit()
    def _load(self, device: str) -> Scorer:
        return Scorer(self._settings.with_model(device=device), self._folder)

    @_without_exit()
    def _settled(self, asked: BatchSettings) -> TuningReport:
        """What a run settles on, with the first part that has valid rows at its beginning."""
        plan = self.plan.parts
        question = Question(
            asked,
            parts=len(plan),
            rows=sum(part.rows for part in plan),
            cores=self._cores,
            limit_seconds=self._latency_limit_seconds,
        )
        problem: DataError | None = None
        for part in self._parts:
            try:
                return settle(self._scorers[self.device], part, question, None, self._cancellation)
            except DataError as error:
                problem = problem or error
        assert problem is not None  # there is a part
        raise problem

    def _scorer(self, device: str) -> Scorer:
        if device not in self._scorers:
            scorer = self._load(device)
            scorer.check_features(pq.read_schema(parquet_file(place(self._parts[0].source))))
            self._scorers[device] = scorer
        return self._scorers[device]

    def _planned(self, origin: Origin, scorer: Scorer) -> Plan:
        check = scorer.check_features if origin.holdout else scorer.check_schema
        plan = planning.plan(origin.files, check_schema=check, part_rows=self._settings.input.part_rows)
        if not plan.parts:
            raise DataError(
                f"no file of {origin.path} can be scored; the first of {len(origin.files)}: {plan.rejections[0].error}"
            )
        return plan

    def _readable(self, parts: Sequence[Part]) -> list[Part]:
        """The first few of the parts that can be read, held in memory."""
        scorer = self._scorers[self.device]
        held = self._held.setdefault(self.device, [])
        kept: list[Part] = []
        problem: UnreadableError | None = None
        for part in parts:
            self._cancellation.stop_if_requested()
            try:
                held.append((scorer.held(part), part.rows))
            except UnreadableError as error:
                problem = error
                continue
            kept.append(part)
            if len(kept) == _MOST_PARTS or sum(one.rows for one in kept) >= _ENOUGH_ROWS:
                break
        if not kept:
            assert problem is not None  # a plan has parts
            raise problem
        return kept

    def _spans(self, configuration: Configuration) -> list[Span]:
        """The rows held, cut into batches of this size as a run cuts them: what is left over of a part is one batch."""
        device, size = configuration.device, configuration.rows
        scorer = self._scorer(device)
        if device not in self._held:
            self._held[device] = [(scorer.held(part), part.rows) for part in self._parts]
        return [
            Span(infer, first, min(first + size, rows)) for infer, rows in self._held[device] for first in range(0, rows, size)
        ]

    def _seconds_to_read(self, part: Part, columns: Sequence[str]) -> float:
        best = float("inf")
        for _ in range(_READS):
            self._cancellation.stop_if_requested()
            began = self._clock()
            reading.read(part, columns)
            best = min(best, self._clock() - began)
        return best


def _whole(reports: Sequence[PartReport], workers: int, elapsed_seconds: float) -> WholeParts:
    if error := next((report.error for report in reports if report.error), None):
        raise DataError(error)
    stages = (Stage.READ, Stage.PREPARE, Stage.INFER, Stage.WRITE)
    seconds = {stage: sum(report.stage_seconds.get(stage, 0.0) for report in reports) for stage in stages}
    return WholeParts(sum(report.rows_read for report in reports), len(reports), workers, elapsed_seconds, seconds)


def _away_from_output(settings: PipelineSettings, origin: Origin, scratch: Path) -> PipelineSettings:
    """The same job, writing elsewhere; a holdout need not have the id columns."""
    updates = {"output": settings.output.model_copy(update={"path": str(scratch)})}
    if origin.holdout is not None:
        return settings.model_copy(update={**updates, "input": settings.input.model_copy(update={"id": ()})})
    return settings.model_copy(update=updates)


def _bytes_of_a_row(part: Part) -> int:
    """About so many, in Parquet before compression."""
    group = pq.read_metadata(parquet_file(place(part.source))).row_group(part.first_group)
    return max(1, int(group.total_byte_size // max(1, group.num_rows)))
