"""What somebody should know of a job, in a line each and the worst first: the report's verdict, for a list of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jobs.breaches import breaches
from jobs.foreign import name
from jobs.report.verdict import Level
from jobs.report.words import duration, plural
from jobs.web.board import JobNow
from pipelines.report import Outcome, RunReport

_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that is wrong: how bad, and a line about it, without markup and of bounded length."""

    level: Level
    line: str


def concerns(job: JobNow, at: float) -> tuple[Concern, ...]:
    """What is wrong with a job at that time (Unix seconds), the worst first; nothing when all is well."""
    order = list(Level)
    return tuple(sorted(_concerns(job, at), key=lambda one: order.index(one.level)))


def _concerns(job: JobNow, at: float) -> Iterator[Concern]:
    yield from _time(job, at)
    if job.state.latest is not None:
        yield from _latest(job.state.latest)
        yield from _quality(job, job.state.latest)
    yield from _retraining(job, at)
    if job.state.owed and job.state.push_error:
        yield Concern(Level.WARNING, f"push owed: {_line(job.state.push_error)}")
    if job.scheduled is not None and job.scheduled.error:
        yield Concern(Level.WARNING, f"job file: {_line(job.scheduled.error)}")


def _time(job: JobNow, at: float) -> Iterator[Concern]:
    running, due = job.state.running, job.state.next_expected_at
    limit = job.state.definition.timeout_seconds
    if job.name == "missed" and due is not None:
        waits = "waits for its turn" if job.turn else "nothing has started it"
        yield Concern(Level.CRITICAL, f"was due {duration(at - due)} ago, and {waits}")
    if running is not None and limit is not None and at - running.started_at > limit:
        taken = duration(at - running.started_at)
        yield Concern(Level.CRITICAL, f"the run in progress has taken {taken}, and may take {duration(limit)}")


def _latest(latest: RunReport) -> Iterator[Concern]:
    if latest.outcome is Outcome.FAILED:
        yield Concern(Level.CRITICAL, _line(latest.reason or "failed, and no reason was recorded"))
    elif latest.reason:
        yield Concern(Level.WARNING, _line(latest.reason))
    if latest.rows_rejected_total:
        lost = f"{plural(latest.rows_rejected_total, 'row')} of {latest.rows_read:,} could not be scored"
        yield Concern(Level.WARNING, lost)
    if latest.rejections:
        yield Concern(Level.WARNING, f"{plural(len(latest.rejections), 'file or part', 'files or parts')} rejected whole")
    if latest.warnings:
        more = f" (and {len(latest.warnings) - 1:,} more)" if len(latest.warnings) > 1 else ""
        yield Concern(Level.WARNING, f"{_line(latest.warnings[0])}{more}")


def _quality(job: JobNow, latest: RunReport) -> Iterator[Concern]:
    """By the figures that stand: a run that failed leaves those from before, and they are no better for it."""
    standing = replace(latest, holdouts=tuple(job.state.quality.values()))
    for breach in breaches(standing, job.state.definition.thresholds):
        named = replace(breach, holdout=name(breach.holdout) if breach.holdout else None)
        yield Concern(Level.CRITICAL if breach.certain else Level.WARNING, named.sentence())
    for figure, count in job.known.low_slices.items():
        yield Concern(Level.WARNING, f"{figure} surely too low on {plural(count, 'slice')}")


def _retraining(job: JobNow, at: float) -> Iterator[Concern]:
    failed = job.known.failed_retrain
    if failed is not None:
        ago = duration(at - (failed.finished_at or failed.started_at))
        why = failed.reason or "no reason was recorded"
        yield Concern(Level.WARNING, _line(f"the last retraining failed, {ago} ago: {why}"))


def _line(words: str) -> str:
    """The first line that says something, as far as there is room."""
    first = next((line.strip() for line in words.splitlines() if line.strip()), "")
    return name(first, longest=_LONGEST)
