"""The jobs of a board as rows of a table: words and drawings, in groups, those that need somebody first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from markupsafe import Markup

from jobs.foreign import name
from jobs.report.figures.axis import Axis, number, ratio_axis
from jobs.report.figures.small import whisker
from jobs.report.figures.strip import strip
from jobs.report.verdict import Level
from jobs.report.words import Clock, bounds, plural, ratio, rough
from jobs.web.attention import Concern, concerns
from jobs.web.board import JobNow
from monitoring.ledger import RunOutline
from pipelines.report import Estimate

_MOST_CONCERNS = 2
_LOWEST = 0.5
"""Where the common axis for accuracy begins at the lowest: one model that tosses a coin must not squeeze the others."""
_NEAR_SECONDS = 6 * 86_400.0


class Group(StrEnum):
    """What a job's row is among, in the order of a page."""

    ATTENTION = "Needs attention"
    NOW = "At work"
    WELL = "All well"
    NEVER = "Has not run yet"


@dataclass(frozen=True, slots=True)
class Judged:
    """A job with what is wrong with it."""

    job: JobNow
    concerns: tuple[Concern, ...]

    @property
    def group(self) -> Group:
        """Where it stands."""
        if self.concerns:
            return Group.ATTENTION
        if self.job.name == "running" or self.job.turn or self.job.retraining:
            return Group.NOW
        return Group.NEVER if self.job.name == "idle" else Group.WELL

    def is_a(self, kind: str) -> bool:
        """Whether it is among those that the filter means: a state, or attention, or waiting."""
        if kind == "attention":
            return bool(self.concerns)
        return self.job.turn is not None if kind == "waiting" else self.job.name == kind


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy on the holdout that is worst off; `aside` has its bounds, `where` the holdout if there are several."""

    value: str
    aside: str
    where: str
    drawing: Markup


@dataclass(frozen=True, slots=True)
class Row:
    """A job's row. `concerns` are (sign, level, line); `unsaid` more are left out. A column without a value is empty."""

    job: str
    link: str
    state: str
    state_note: str
    concerns: tuple[tuple[str, str, str], ...]
    unsaid: int
    tags: tuple[str, ...]
    past: Markup
    rows: str
    speed: str
    accuracy: Accuracy | None
    success: str
    success_at: str
    next: str
    next_at: str


SIGNS = {Level.CRITICAL: "failed", Level.WARNING: "partial", Level.NOTE: "skipped"}


def judged(jobs: Sequence[JobNow], at: float) -> list[Judged]:
    """Those who need somebody first, the gravest of them first; else by name."""
    groups, levels = list(Group), list(Level)

    def place(one: Judged) -> tuple[int, int, str]:
        return groups.index(one.group), levels.index(one.concerns[0].level) if one.concerns else 0, one.job.job

    return sorted((Judged(job, concerns(job, at)) for job in jobs), key=place)


def link(job: str) -> str:
    """The address of its report, seen from the page of all jobs."""
    return f"jobs/{quote(job, safe='')}"


def common_axis(jobs: Sequence[Judged]) -> Axis:
    """One axis for the accuracy of all, so that they can be compared."""
    return ratio_axis(max(min(_low_ends(jobs), default=_LOWEST), _LOWEST))


def _low_ends(jobs: Sequence[Judged]) -> Iterator[float]:
    for one in jobs:
        worst = _worst(one.job)
        if worst is not None:
            yield worst[1].lower
            threshold = one.job.state.definition.thresholds.accuracy
            yield 1.0 if threshold is None else threshold


def row(one: Judged, at: float, axis: Axis) -> Row:
    """A job's row at that time."""
    job, state = one.job, one.job.state
    clock = Clock(at, state.definition.timezone)
    latest, due, success = state.latest, job.next_due_at, state.last_success_at
    speed = latest.throughput_rows_per_second if latest else None
    return Row(
        job=name(job.job),
        link=link(job.job),
        state=job.name,
        state_note=_note(job, at),
        concerns=tuple((SIGNS[told.level], str(told.level), told.line) for told in one.concerns[:_MOST_CONCERNS]),
        unsaid=max(0, len(one.concerns) - _MOST_CONCERNS),
        tags=tuple(_tags(job)),
        past=past(job.known.past),
        rows=number(latest.rows_scored) if latest else "",
        speed="" if speed is None else number(speed),
        accuracy=_accuracy(job, axis),
        success="never" if success is None else f"{rough(max(at - success, 0.0))} ago",
        success_at="" if success is None else clock.moment(success),
        next="by hand" if due is None else _until(due, at),
        next_at="" if due is None else _moment(due, clock),
    )


def _until(due: float, at: float) -> str:
    return f"in {rough(due - at)}" if due >= at else f"{rough(at - due)} ago"


def _moment(timestamp: float, clock: Clock) -> str:
    near = abs(timestamp - clock.now) < _NEAR_SECONDS
    return clock.soon(timestamp) if near else clock.short(timestamp)


def _note(job: JobNow, at: float) -> str:
    run = job.state.running
    if run is not None:
        return f"for {rough(max(at - run.started_at, 0.0))}, {number(run.rows_read)} rows"
    if job.started is not None:
        return "starting"
    if job.turn is not None:
        return "waits, is next" if job.turn.place == 1 else f"waits, number {job.turn.place:,}"
    return ""


def _tags(job: JobNow) -> Iterator[str]:
    if job.retraining is not None:
        yield "waits to retrain" if job.retraining.waits else "retraining"
    if job.state.owed and not job.state.push_error:
        yield "push owed"
    if job.scheduled is None:
        yield "not scheduled here"


def past(runs: tuple[RunOutline, ...]) -> Markup:
    """The last runs, drawn; their label says what the drawing shows."""
    drawn = tuple((str(run.outcome or "running"), run.rows_scored) for run in runs)
    kinds = [kind for kind, _ in drawn]
    counted = ((kind, kinds.count(kind)) for kind in dict.fromkeys(sorted(kinds)))
    told = ", ".join(f"{count} {kind}" for kind, count in counted)
    return strip(drawn, f"The last {plural(len(drawn), 'run')}: {told}")


def _worst(job: JobNow) -> tuple[str, Estimate] | None:
    """The holdout that is surely too low, or else has the lowest accuracy."""
    limit = job.state.definition.thresholds.accuracy
    known = [(one.name, one.accuracy) for one in job.state.quality.values() if one.accuracy is not None]
    return min(known, key=lambda pair: (limit is None or pair[1].upper >= limit, pair[1].value), default=None)


def _accuracy(job: JobNow, axis: Axis) -> Accuracy | None:
    worst = _worst(job)
    if worst is None:
        return None
    holdout, estimate = worst
    limit = job.state.definition.thresholds.accuracy
    return Accuracy(
        value=ratio(estimate.value),
        aside=bounds(estimate) + ("" if limit is None else f", needs {limit:g}"),
        where=name(holdout, longest=40) if len(job.state.quality) > 1 else "",
        drawing=whisker(estimate, axis, threshold=limit),
    )
