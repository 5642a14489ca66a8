"""The jobs that have a schedule, and what cron or systemd must be told to start them as they start here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from jobs import cron
from jobs.environment import PREFIX, VARIABLES, Environment
from jobs.spec import JobSpec
from monitoring.urls import has_password
from pipelines.errors import SpecError

_LEDGER = f"{PREFIX}LEDGER"
_SECRETS = frozenset(f"{PREFIX}{name}" for name in VARIABLES if f"{name}_FILE" in VARIABLES)
_PATHS = frozenset(f"{PREFIX}{name}" for name in VARIABLES if name.endswith("FILE") or name in {"STATE", "TOOLS"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One job, its file (absolute), and when it is due: a cron text of five fields, in a zone."""

    job: str
    file: Path
    schedule: str
    zone: ZoneInfo


def scheduled(specs: Iterable[JobSpec]) -> tuple[list[tuple[Entry, JobSpec]], list[str]]:
    """The jobs that have a schedule, and a note for each that has none. Raises `SpecError` when none has one."""
    found: list[tuple[Entry, JobSpec]] = []
    by_hand: list[Path] = []
    for spec in specs:
        if spec.job.schedule is None:
            by_hand.append(spec.path)
        else:
            zone = ZoneInfo(spec.job.timezone)
            found.append((Entry(spec.job.name, spec.path, cron.check(spec.job.schedule), zone), spec))
    if not found:
        files = ", ".join(map(str, by_hand))
        raise SpecError(f"{files}: no job has a schedule; write one into its job file, such as schedule = '15 2 * * *'")
    return found, [f"{file}: has no schedule and is left out" for file in by_hand]


def programs() -> Path:
    """The folder that has the `batchgauge` command of this interpreter. Raises `SpecError` when it is not there."""
    folder = Path(sys.executable).absolute().parent
    if not (folder / "batchgauge").is_file():
        raise SpecError(f"{folder} has no batchgauge command; install batchgauge into the environment of {sys.executable}")
    return folder


def settings(variables: Mapping[str, str], environment: Environment) -> dict[str, str]:
    """Our variables as another process needs them: those that are set, paths absolute, and always the ledger.

    Raises `SpecError` for a secret: what these go into is read by more people than may know it.
    """
    if has_password(environment.ledger):
        raise SpecError(
            f"environment variable {_LEDGER}: its password is not written down for others to read; put it into ~/.pgpass "
            "of the job's user, and leave it out of the URL"
        )
    found: dict[str, str] = {_LEDGER: str(environment.ledger_file or environment.ledger)}
    for name in sorted(f"{PREFIX}{known}" for known in VARIABLES):
        value = variables.get(name)
        if value is None or name == _LEDGER:
            continue
        if name in _SECRETS and value:
            raise SpecError(
                f"environment variable {name}: a secret is not written down for others to read; put it into a file that "
                f"only the job's user may read, and set {name}_FILE to its path instead"
            )
        if name not in _SECRETS:
            found[name] = str(Path(value).absolute()) if value and name in _PATHS else value
    return found
