"""The job file: one TOML file, validated once into a frozen `JobSpec`.

Unknown keys are refused with the nearest known one, and every error names the file, the key and the value.
"""

from __future__ import annotations

import os.path
import re
import tomllib
from datetime import date, datetime, timedelta
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    StrictStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from jobs import cron
from jobs.environment import Environment
from jobs.paths import reads
from jobs.spec_errors import explain
from monitoring.gateway import checked_url
from monitoring.names import LABEL_NAME, RESERVED_LABELS
from monitoring.state import Destination, JobDefinition, Thresholds
from pipelines.errors import PushError, SpecError
from pipelines.settings import (
    Entrypoint,
    HoldoutSettings,
    InputSettings,
    OutputSettings,
    PipelineSettings,
    Settings,
    Text,
)

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_DURATION_PATTERN = r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
_MAX_NAME = 200
_LONGEST_SECONDS = 3650 * 86_400
_FIRST_DAY, _TWO_YEARS = date(2000, 1, 1), 731


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


def _labels(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not LABEL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a label name: letters, digits and _, no digit first")
        if name in RESERVED_LABELS | {"job", "instance"}:
            raise ValueError(f"{name!r} can't be a label name here: the metrics have a label of that name")
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

    name: Annotated[Text, Field(max_length=_MAX_NAME)] = Field(
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
    keep_runs: int = Field(1000, ge=1, description="Runs kept in the ledger's history; counters never forget.")
    root: Text | None = Field(
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
    textfile: Text | None = Field(
        None, description="Folder of node_exporter's textfile collector, for hosts without a gateway (may be set beside it)."
    )
    every: PositiveDuration = Field(15.0, description="How often the state is pushed while a run is in progress.")
    timeout: PositiveDuration = Field(10.0, description="Bound on one whole delivery, retries included.")
    labels: Annotated[dict[StrictStr, StrictStr], AfterValidator(_labels)] = Field(
        default_factory=dict, description='Static labels added to the grouping key, e.g. `{ env = "prod" }`.'
    )
    ca_file: Text | None = Field(None, description="Certificate authority for the gateway's certificate, PEM.")


class JobSpec(PipelineSettings):
    """A whole job file. Paths are absolute once `load` returns; `{date}` is replaced by `for_date`."""

    job: JobSettings
    thresholds: ThresholdSettings = Field(default_factory=ThresholdSettings)
    retrain: RetrainSettings | None = None
    push: PushSettings = Field(default_factory=PushSettings)
    _path: Path = PrivateAttr(default=Path("job.toml"))

    @model_validator(mode="after")
    def _a_day_keeps_its_output(self) -> Self:
        for holdout in self.holdout:
            dated(holdout.path)
        if dated(self.input.path) and not dated(self.output.path):
            raise ValueError("input.path has {date} and output.path has not: each day would replace the day before")
        inputs: dict[str, str] = {}
        for day in (_FIRST_DAY + timedelta(days=age) for age in range(_TWO_YEARS)):
            drop, folder = self.input.path.format(date=day), self.output.path.format(date=day)
            if inputs.setdefault(folder, drop) != drop:
                raise ValueError(f"output.path is {folder!r} for {day} and for another day too: one would replace the other")
        return self

    @model_validator(mode="after")
    def _limits_can_be_checked(self) -> Self:
        limits = self.thresholds
        if not self.holdout and (limits.accuracy is not None or limits.recall is not None):
            raise ValueError("thresholds.accuracy and thresholds.recall need a [[holdout]] to be measured on")
        return self

    @model_validator(mode="after")
    def _a_new_model_can_be_judged_and_put_in_place(self) -> Self:
        if self.retrain is not None and not self.holdout:
            raise ValueError("[retrain] needs a [[holdout]]: without labels nobody can say whether a new model is better")
        if self.retrain is not None and self.model.sha256 is not None:
            raise ValueError("[retrain] puts other models in place, and model.sha256 pins one: leave one of them out")
        return self

    @property
    def path(self) -> Path:
        """The job file itself, absolute."""
        return self._path

    @property
    def folder(self) -> Path:
        """The job file's folder: entrypoints are relative to it."""
        return self._path.parent

    def latest_due(self, now: datetime) -> float | None:
        """The latest scheduled time that is not after `now` (Unix seconds); None without a schedule."""
        if self.job.schedule is None:
            return None
        return cron.latest(self.job.schedule, ZoneInfo(self.job.timezone), now).timestamp()

    @property
    def root(self) -> Path:
        """Base of the job's relative paths, absolute."""
        return Path(_under(self.folder, self.job.root)) if self.job.root else self.folder

    @property
    def model_file(self) -> Path:
        """The file that the model is loaded from, whichever key names it."""
        return Path(self.model.path or self.model.weights or "")

    def logical_date(self, now: datetime) -> date:
        """The date of the latest scheduled time that is not after `now`, less `input.lag_days`."""
        zone = ZoneInfo(self.job.timezone)
        due = cron.latest(self.job.schedule, zone, now) if self.job.schedule else now.astimezone(zone)
        return due.date() - timedelta(days=self.input.lag_days)

    def next_expected(self, now: datetime) -> float | None:
        """When the schedule expects the next run (Unix seconds); None without a schedule."""
        if self.job.schedule is None:
            return None
        return cron.following(self.job.schedule, ZoneInfo(self.job.timezone), now).timestamp()

    def for_date(self, logical_date: date) -> JobSpec:
        """The same job with `{date}` replaced in every path."""

        def put(text: str) -> str:
            return text.format(date=logical_date)

        return self.model_copy(
            update={
                "input": self.input.model_copy(update={"path": put(self.input.path)}),
                "output": self.output.model_copy(update={"path": put(self.output.path)}),
                "holdout": tuple(h.model_copy(update={"path": put(h.path)}) for h in self.holdout),
            }
        )

    def destination(self, environment: Environment) -> Destination:
        """Where the state goes: the environment's word before the job file's."""
        return environment.redirected(
            Destination(
                gateway=self.push.gateway,
                textfile=self.push.textfile,
                labels=self.push.labels,
                ca_file=self.push.ca_file,
                every_seconds=self.push.every,
                timeout_seconds=self.push.timeout,
            )
        )

    def definition(self, environment: Environment) -> JobDefinition:
        """The job as far as monitoring needs to know it."""
        return JobDefinition(
            job=self.job.name,
            spec_path=str(self.path),
            schedule=self.job.schedule,
            timezone=self.job.timezone,
            grace_seconds=self.job.grace,
            thresholds=Thresholds(
                latency_seconds=self.thresholds.latency_seconds,
                accuracy=self.thresholds.accuracy,
                recall=self.thresholds.recall,
            ),
            holdouts=tuple(holdout.name for holdout in self.holdout),
            destination=self.destination(environment),
            timeout_seconds=self.job.timeout,
            retrains=self.retrain is not None,
        )


def dated(template: str) -> bool:
    """Whether a path template has `{date}`. Raises `ValueError` for any other field in it."""
    try:
        fields = [(name, conversion) for _, name, _, conversion in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"{template!r} is not a path template: {error}; a brace is written twice") from error
    if any(name != "date" or conversion for name, conversion in fields):
        raise ValueError(f"{template!r}: the only field a path can have is {{date}}, or with a format {{date:%Y/%m/%d}}")
    try:
        template.format(date=date(2000, 1, 1))
    except (ValueError, LookupError) as error:
        raise ValueError(f"{template!r}: not a format for a date; write it like {{date:%Y/%m/%d}}") from error
    return bool(fields)


def load(file: Path, *, text_from: Path | None = None) -> JobSpec:
    """The validated job file. Raises `SpecError` that lists everything that is wrong with it.

    `text_from` is a copy whose text is taken for the file's: paths stay relative to `file`.
    """
    try:
        path = file.absolute()
        raw: dict[str, Any] = tomllib.loads((text_from or path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecError(f"{file}: can't read the job file: {reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{file}: not TOML: {error}") from error
    try:
        spec = JobSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(explain(error, raw, file, JobSpec)) from None  # its text would repeat every value
    spec._path = path  # noqa: SLF001  a fact about the file, not a key in it
    try:
        return _absolute(spec)
    except RuntimeError as error:  # `~name` of nobody
        raise SpecError(f"{file}: a path begins with the home folder of a user who isn't known here: {error}") from error


def _absolute(spec: JobSpec) -> JobSpec:
    base = spec.root

    def under_root(section: Settings, *keys: str) -> dict[str, str]:
        return {key: _under(base, value) for key in keys if (value := getattr(section, key)) is not None}

    # Where the job lies is no template, whatever braces its folders have in their names.
    template_base = Path(str(base).replace("{", "{{").replace("}", "}}"))

    def under_template(section: InputSettings | OutputSettings | HoldoutSettings) -> dict[str, str]:
        return {"path": _under(template_base, section.path)}

    resolved = spec.model_copy(
        update={
            "model": spec.model.model_copy(update=under_root(spec.model, "weights", "path")),
            "input": spec.input.model_copy(update=under_template(spec.input)),
            "output": spec.output.model_copy(update=under_template(spec.output)),
            "holdout": tuple(h.model_copy(update=under_template(h)) for h in spec.holdout),
            "push": spec.push.model_copy(update=under_root(spec.push, "textfile", "ca_file")),
        }
    )
    _check_output_apart(resolved)
    return resolved


def _under(base: Path, path: str) -> str:
    """`path` made absolute under `base`, with `..` and `~` worked out; globs and templates stay as they are."""
    return os.path.normpath(base / Path(path).expanduser())


def _check_output_apart(spec: JobSpec) -> None:
    """An input that has the output in it would score its own predictions."""
    day = date(2000, 1, 1)
    output = os.path.realpath(spec.output.path.format(date=day))
    readers = [("input.path", spec.input.path), *((f"holdout {h.name!r} path", h.path) for h in spec.holdout)]
    for key, path in readers:
        if reads(os.path.realpath(path.format(date=day)), output):
            raise SpecError(f"{spec.path}: output.path {spec.output.path!r} lies inside {key} {path!r}; put it beside")
