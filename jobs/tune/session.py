"""One session of tuning: find rows → load the model → survey → duel → whole parts. Writes to a temporary folder alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter

import psutil

from jobs.spec import JobSpec
from jobs.tune.request import Rows, TuneRequest, TuneResult
from jobs.tune.surroundings import Others, disturbance, run_in_progress, same_filesystem, scratch_beside
from monitoring.resources import available_cores
from pipelines.cancellation import Cancellation
from pipelines.errors import DataError
from pipelines.measuring import Comparison, Configuration, Rewriting, WholeParts
from pipelines.objects import place
from pipelines.rehearsal import Origin, Rehearsal, find_rows
from pipelines.report import Stage
from pipelines.survey import Survey
from pipelines.uris import is_uri

SCOUTING, ROUNDS, DUEL, WHOLE = 0.25, 0.4, 0.2, 0.15
"""How the time is shared out."""
READING_MATTERS = 0.3
"""From this share of a part's time on, it is worth measuring whether another file would be read faster."""

Watch = Callable[[str, str], None]
"""Hears what is done now, in a few words, and with what."""


def tune(
    request: TuneRequest, *, watch: Watch, cancellation: Cancellation, clock: Callable[[], float] = perf_counter
) -> TuneResult:
    """Measure the job.

    Raises:
        DataError: there are no rows to measure with, or none that can be scored.
        ModelError, SpecError: as a run.
        Cancelled: at once, when asked to stop.

    """
    logical_date = request.logical_date or request.spec.logical_date(datetime.now(UTC))
    spec = request.spec.for_date(logical_date)
    with scratch_beside(place(spec.output.path)) as scratch:
        watch("finding rows", "")
        origin = find_rows(spec)
        watch("loading the model", "")
        rehearsal = Rehearsal(
            spec,
            origin,
            folder=spec.folder,
            scratch=scratch,
            cores=available_cores(),
            cancellation=cancellation,
            latency_limit_seconds=spec.thresholds.latency_seconds,
            clock=clock,
        )
        session = _Session(
            request, logical_date, spec=spec, origin=origin, rehearsal=rehearsal, scratch=scratch, watch=watch, clock=clock
        )
        return session.result()


class _Session:
    """Everything of one session, put together."""

    def __init__(
        self,
        request: TuneRequest,
        logical_date: date,
        *,
        spec: JobSpec,
        origin: Origin,
        rehearsal: Rehearsal,
        scratch: Path,
        watch: Watch,
        clock: Callable[[], float],
    ) -> None:
        self._request = request
        self._logical_date = logical_date
        self._spec = spec
        self._origin = origin
        self._rehearsal = rehearsal
        self._scratch = scratch
        self._watch = watch
        self._others = Others()
        self._running = run_in_progress(request.environment, spec.job.name)
        watch("warming up", "")
        self._survey = Survey(
            rehearsal.trial,
            rehearsal.current(),
            clock,
            limit_seconds=request.limit.seconds if request.limit else None,
        )

    def result(self) -> TuneResult:
        """All of it, measured now."""
        seconds, survey = self._request.seconds, self._survey
        survey.watch = lambda one: self._watch("trying each setting once", _words(one))
        survey.scout(self._rehearsal.climbs(), seconds * SCOUTING)
        if survey.slow_seconds is None:
            survey.watch = lambda one: self._watch("measuring in rounds", _words(one))
            survey.measure(seconds * ROUNDS)
        best = survey.fastest()
        chosen = best.configuration if best.within(survey.limit_seconds) else survey.current
        comparison = self._compared(chosen, seconds * DUEL)
        whole, problem = self._whole(chosen, seconds * WHOLE)
        spec = self._spec
        return TuneResult(
            job=spec.job.name,
            logical_date=self._logical_date,
            model_version=self._rehearsal.model_version,
            cores=available_cores(),
            rows=self._rows(),
            dtype=spec.input.dtype,
            auto_rows=spec.batch.rows == "auto",
            auto_workers=spec.batch.workers == "auto",
            limit=self._request.limit,
            measurements=survey.measurements(),
            current=survey.current,
            chosen=chosen,
            comparison=comparison,
            whole=whole,
            rewriting=self._rewriting(whole),
            scratch=str(self._scratch.parent),
            failures=dict(survey.failures),
            unaffordable=tuple(survey.unaffordable),
            slow_seconds=survey.slow_seconds,
            notes=(*self._differences(), *([problem] if problem else []), *self._disturbances()),
        )

    def _compared(self, chosen: Configuration, seconds: float) -> Comparison | None:
        if chosen == self._survey.current:
            return None
        self._survey.watch = lambda one: self._watch("comparing the fastest with what is set now", _words(one))
        return self._survey.duel(chosen, seconds)

    def _whole(self, chosen: Configuration, seconds: float) -> tuple[WholeParts | None, str | None]:
        """Whole parts in the chosen configuration; or why not."""
        self._watch("scoring whole parts", _words(chosen))
        rows = self._rehearsal.most_rows * chosen.workers
        speed = {one.configuration: one.rows_per_second for one in self._survey.measurements()}[chosen]
        expected = rows / speed
        if expected > max(self._request.seconds, 1.0):
            return None, (
                f"where the time of a whole part goes was not measured: inference alone would take about {expected:.0f} s; "
                "give more --time"
            )
        try:
            return self._rehearsal.whole_parts(chosen, seconds), None
        except DataError as error:
            return None, f"where the time of a whole part goes could not be measured: {error}"

    def _rewriting(self, whole: WholeParts | None) -> Rewriting | None:
        if whole is None or whole.share(Stage.READ) < READING_MATTERS or is_uri(self._origin.path):  # a disk is quicker anyway
            return None
        self._watch("reading the rows from a file written anew", "")
        try:
            return self._rehearsal.rewriting()
        except DataError:  # the scratch folder is full: then there is one sentence less
            return None

    def _rows(self) -> Rows:
        parts, most = self._rehearsal.plan.parts, self._rehearsal.most_rows
        few = len(parts) < available_cores()  # only then it matters how many there could be
        return Rows(
            path=self._origin.path,
            holdout=self._origin.holdout,
            rows=sum(part.rows for part in parts),
            parts=len(parts),
            parts_by_group=self._rehearsal.parts_at(1) if few else len(parts),
            most_rows=most,
        )

    def _differences(self) -> list[str]:
        """What was not as in a run."""
        notes = []
        if self._origin.holdout is not None:
            notes.append(
                f"input.path {self._spec.input.path} has no rows: those of holdout {self._origin.holdout!r} were taken instead"
            )
        rejections = self._rehearsal.plan.rejections
        if rejections:
            notes.append(
                f"{len(rejections)} of {len(self._origin.files)} files can't be used; the first: {rejections[0].error}"
            )
        if not same_filesystem(self._scratch, place(self._spec.output.path)):
            notes.append(f"what writing takes was measured in {self._scratch.parent}, which is not the output's filesystem")
        return notes

    def _disturbances(self) -> list[str]:
        """What may have spoilt the figures."""
        notes = []
        if self._running or run_in_progress(self._request.environment, self._spec.job.name):
            notes.append("a run of this job is in progress: the figures are those of a machine that has less to give")
        said = disturbance(self._others.cores(), ours=available_cores(), machine=psutil.cpu_count() or 1)
        return [*notes, said] if said else notes


def _words(one: Configuration) -> str:
    workers = f"{one.workers} worker{'' if one.workers == 1 else 's'}"
    return f"{one.device}, {workers}, batches of {one.rows:,}"
