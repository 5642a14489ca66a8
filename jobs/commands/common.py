"""What commands share: arguments, exit codes, and opening what a job needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.errors import SpecError

if TYPE_CHECKING:
    from jobs.environment import Environment
    from jobs.spec import JobSpec
    from monitoring.ledger import Ledger


FAILED, USAGE, PARTIAL, BREACH, SKIPPED, REFUSED = 1, 2, 3, 4, 5, 6

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="Job file (TOML).", show_default=False)]
SpecFiles = Annotated[
    list[Path], typer.Argument(metavar="SPEC…", help="Job files (TOML), or folders of them.", show_default=False)
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's name, or its job file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")]


def load_spec(file: Path, *, text_from: Path | None = None) -> JobSpec:
    """The job of a job file. Raises `SpecError`."""
    from jobs.spec import load

    return load(file, text_from=text_from)


def read_environment() -> Environment:
    """What the `BATCHGAUGE_…` variables say. Raises `SpecError`."""
    from jobs.environment import read

    return read(os.environ)


def open_ledger(environment: Environment | None = None) -> Ledger:
    """The ledger that the environment names. Raises `LedgerError`."""
    return (environment or read_environment()).open_ledger()


def job_name(name: str) -> str:
    """A job's name: as given, or that of the job file that was named instead."""
    return load_spec(Path(name)).job.name if names_a_file(name) else name


def names_a_file(name: str) -> bool:
    """Whether a job is named by its job file."""
    return name.endswith(".toml") and Path(name).is_file()


def duration(option: str, text: str) -> float:
    """The seconds of an option that is a duration such as `60s`. Raises `SpecError`."""
    from jobs.settings import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise SpecError(f"{option} {text!r}: {error}") from None
