"""Is all well, and if not, what is wrong: in words, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from jobs.breaches import breaches
from jobs.foreign import name, text
from jobs.report.words import Clock, duration, plural
from jobs.summary import estimate
from monitoring.ledger import RetrainRecord
from monitoring.state import JobState
from pipelines.report import Estimate, HoldoutReport, Outcome, RunReport, SliceReport

_MOST = 12


class Level(StrEnum):
    """How bad it is; the worst first."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should know. `detail` holds other people's words, in several lines."""

    level: Level
    sentence: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole in one sentence, and the findings it rests on, the worst first; `unsaid` more are left out.

    `tone` is one of the words for states: success, partial, failed, running, idle.
    """

    tone: str
    sentence: str
    findings: tuple[Finding, ...]
    unsaid: int


def verdict(state: JobState, clock: Clock, failed_retrain: RetrainRecord | None = None) -> Verdict:
    """What to think of a job, of which the latest retraining may have failed."""
    order = list(Level)
    found = sorted(
        [*_findings(state, clock), *_retraining(failed_retrain, clock)], key=lambda finding: order.index(finding.level)
    )
    return Verdict(_tone(state, found), _sentence(state, found), tuple(found[:_MOST]), max(0, len(found) - _MOST))


def _tone(state: JobState, found: list[Finding]) -> str:
    levels = {finding.level for finding in found}
    if Level.CRITICAL in levels:
        return "failed"
    if Level.WARNING in levels:
        return "partial"
    return state.name


def _sentence(state: JobState, found: list[Finding]) -> str:
    critical = sum(finding.level is Level.CRITICAL for finding in found)
    wrong = sum(finding.level is not Level.NOTE for finding in found)
    if state.name == "failed":
        return "The last run failed."
    begin = _BEGINNINGS[state.name]
    if critical:
        return f"{begin}, but something is wrong."
    if wrong:
        return f"{begin}; {plural(wrong, 'thing needs', 'things need')} a look."
    return f"{begin}, and nothing is wrong." if state.name == "success" else f"{begin}."


_BEGINNINGS = {
    "success": "The last run succeeded",
    "partial": "The last run went to its end",
    "running": "A run is in progress",
    "idle": "This job has never finished a run",
}


def _findings(state: JobState, clock: Clock) -> Iterator[Finding]:
    yield from _schedule(state, clock)
    if state.latest is not None:
        yield from _last_run(state.latest)
        yield from _limits(state, state.latest)
    for holdout in state.definition.holdouts:
        if state.latest is not None and holdout not in state.quality:
            yield Finding(Level.NOTE, f"Holdout {name(holdout)} has not been judged yet.")
    yield from _push(state, clock)


def _schedule(state: JobState, clock: Clock) -> Iterator[Finding]:
    due, running = state.next_expected_at, state.running
    if running is None and due is not None and state.late(clock.now):
        yield Finding(Level.CRITICAL, f"A run is missing: it was due {clock.moment(due)}, {clock.ago(due)}.")
    limit = state.definition.timeout_seconds
    if running is not None and limit is not None and clock.now - running.started_at > limit:
        yield Finding(
            Level.CRITICAL,
            f"The run in progress has taken {duration(clock.now - running.started_at)}, and may take {duration(limit)}.",
        )


def _last_run(report: RunReport) -> Iterator[Finding]:
    if report.outcome is Outcome.FAILED:
        yield Finding(Level.CRITICAL, "Why the last run failed:", text(report.reason or "no reason was recorded"))
    elif report.reason:
        yield Finding(Level.WARNING, "The last run says:", text(report.reason))
    if report.rows_rejected_total:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in sorted(report.rows_rejected.items()))
        of = f"of {report.rows_read:,}"
        yield Finding(Level.WARNING, f"{plural(report.rows_rejected_total, 'row')} {of} could not be scored ({reasons}).")
    if report.rejections:
        lost = plural(len(report.rejections), "file or part was", "files or parts were")
        yield Finding(Level.WARNING, f"{lost} rejected whole.")
    if report.warnings:  # a holdout that could not be judged is among them
        yield Finding(
            Level.WARNING, f"{plural(len(report.warnings), 'warning')} of the last run:", text("\n".join(report.warnings))
        )


def _limits(state: JobState, latest: RunReport) -> Iterator[Finding]:
    """Against the figures that stand: a run that failed leaves those from before, and they are no better for it."""
    limits = state.definition.thresholds
    standing = replace(latest, holdouts=tuple(state.quality.values()))
    for breach in breaches(standing, limits):
        level = Level.CRITICAL if breach.certain else Level.WARNING
        sentence = replace(breach, holdout=name(breach.holdout) if breach.holdout else None).sentence()
        yield Finding(level, f"{sentence[0].upper()}{sentence[1:]}.")
    for holdout in state.quality.values():
        yield from _low_slices(holdout, "accuracy", limits.accuracy)
        yield from _low_slices(holdout, "recall", limits.recall)


def _low_slices(holdout: HoldoutReport, figure: str, threshold: float | None) -> Iterator[Finding]:
    def value(piece: SliceReport) -> Estimate | None:
        return piece.accuracy if figure == "accuracy" else piece.recall

    found = [(value(piece), piece) for piece in holdout.slices if piece.judged]
    low = [(at, piece) for at, piece in found if at is not None and threshold is not None and at.upper < threshold]
    if low:
        at, worst = min(low, key=lambda pair: pair[0])
        where = f"{name(worst.dimension)} = {name(worst.value)}"
        yield Finding(
            Level.WARNING,
            f"{plural(len(low), 'slice is', 'slices are')} surely below the threshold for {figure} on holdout "
            f"{name(holdout.name)}; the worst, {where}, has {estimate(at)}.",
        )


def _retraining(failed: RetrainRecord | None, clock: Clock) -> Iterator[Finding]:
    if failed is not None:
        ago = clock.ago(failed.finished_at or failed.started_at)
        words = text(failed.reason or "No reason was recorded.", longest=1000)
        yield Finding(Level.WARNING, f"The last retraining failed, {ago}; it has put no model in place.", words)


def _push(state: JobState, clock: Clock) -> Iterator[Finding]:
    if state.owed:
        before = f"last delivered {clock.ago(state.pushed_at)}" if state.pushed_at else "never delivered"
        yield Finding(
            Level.WARNING,
            f"The newest state has not reached its destination ({before}); 'batchgauge push' delivers it.",
            text(state.push_error or "", longest=1000),
        )
