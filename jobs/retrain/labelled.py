"""Which labelled rows may be learned from, and which are kept to judge the result: never the same file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from jobs.paths import dated
from jobs.settings import RetrainSettings
from jobs.spec import JobSpec
from pipelines.errors import DataError
from pipelines.exam import Exam
from pipelines.finding import InputFile, find_files
from pipelines.settings import HoldoutSettings

_MOST_DAYS = 3660
"""Ten years: a path that is the same for longer isn't split by days."""

_Days = dict[date, tuple[InputFile, ...]]


@dataclass(frozen=True, slots=True)
class Split:
    """Files to learn from, by holdout, the oldest day first; and the exams, on none of those files.

    `judged_from` is the first judged day: everything that is learned from is older. None when no holdout has dates.
    """

    learn: Mapping[str, tuple[Path, ...]]
    exams: tuple[Exam, ...]
    judged_from: date | None


def split(spec: JobSpec, settings: RetrainSettings, logical_date: date) -> Split:
    """Split by time: of each holdout with `{date}` the newest labelled days up to `logical_date` are judged.

    There is one cut for all holdouts, since two of them may have labels of the same rows: what is learned from is older than
    the oldest judged day of any. A holdout without dates is only judged. Raises `DataError` for one without files.
    """
    by_day = {one.name: _days(one, settings, logical_date) for one in spec.holdout if dated(one.path)}
    judged = {name: dict(list(days.items())[: settings.judge_days]) for name, days in by_day.items()}
    dates = ((one.path, day) for one in spec.holdout for day in judged.get(one.name, ()))
    cut = min((_first_day(path, day) for path, day in dates), default=None)
    exams = tuple(_exam(holdout, judged.get(holdout.name)) for holdout in spec.holdout)
    shown = {_path(file).resolve() for exam in exams for files in exam.days for file in files}
    learn = {
        name: tuple(
            _path(file)
            for day, files in reversed(days.items())
            if cut is not None and day < cut
            for file in files
            if _path(file).resolve() not in shown
        )
        for name, days in by_day.items()
    }
    return Split(learn, exams, cut)


def _path(file: InputFile) -> Path:
    assert isinstance(file.path, Path)  # a job with [retrain] has no URIs
    return file.path


def _days(holdout: HoldoutSettings, settings: RetrainSettings, logical_date: date) -> _Days:
    """The labelled days, newest first. Days that share a path (a file a month, say) are one, named by the last of them."""
    found: _Days = {}
    seen: set[str] = set()
    for day in (logical_date - timedelta(days=age) for age in range(settings.judge_days + settings.learn_days)):
        path = holdout.path.format(date=day)
        if path not in seen and (files := find_files(path)):
            found[day] = files
        seen.add(path)
    if not found:
        days = settings.judge_days + settings.learn_days
        raise DataError(
            f"holdout {holdout.name!r}, path {holdout.path}: no labelled files in the {days} days up to {logical_date}; "
            "without labels nobody can say whether a model is better"
        )
    return found


def _first_day(path: str, last: date) -> date:
    """The first of the days that share the last one's path."""
    first, shared = last, path.format(date=last)
    while (last - first).days < _MOST_DAYS and path.format(date=first - timedelta(days=1)) == shared:
        first -= timedelta(days=1)
    return first


def _exam(holdout: HoldoutSettings, days: _Days | None) -> Exam:
    if days is not None:
        return Exam(holdout, tuple(days.values()), max(days))
    files = find_files(holdout.path)
    if not files:
        raise DataError(f"holdout {holdout.name!r}, path {holdout.path}: no Parquet files")
    return Exam(holdout, (files,))
