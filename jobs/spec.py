"""The job file: one TOML file, validated once into a frozen `JobSpec`.

Unknown keys are refused with the nearest known one, and every error names the file, the key and the value.
"""

from __future__ import annotations

import os
import tomllib
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from jobs import cron
from jobs.environment import Environment
from jobs.paths import dated, outputs, reads
from jobs.settings import JobSettings, PushSettings, RetrainSettings, ThresholdSettings
from jobs.spec_errors import explain
from monitoring.state import Destination, JobDefinition, Thresholds
from pipelines.errors import SpecError
from pipelines.settings import HoldoutSettings, InputSettings, OutputSettings, PipelineSettings, Settings
from pipelines.uris import is_uri

_FIRST_DAY, _TWO_YEARS = date(2000, 1, 1), 731


class JobSpec(PipelineSettings):
    """A whole job file. Paths are absolute once `load` returns; `{date}` is replaced by `for_date`."""

    job: JobSettings
    thresholds: ThresholdSettings = Field(default_factory=ThresholdSettings)
    retrain: RetrainSettings | None = None
    push: PushSettings = Field(default_factory=PushSettings)
    _path: Path = PrivateAttr(default=Path("job.toml"))

    @model_validator(mode="after")
    def _a_day_keeps_its_output(self) -> Self:
        judged_on = [holdout.path for holdout in self.holdout]
        input_dated, output_dated, *_ = [dated(path) for path in (self.input.path, self.output.path, *judged_on)]
        if input_dated and not output_dated:
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
        if self.retrain is not None:
            files = {"model": self.model.path or self.model.weights or ""} | {
                f"holdout {h.name!r}": h.path for h in self.holdout
            }
            if away := [name for name, path in files.items() if is_uri(path)]:
                raise ValueError(
                    "[retrain] switches the model by renaming a file, and learns from files: "
                    f"{', '.join(away)} must be on a disk of this machine, not in an object store"
                )
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
        return None if self.job.schedule is None else self._latest(now).timestamp()

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
        return self._latest(now).date() - timedelta(days=self.input.lag_days)

    def _latest(self, now: datetime) -> datetime:
        """In the job's zone; `now` itself without a schedule."""
        zone = ZoneInfo(self.job.timezone)
        return cron.latest(self.job.schedule, zone, now) if self.job.schedule else now.astimezone(zone)

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
            self.job.name,
            Destination(
                gateway=self.push.gateway,
                textfile=self.push.textfile,
                labels=self.push.labels,
                ca_file=self.push.ca_file,
                every_seconds=self.push.every,
                timeout_seconds=self.push.timeout,
            ),
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


def load(file: Path, *, text_from: Path | None = None) -> JobSpec:
    """The validated job file. Raises `SpecError` that lists everything that is wrong with it.

    `text_from` is a copy whose text is taken for the file's: paths stay relative to `file`.
    """
    path = file.absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise SpecError(f"{shown}: its path is not UTF-8, so it can't be written down; rename the file or its folder") from None
    try:
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
    """`path` made absolute under `base`, with `..` and `~` worked out; globs, templates and URIs stay as they are."""
    return path if is_uri(path) else os.path.normpath(base / Path(path).expanduser())


def _check_output_apart(spec: JobSpec) -> None:
    """An input that has the output in it would score its own predictions."""
    day = date(2000, 1, 1)
    written = outputs(_real(spec.input.path.format(date=day)), _real(spec.output.path.format(date=day)))
    readers = [("input.path", spec.input.path), *((f"holdout {h.name!r} path", h.path) for h in spec.holdout)]
    for key, path in readers:
        if reads(_real(path.format(date=day)), written):
            raise SpecError(f"{spec.path}: output.path {spec.output.path!r} lies inside {key} {path!r}; put it beside")


def _real(path: str) -> str:
    """Without links; an object store has none."""
    return path if is_uri(path) else os.path.realpath(path)
