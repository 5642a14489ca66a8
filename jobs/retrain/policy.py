"""Whether alerts start a retraining. Pure: a message and what is known of the jobs in, decisions with reasons out.

An alert only says that somebody should look. What counts is in the ledger: on how many days in a row the figure was surely
below its threshold, since the model in use was put there. So an alert that is repeated, replayed, or stuck adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import takewhile

from jobs.retrain.alerts import Alert, Message
from jobs.settings import RetrainSettings
from monitoring.ledger import SWITCHES, AlertId, Cause, RetrainOutcome, RetrainRecord
from monitoring.state import Thresholds
from pipelines.report import HoldoutReport

CANDIDATE = ("retrain", "candidate")
"""The label that the alert rules give to what a new model may mend."""

FIGURES = {"ModelAccuracyLow": ("accuracy",), "ModelRecallLow": ("recall",)}
"""Which figures an alert is about; any other alert with the label is about both."""

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How one day's run judged the model: the last run of that day that judged anything. Timestamps are Unix seconds."""

    logical_date: date
    started_at: float
    finished_at: float
    model_sha256: str
    holdouts: Mapping[str, HoldoutReport]


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What is known of a job: `evaluations` the newest day first, `retrains` newest first, `labels` those of its series."""

    job: str
    settings: RetrainSettings | None
    thresholds: Thresholds
    labels: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    retrains: Sequence[RetrainRecord]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one job of a message, and why; `alerts` are those that the retraining answers."""

    job: str
    retrain: bool
    reason: str
    alerts: tuple[AlertId, ...] = ()


def decide(message: Message, facts_of: Callable[[str], JobFacts | None], *, now: float) -> tuple[Decision, ...]:
    """A decision for each job that the message speaks of, in its order. `facts_of` returns None for an unknown job."""
    by_job: dict[str, list[Alert]] = {}
    for alert in message.alerts:
        by_job.setdefault(alert.labels.get("job", ""), []).append(alert)
    return tuple(_decide(job, alerts, facts_of(job) if job else None, now) for job, alerts in by_job.items())


def _decide(job: str, alerts: Sequence[Alert], facts: JobFacts | None, now: float) -> Decision:
    if not job:
        return Decision(job, retrain=False, reason="an alert without a job label is about no job")
    if facts is None:
        return Decision(job, retrain=False, reason=f"no job file here is of a job {job!r}")
    if facts.settings is None:
        return Decision(job, retrain=False, reason="the job has no [retrain] section")
    left, reason = _relevant(alerts, facts, facts.settings)
    if not left:
        return Decision(job, retrain=False, reason=reason)
    held_up = _held_up(facts.settings, facts.retrains, now)
    if held_up:
        return Decision(job, retrain=False, reason=held_up)
    return Decision(job, retrain=True, reason=reason, alerts=tuple(alert.id for alert in left))


def _relevant(alerts: Iterable[Alert], facts: JobFacts, settings: RetrainSettings) -> tuple[list[Alert], str]:
    """The alerts that ask for a retraining, and why they do; or none, and why not."""
    name, value = CANDIDATE
    asking = [alert for alert in alerts if alert.status == "firing" and alert.labels.get(name) == value]
    if not asking:
        return [], f'no alert is firing that has the label {name}="{value}"'
    ours = [alert for alert in asking if all(alert.labels.get(key) == text for key, text in facts.labels.items())]
    if not ours:
        labels = ", ".join(f"{key}={text}" for key, text in facts.labels.items())
        return [], f"the alerts are about another job of that name: this one has the labels {labels}"
    latest = max((one.finished_at for one in facts.evaluations), default=0.0)
    new = [alert for alert in ours if not _answered(alert.id, facts.retrains, latest)]
    if not new:
        return [], "answered already: the alerts have led to a retraining, and the model was not judged again since"
    streaks = [(alert, _streak(alert, facts)) for alert in new]
    backed = [alert for alert, days in streaks if days >= settings.after]
    most = max(days for _, days in streaks)
    count = f"surely below its threshold on {most} day{'' if most == 1 else 's'} in a row"
    if not backed:
        return [], f"{count} since the model was put there, and retrain.after asks for {settings.after}"
    told = sorted({f"{alert.labels.get('alertname', 'an alert')} on {alert.labels.get('holdout', '?')}" for alert in backed})
    return backed, f"{', '.join(told)}: {count}"


def _answered(alert: AlertId, retrains: Iterable[RetrainRecord], latest: float) -> bool:
    """Whether a retraining was for this very firing, and nothing new was found out since it began."""
    return any(_decided(record) and alert in record.alerts and latest <= record.started_at for record in retrains)


def _decided(record: RetrainRecord) -> bool:
    """Whether it came to an end of its own. One that was stopped, or died, has answered nothing, and need not cool down."""
    return record.outcome is not RetrainOutcome.STOPPED


def _streak(alert: Alert, facts: JobFacts) -> int:
    """On how many of the latest judged days in a row a figure of the alert was surely low, with the model now in use."""
    switched = max((one.finished_at or 0.0 for one in facts.retrains if one.outcome in SWITCHES), default=0.0)
    current = [one for one in facts.evaluations if one.started_at >= switched]
    same_model = list(takewhile(lambda one: one.model_sha256 == current[0].model_sha256, current))
    figures = FIGURES.get(alert.labels.get("alertname", ""), ("accuracy", "recall"))
    return max(_days_low(alert.labels.get("holdout", ""), figure, same_model, facts.thresholds) for figure in figures)


def _days_low(holdout: str, figure: str, evaluations: Iterable[Evaluation], thresholds: Thresholds) -> int:
    limit: float | None = getattr(thresholds, figure)
    judged = (one.holdouts[holdout] for one in evaluations if holdout in one.holdouts)
    estimates = (getattr(report, figure) for report in judged)
    return len(list(takewhile(lambda found: None not in (limit, found) and found.upper < limit, estimates)))


def _held_up(settings: RetrainSettings, retrains: Sequence[RetrainRecord], now: float) -> str | None:
    """What keeps a retraining from starting now, if anything does."""
    if any(record.outcome is None for record in retrains):
        return "a retraining is in progress"
    ended = max((record.finished_at or record.started_at for record in retrains if _decided(record)), default=None)
    if ended is not None and now < ended + settings.cooldown:
        until = datetime.fromtimestamp(ended + settings.cooldown, UTC)
        return f"cooling down until {until:%Y-%m-%d %H:%M} UTC (retrain.cooldown after the last retraining or rollback)"
    trained = [record for record in retrains if record.cause is not Cause.ROLLBACK]
    today = sum(record.started_at > now - _DAY_SECONDS for record in trained)
    if today >= settings.per_day:
        return f"retrained {today} times within 24 hours, and retrain.per_day allows {settings.per_day}"
    return None
