"""Commands about training a job's model again."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import collector, printing
from jobs.commands.common import (
    FAILED,
    REFUSED,
    SKIPPED,
    JobName,
    Json,
    SpecFile,
    job_name,
    load_spec,
    names_a_file,
    open_ledger,
    read_environment,
)
from jobs.signals import stopping
from pipelines.errors import SpecError

if TYPE_CHECKING:
    from jobs.retrain.alerts import Message


def retrain(
    spec: SpecFile,
    *,
    date: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Train as of this day; default: the date of the latest scheduled time."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train, compare and report, but leave the model in place.")
    ] = False,
    alerts: Annotated[
        Path | None,
        typer.Option(
            help="Alertmanager's webhook message (JSON; - for stdin): retrain only if it asks for it.", show_default=False
        ),
    ] = None,
    definition: Annotated[
        Path | None, typer.Option(hidden=True, help="A copy of SPEC to read in its place, as the scheduler keeps it.")
    ] = None,
    json: Json = False,
) -> None:
    """Train a job's model again, and put it in place if it is better on labelled rows that it never saw."""
    from jobs.retrain.request import RetrainRequest
    from jobs.retrain.summary import retrain_document, retrain_summary
    from pipelines.cancellation import Cancellation

    loaded, environment = load_spec(spec, text_from=definition), read_environment()
    message = _message(alerts) if alerts else None
    request = RetrainRequest(loaded, environment, date.date() if date else None, dry_run, message)
    cancellation = Cancellation()
    with stopping(cancellation) as stop, printing.kept_for_the_report():
        from jobs.retrain.loop import retrain as retrain_job

        collector.resume()
        result = retrain_job(request, cancellation=cancellation)
    try:
        printing.show(retrain_summary(result), retrain_document(result), as_json=json)
    except printing.PrintingError as error:  # it can't change what the exit code says of it
        printing.say(f"warning: {error}; 'batchgauge retrains' has it")
    outcome = result.record.outcome if result.record else None
    code = {None: SKIPPED, "failed": FAILED, "stopped": FAILED, "refused": REFUSED}.get(outcome, 0)
    raise typer.Exit(stop.exit_code if stop.exit_code and code == FAILED else code)


def retrains(
    job: JobName,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000_000, help="How many retrainings, newest first.")] = 20,
    json: Json = False,
) -> None:
    """Show how a job's model was trained again, newest first."""
    from jobs.dead_runs import settled_state
    from jobs.retrain.summary import record_document, retrain_history

    with open_ledger() as ledger:
        name = settled_state(ledger, job_name(job)).definition.job
        records = ledger.retrains(name, limit=limit)
    printing.show(retrain_history(records), [record_document(record) for record in records], as_json=json)


def rollback(job: JobName, *, json: Json = False) -> None:
    """Put the model back that the last promotion replaced."""
    from jobs.retrain.rollback import roll_back
    from jobs.retrain.summary import retrain_document, retrain_summary

    environment = read_environment()
    with open_ledger(environment) as ledger:
        file = Path(job) if names_a_file(job) else Path(ledger.definition(job).spec_path)
        result = roll_back(ledger, load_spec(file), environment)
    printing.show(retrain_summary(result), retrain_document(result), as_json=json)


def _message(file: Path) -> Message:
    from jobs.retrain.alerts import MAX_BYTES, parse

    try:
        with sys.stdin.buffer if file == Path("-") else file.open("rb") as stream:
            return parse(stream.read(MAX_BYTES + 1))
    except OSError as error:
        raise SpecError(f"--alerts {file}: can't be read: {error.strerror}") from error
