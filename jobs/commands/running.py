"""Commands that run jobs: once, or whenever they are due."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import collector, printing
from jobs.commands.common import (
    BREACH,
    FAILED,
    PARTIAL,
    SKIPPED,
    Json,
    SpecFile,
    SpecFiles,
    duration,
    load_spec,
    read_environment,
)
from jobs.signals import stopping
from pipelines.errors import SpecError

if TYPE_CHECKING:
    from jobs.request import RunRequest, RunResult
    from pipelines.cancellation import Cancellation
    from pipelines.report import Outcome, Trigger


def run(
    spec: SpecFile,
    *,
    date: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Logical date; default: the date of the latest scheduled time."),
    ] = None,
    rescore: Annotated[bool, typer.Option("--rescore", help="Score parts again that are already committed.")] = False,
    fail_on_breach: Annotated[
        bool, typer.Option("--fail-on-breach", help="Exit 4 when a figure itself (not its bound) is beyond its threshold.")
    ] = False,
    trigger: Annotated[str, typer.Option(help="What starts it: manual, cron or scheduler.")] = "manual",
    due: Annotated[
        float | None, typer.Option(hidden=True, help="The scheduled time it is for (Unix seconds), as the scheduler says it.")
    ] = None,
    definition: Annotated[
        Path | None, typer.Option(hidden=True, help="A copy of SPEC to read in its place, as the scheduler keeps it.")
    ] = None,
    json: Json = False,
) -> None:
    """Score a job's input once, measure it, judge it, record it and push it."""
    from jobs.breaches import breaches
    from jobs.documents import run_document
    from jobs.request import RunRequest
    from jobs.summary import run_summary
    from pipelines.cancellation import Cancellation

    loaded, environment = load_spec(spec, text_from=definition), read_environment()
    request = RunRequest(loaded, environment, _trigger(trigger), date.date() if date else None, rescore, due)
    cancellation = Cancellation()
    with stopping(cancellation) as stop:
        result = _run(request, cancellation)
    breached = breaches(result.report, loaded.thresholds)
    try:
        printing.show(run_summary(result, breached), run_document(result, breached), as_json=json)
    except printing.PrintingError as error:  # it can't change what the exit code says of the run
        printing.say(f"warning: {error}; 'batchgauge history' has it")
    code = _exit_code(result.report.outcome, breached=bool(breached) and fail_on_breach)
    # A signal that came when the work was done (only the push was left) has stopped nothing.
    raise typer.Exit(stop.exit_code if stop.exit_code and code == FAILED else code)


def schedule(
    specs: SpecFiles,
    *,
    max_running: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at once; default: one for each accelerator, else one for every two cores."),
    ] = None,
    sync_every: Annotated[str, typer.Option(help="How often gateways are compared with the ledger.")] = "60s",
    shutdown_timeout: Annotated[
        str, typer.Option(help="How long runs may take to stop when the scheduler is stopped.")
    ] = "30s",
    log_dir: Annotated[
        Path | None, typer.Option(help="Folder for the output of runs, a file a job; default: logs/ beside the ledger.")
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to serve its page, API, /metrics and /alerts; '' for nowhere.")
    ] = "127.0.0.1:9195",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log events as JSON, one a line.")] = False,
) -> None:
    """Run jobs when their schedules say so, until SIGTERM. SIGHUP reads changed job files at once."""
    from jobs.environment import alerts_token
    from jobs.schedule import serve
    from jobs.scheduler.settings import Settings, default_max_running

    collector.resume()
    settings = Settings(
        paths=tuple(specs),
        environment=read_environment(),
        max_running=max_running or default_max_running(),
        sync_every_seconds=duration("--sync-every", sync_every),
        shutdown_seconds=duration("--shutdown-timeout", shutdown_timeout),
        log_folder=log_dir,
        listen=listen or None,
        alerts_token=alerts_token(os.environ),
    )
    serve(settings, stream=sys.stderr, log_json=log_json)


def _run(request: RunRequest, cancellation: Cancellation) -> RunResult:
    from jobs.console import Console
    from jobs.progress import watching
    from jobs.run import run as run_job  # the import that brings in torch

    collector.resume()
    with watching(request.spec.job.name, Console(stderr=True)) as observer, printing.kept_for_the_report():
        return run_job(request, observer=observer, cancellation=cancellation)


def _exit_code(outcome: Outcome, *, breached: bool) -> int:
    if outcome == "failed":
        return FAILED
    if outcome == "skipped":
        return SKIPPED
    if breached:
        return BREACH
    return PARTIAL if outcome == "partial" else 0


def _trigger(name: str) -> Trigger:
    from pipelines.report import Trigger

    try:
        return Trigger(name)
    except ValueError:
        raise SpecError(f"--trigger {name!r}: must be one of {', '.join(Trigger)}") from None
