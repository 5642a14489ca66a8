"""Many job files at once: folders of them, checked for names that are used twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.spec import JobSpec, load
from pipelines.errors import SpecError


@dataclass(frozen=True, slots=True)
class Checked:
    """A job file and what came of reading it: a spec, or an error."""

    file: Path
    spec: JobSpec | None
    error: str | None

    @property
    def job(self) -> str | None:
        """The job's name; None when the file is wrong."""
        return self.spec.job.name if self.spec else None


def files(paths: Iterable[Path]) -> list[Path]:
    """The job files named, and those in the folders named, sorted. A folder without any is a `SpecError`."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        if not inside:
            raise SpecError(f"{path}: no job files (*.toml) in this folder")
        found.extend(inside)
    return found


def check(paths: Iterable[Path]) -> list[Checked]:
    """Every job file with its spec or its error; a name or an output folder that another job has is an error."""
    checked = [_read(file) for file in files(paths)]
    first: dict[tuple[str, str], Path] = {}
    for place, item in enumerate(checked):
        if item.spec is None:
            continue
        for key, value in own(item.spec):
            other = first.setdefault((key, value), item.file)
            if other.absolute() != item.file.absolute():
                checked[place] = replace(item, error=shared(item.file, key, value, other))
    return checked


def own(spec: JobSpec) -> tuple[tuple[str, str], ...]:
    """The keys and values that no other job may have."""
    return ("job.name", spec.job.name), ("output.path", spec.output.path)


def shared(file: Path, key: str, value: str, other: Path) -> str:
    """What is wrong with a file that has such a value of another's."""
    return f"{file}: {key} = {value!r}: {other} has the same; it must be one job's alone"


def _read(file: Path) -> Checked:
    try:
        return Checked(file, load(file), None)
    except SpecError as error:
        return Checked(file, None, str(error))


def load_all(paths: Iterable[Path]) -> list[JobSpec]:
    """All of them, or a `SpecError` with everything that is wrong."""
    checked = check(paths)
    errors = [item.error for item in checked if item.error]
    if errors:
        raise SpecError("\n".join(errors))
    return [item.spec for item in checked if item.spec is not None]
