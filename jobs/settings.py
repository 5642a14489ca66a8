"""The sections of the job file that are not the pipeline's: what each key may hold, and what it means."""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StrictStr, WithJsonSchema

from jobs import cron
from monitoring.gateway import checked_url
from monitoring.names import LABEL_NAME, RESERVED_LABELS
from pipelines.errors import PushError
from pipelines.settings import Settings
from pipelines.values import Entrypoint, LocalPath, Text

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_DURATION_PATTERN = r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
_MAX_NAME = 200
_LONGEST_SECONDS = 3650 * 86_400


def seconds(value: object) -> float:
    """A duration such as `90s`, `30m` or `1h30m` in seconds. Raises `ValueError`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None or not any(match.groups()):
        raise ValueError("must be a duration such as '90s', '30m', '2h', '1h30m' or '7d'")
    days, hours, minutes, rest = (int(group or 0) for group in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if total > _LONGEST_SECONDS:
        raise ValueError("must not be longer than ten years")
    return float(total)


def _positive_seconds(value: object) -> float:
    duration = seconds(value)
    if duration <= 0:
        raise ValueError("must be longer than nothing")
    return duration


def _cron(value: str) -> str:
    cron.check(value)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError) as error:  # a folder, a bad key, a zone that doesn't exist
        raise ValueError("is not a known time zone; write one such as 'UTC' or 'Europe/Berlin'") from error
    return value


def _name(value: str) -> str:
    if value in {".", ".."}:  # a browser takes these out of a URL's path, also percent-encoded
        raise ValueError("can't be a page of the scheduler's; choose a name that isn't only dots")
    return value


def _labels(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not LABEL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a label name: letters, digits and _, no digit first")
        if name in RESERVED_LABELS | {"job", "instance"}:
            raise ValueError(f"{name!r} can't be a label name here: the metrics or the alerts have a label of that name")
        if not text:
            raise ValueError(f"label {name!r} is empty; leave it out")
    return value


_SCHEMA = WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN, "examples": ["30m", "1h30m"]})
Duration = Annotated[float, BeforeValidator(seconds), _SCHEMA]
PositiveDuration = Annotated[float, BeforeValidator(_positive_seconds), _SCHEMA]
Ratio = Annotated[float, Field(ge=0, le=1)]


def _gateway(value: str) -> str:
    try:
        return checked_url(value)
    except PushError as error:
        raise ValueError(str(error)) from error


class JobSettings(Settings):
    """The job itself."""

    name: Annotated[Text, Field(max_length=_MAX_NAME), AfterValidator(_name)] = Field(
        description="Names the job everywhere: the ledger, the metrics' `job` label, the commands."
    )
    schedule: Annotated[StrictStr, AfterValidator(_cron)] | None = Field(
        None, description="Standard cron text, five fields or `@daily` and the like. Without it the job is run by hand only."
    )
    timezone: Annotated[StrictStr, AfterValidator(_zone)] = Field(
        "UTC", description="Time zone of the schedule and of the logical date."
    )
    grace: Duration = Field(1800.0, description="A run that is later than this counts as missed.")
    timeout: PositiveDuration | None = Field(None, description="A run that takes longer is stopped and has failed.")
    keep_runs: int = Field(
        1000, ge=1, le=1_000_000_000, description="Runs kept in the ledger's history; counters never forget."
    )
    root: LocalPath | None = Field(
        None,
        description="Base of relative data and model paths, itself relative to the job file; default: the job file's folder.",
    )


class ThresholdSettings(Settings):
    """The job's limits. They are pushed as metrics, so that one set of alert rules serves every job."""

    latency_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Mean seconds for each request, above which it is too slow."
    )
    accuracy: Ratio | None = Field(None, description="Accuracy below which the model is not good enough.")
    recall: Ratio | None = Field(None, description="Recall below which the model is not good enough.")


class RetrainSettings(Settings):
    """How a new model is trained, and when. Only one that is better, on rows it never saw, takes the place of the old."""

    entrypoint: Entrypoint = Field(
        description="Training function: `file.py:name` or `package.module:name`. It is called in a process of its own with one "
        "argument, a `jobs.retrain.Training`, learns from `training.labelled`, and writes a model file of the same kind as the "
        "one in use to `training.candidate`."
    )
    timeout: PositiveDuration = Field(
        7_200.0, description="Training and comparing that take longer are stopped, and have failed."
    )
    judge_days: int = Field(
        1,
        ge=1,
        le=366,
        description="Of a holdout with `{date}` the newest labelled days, which training isn't given: the models are compared "
        "on them. (A holdout without `{date}` is for comparing only.)",
    )
    learn_days: int = Field(
        90,
        ge=1,
        le=3_660,
        description="Training is given the labelled days before those; so many days are looked through, and `judge_days`.",
    )
    margin: Ratio = Field(
        0.02,
        description="The candidate is refused when any figure or judged slice is worse by more than this, and surely so.",
    )
    keep: int = Field(5, ge=1, le=1_000, description="Models that were replaced and are kept, for `batchgauge rollback`.")
    after: int = Field(
        1,
        ge=1,
        le=366,
        description="An alert starts a retraining once the figure was surely below its threshold on this many days in a row.",
    )
    cooldown: Duration = Field(21_600.0, description="Least time between the end of one retraining and an alert's next.")
    per_day: int = Field(
        2, ge=1, le=1_000, description="An alert starts no further retraining after this many within 24 hours."
    )
    dry_run: bool = Field(
        default=False,
        description="What an alert starts is trained, compared and reported, but not put in place. (By hand: `--dry-run`.)",
    )


class PushSettings(Settings):
    """Where the job's state is pushed. Credentials come from the environment."""

    gateway: Annotated[StrictStr, AfterValidator(_gateway)] | None = Field(
        None, description="URL of the Pushgateway, e.g. `http://127.0.0.1:9091`. Overridden by `BATCHGAUGE_GATEWAY`."
    )
    textfile: LocalPath | None = Field(
        None, description="Folder of node_exporter's textfile collector, for hosts without a gateway (may be set beside it)."
    )
    every: PositiveDuration = Field(
        15.0,
        description="How often the state is pushed while a run is in progress, the first time after a minute at most; less "
        "often while that fails.",
    )
    timeout: PositiveDuration = Field(10.0, description="Bound on one whole delivery, retries included.")
    labels: Annotated[dict[StrictStr, StrictStr], AfterValidator(_labels)] = Field(
        default_factory=dict, description='Static labels added to the grouping key, e.g. `{ env = "prod" }`.'
    )
    ca_file: LocalPath | None = Field(None, description="Certificate authority for the gateway's certificate, PEM.")
