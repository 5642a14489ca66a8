"""Commands that look at jobs, and change nothing but what the dead left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import printing
from jobs.commands.common import FAILED, USAGE, JobName, Json, SpecFiles, job_name, load_spec, open_ledger, read_environment


def validate(specs: SpecFiles, *, json: Json = False) -> None:
    """Check job files without running anything."""
    from jobs.catalogue import check

    checked = check(specs)
    rows = [{"spec": str(item.file), "job": item.job, "error": item.error} for item in checked]
    if json:
        printing.show_json(rows)
    for item in checked:
        if item.error:
            printing.say(f"error: {item.error}")
        elif not json:
            typer.echo(f"{item.file}: ok, job {item.job!r}")
    raise typer.Exit(USAGE if any(item.error for item in checked) else 0)


def list_jobs(*, json: Json = False) -> None:
    """Show every job the ledger knows: last run, quality, next run, push."""
    from time import time

    from jobs.dead_runs import settled_states
    from jobs.documents import state_document
    from jobs.summary import job_list

    with open_ledger() as ledger:
        states = settled_states(ledger)
    if not states and not json:
        printing.say("no jobs yet; 'batchgauge register SPEC' or 'batchgauge run SPEC' makes one known")
        return
    printing.show(job_list(states, time()), [state_document(state) for state in states] if json else [], as_json=json)


def status(job: JobName, *, json: Json = False) -> None:
    """Show one job: state, schedule, latest run, quality, push."""
    from time import time

    from jobs.dead_runs import settled_state
    from jobs.documents import state_document
    from jobs.retrain.summary import latest_line, record_document
    from jobs.summary import job_status

    with open_ledger() as ledger:
        state = settled_state(ledger, job_name(job))
        retrains = ledger.retrains(state.definition.job, limit=1)
    document = state_document(state) | {"retrained": record_document(retrains[0]) if retrains else None}
    shown = job_status(state, time(), retrained=latest_line(retrains[0]) if retrains else None)
    printing.show(shown, document, as_json=json)


def history(
    job: JobName,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000_000, help="How many runs, newest first.")] = 20,
    json: Json = False,
) -> None:
    """Show a job's runs, newest first."""
    from jobs.documents import history_document
    from jobs.summary import run_history

    with open_ledger() as ledger:
        runs = ledger.runs(job_name(job), limit=limit)
    printing.show(run_history(runs), history_document(runs), as_json=json)


def report(
    job: JobName,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, or - for stdout; default: the job's name, with .html, here."),
    ] = None,
) -> None:
    """Write one HTML page about a job: its last run, its quality, its history. It needs no server and no network."""
    from time import time

    from jobs.report import publish
    from jobs.report.facts import gather
    from jobs.report.page import page

    name = job_name(job)
    with open_ledger() as ledger:
        written = page(gather(ledger, name, now=time()))
    file = output or publish.default_file(name)
    publish.write(written, file)
    if file != publish.STDOUT:
        printing.say(f"wrote {file}")


def schema() -> None:
    """Print the JSON Schema of a job file, for editors."""
    from jobs.spec import JobSpec

    printing.show_json(JobSpec.model_json_schema())


def doctor(
    spec: Annotated[Path | None, typer.Argument(metavar="[SPEC]", help="Check this job too.", show_default=False)] = None,
    *,
    json: Json = False,
) -> None:
    """Check what a run needs: packages, ledger, gateway, and with a job file its model, input and output."""
    from jobs.doctor import examine
    from jobs.summary import findings_table

    findings = examine(load_spec(spec) if spec else None, read_environment())
    printing.show(findings_table(findings), [finding.document() for finding in findings], as_json=json)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else FAILED)
