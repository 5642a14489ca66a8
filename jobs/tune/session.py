"""One session of tuning: real parts, a scorer for each device, and the measurements. Writes to a temporary folder only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
import pyarrow.parquet as pq
import torch

from jobs.environment import Environment
from jobs.spec import JobSpec
from jobs.tune.request import Tuned, TuneRequest
from monitoring.ledger import Ledger
from monitoring.resources import available_cores
from pipelines import source
from pipelines.cancellation import Cancellation
from pipelines.engines.local import local_engine
from pipelines.errors import DataError, LedgerError
from pipelines.measuring import Configuration, Measuring, configurations
from pipelines.scoring import Scorer
from pipelines.settings import InputSettings
from pipelines.source import Part

MOST_ROWS = 524_288
"""Rows that are scored in one pass, about: enough to tell, and few enough to do it often."""
_LOOK_SECONDS = 0.5
_BUSY_SHARE = 0.1

Say = Callable[[str], None]


def tune(request: TuneRequest, environment: Environment, *, cancellation: Cancellation, say: Say) -> Tuned:
    """Measure the job. `say` is told what is being done.

    Raises `DataError` when there is nothing to measure on, `ModelError` as a run does, `Cancelled`.
    """
    logical_date = request.logical_date or request.spec.logical_date(datetime.now(UTC))
    spec, cores = request.spec.for_date(logical_date), available_cores()
    notes = tuple(_disturbances(environment, spec.job.name, cores))
    say("loading the model")
    with TemporaryDirectory(prefix="batchgauge-tune-") as scratch:
        sample = _sample(spec, Path(scratch))
        scorers = {scorer.model.device: scorer for scorer in (sample.scorer, *_elsewhere(spec, sample, Path(scratch)))}
        current = _current(spec, scorers, sample, cores, cancellation)
        longest = max(part.rows for part in sample.parts)
        tried = tuple(configurations(scorers, cores=cores, parts=sample.planned, longest_part=longest))
        measuring = Measuring(scorers, sample.parts, cores=cores, cancellation=cancellation)
        bound = request.latency_seconds or spec.thresholds.latency_seconds
        measurements = measuring.measure(tried, keep=current, seconds=request.seconds, said=say, bound_seconds=bound)
    return Tuned(
        job=spec.job.name,
        path=sample.path,
        rows=sum(part.rows for part in sample.parts),
        parts=len(sample.parts),
        scratch=str(Path(scratch).parent),
        cores=cores,
        group_rows=_group_rows(sample.parts),
        measurements=measurements,
        current=next(one for one in measurements if one.configuration == current),
        automatic="auto" in (spec.batch.rows, spec.batch.workers),
        bound_seconds=bound,
        notes=(*notes, *sample.notes),
    )


@dataclass(frozen=True, slots=True)
class _Sample:
    """Parts to measure on, the first of `planned`, and the scorer that reads them, on the job's own device."""

    path: str
    parts: tuple[Part, ...]
    planned: int
    scorer: Scorer
    input: InputSettings
    notes: tuple[str, ...] = ()


def _sample(spec: JobSpec, scratch: Path) -> _Sample:
    """Of the input; where there is none, of a holdout, whose columns are the same but for the ids."""
    if found := _of(spec, spec.input.path, spec.input, scratch):
        return found
    without_ids = spec.input.model_copy(update={"id": ()})
    for holdout in spec.holdout:
        if found := _of(spec, holdout.path, without_ids, scratch):
            note = (
                f"input.path {spec.input.path} has no rows, so it was measured on holdout {holdout.name!r}, without id columns"
            )
            return replace(found, notes=(note,))
    holdouts = f", and holdout {spec.holdout[0].name!r} has none either" if spec.holdout else ""
    raise DataError(f"input.path {spec.input.path}: no rows to measure on{holdouts}; name a day that has some with --date")


def _of(spec: JobSpec, path: str, read_as: InputSettings, scratch: Path) -> _Sample | None:
    files = source.find_files(path)
    if not files:
        return None
    scorer = _scorer(spec, spec.model.device, read_as, scratch)
    plan = source.plan(files, check_schema=scorer.check_schema, part_rows=read_as.part_rows)
    if plan.rejections and not plan.parts:
        raise DataError(plan.rejections[0].error)
    taken: list[Part] = []
    for part in plan.parts:
        if taken and sum(one.rows for one in taken) + part.rows > MOST_ROWS:
            break
        taken.append(part)
    return _Sample(path, tuple(taken), len(plan.parts), scorer, read_as) if taken else None


def _group_rows(parts: Sequence[Part]) -> int:
    """Rows in a median row group."""
    metadata = {part.source: pq.read_metadata(part.source) for part in parts}
    groups = ((part.source, group) for part in parts for group in range(part.first_group, part.last_group + 1))
    return int(median(metadata[file].row_group(group).num_rows for file, group in groups))


def _elsewhere(spec: JobSpec, sample: _Sample, scratch: Path) -> Iterator[Scorer]:
    """A scorer for each device that this machine has beside the job's own."""
    own = sample.scorer.model.device
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    others = {"cpu", *([str(accelerator)] if accelerator else [])}
    for device in sorted(others - {own, own.partition(":")[0]}):
        scorer = _scorer(spec, device, sample.input, scratch)
        scorer.check_features(pq.read_schema(sample.parts[0].source))
        yield scorer


def _scorer(spec: JobSpec, device: str, read_as: InputSettings, scratch: Path) -> Scorer:
    model = spec.model.model_copy(update={"device": device})
    output = spec.output.model_copy(update={"path": str(scratch)})
    return Scorer(model, read_as, output, spec.batch, spec.folder)


def _current(
    spec: JobSpec, scorers: Mapping[str, Scorer], sample: _Sample, cores: int, cancellation: Cancellation
) -> Configuration:
    """What a run of today would use; finding that out makes every scorer warm."""
    device = sample.scorer.model.device
    engine = local_engine(spec.batch.workers, device=device, cores=cores, parts=sample.planned)
    for scorer in scorers.values():
        scorer.warm_up(sample.parts[0], cancellation, kernel_threads=engine.threads_per_worker)
    return Configuration(device, engine.workers, engine.threads_per_worker, sample.scorer.batch_rows)


def _disturbances(environment: Environment, job: str, cores: int) -> Iterator[str]:
    """What may spoil the figures, seen before anything is measured. A ledger that isn't there yet is left so."""
    if environment.ledger_file.is_file():
        try:
            with Ledger.open(environment.ledger) as ledger:
                if job in ledger.jobs() and ledger.state(job).running is not None:
                    yield "a run of this job is in progress, and has its share of the machine"
        except LedgerError as error:
            yield f"whether a run of this job is in progress is not known: {error}"
    busy = psutil.cpu_percent(interval=_LOOK_SECONDS) / 100
    if busy > _BUSY_SHARE:
        yield f"other work took {busy * (psutil.cpu_count() or cores):.1f} of this machine's cores before it began"
