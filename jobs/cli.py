"""The `batchgauge` command. Messages go to stderr; what a command reports goes to stdout.

Nothing heavy is imported before a command needs it: `--help`, `validate`, `list` and `status` know no torch.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from jobs import printing
from jobs.signals import EXIT_BASE, stopping
from pipelines.errors import BatchgaugeError, SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.delivery import Push
    from jobs.environment import Environment
    from jobs.request import RunRequest, RunResult
    from jobs.retrain.alerts import Message
    from jobs.spec import JobSpec
    from monitoring.ledger import Ledger
    from pipelines.cancellation import Cancellation
    from pipelines.report import Outcome, Trigger

FAILED, USAGE, PARTIAL, BREACH, SKIPPED, REFUSED = 1, 2, 3, 4, 5, 6

EXIT_CODES = """
Exit codes: 0 success · 1 failed · 2 usage, or a job file that is wrong · 3 partial: something was rejected ·
4 a threshold is breached (with --fail-on-breach) · 5 skipped: the job is already running · 128+n stopped by signal n
"""
RETRAIN_EXIT_CODES = """
Exit codes: 0 promoted, or a dry run · 1 failed: the model stays · 2 usage, or a job file that is wrong ·
5 nothing was done: one is in progress, or the alerts ask for none · 6 refused: the candidate is not better ·
128+n stopped by signal n
"""

app = typer.Typer(
    name="batchgauge",
    help="Batch scoring with PyTorch, made as observable as an online service.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

stack_app = typer.Typer(help="The servers around batchgauge, on this machine.", no_args_is_help=True)
app.add_typer(stack_app, name="stack")

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="Job file (TOML).", show_default=False)]
SpecFiles = Annotated[
    list[Path], typer.Argument(metavar="SPEC…", help="Job files (TOML), or folders of them.", show_default=False)
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's name, or its job file.", show_default=False)]
StackFolder = Annotated[
    Path | None, typer.Option("--folder", help="Folder of its data; default: stack, beside the ledger.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")]


def main() -> NoReturn:
    """Run the command; an error that we know is one clear message and an exit code."""
    printing.replace_unprintable()
    try:
        app()
    except BatchgaugeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(USAGE if isinstance(error, SpecError) else FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_BASE + SIGINT)
    sys.exit(0)


def _version(value: bool) -> None:  # noqa: FBT001  typer calls it with the option's value
    if value:
        typer.echo(f"batchgauge {installed_version('batchgauge')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    del version


@app.command(epilog=EXIT_CODES)
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

    loaded, environment = _load(spec, text_from=definition), _environment()
    request = RunRequest(loaded, environment, _trigger(trigger), date.date() if date else None, rescore, due)
    cancellation = Cancellation()
    with stopping(cancellation) as stop:
        result = _run(request, cancellation)
    breached = breaches(result.report, loaded.thresholds)
    try:
        printing.show(run_summary(result, breached), run_document(result, breached), as_json=json)
    except printing.PrintingError as error:  # it can't change what the exit code says of the run
        typer.echo(f"warning: {error}; 'batchgauge history' has it", err=True)
    code = _exit_code(result.report.outcome, breached=bool(breached) and fail_on_breach)
    # A signal that came when the work was done (only the push was left) has stopped nothing.
    raise typer.Exit(stop.exit_code if stop.exit_code and code == FAILED else code)


@app.command()
def validate(specs: SpecFiles, *, json: Json = False) -> None:
    """Check job files without running anything."""
    from jobs.catalogue import check

    checked = check(specs)
    rows = [{"spec": str(item.file), "job": item.job, "error": item.error} for item in checked]
    if json:
        printing.show_json(rows)
    for item in checked:
        if item.error:
            typer.echo(f"error: {item.error}", err=True)
        elif not json:
            typer.echo(f"{item.file}: ok, job {item.job!r}")
    raise typer.Exit(USAGE if any(item.error for item in checked) else 0)


@app.command("list")
def list_jobs(*, json: Json = False) -> None:
    """Show every job the ledger knows: last run, quality, next run, push."""
    from time import time

    from jobs.dead_runs import settled_state
    from jobs.documents import state_document
    from jobs.summary import job_list

    with _ledger() as ledger:
        states = [settled_state(ledger, job) for job in ledger.jobs()]
    if not states and not json:
        typer.echo("no jobs yet; 'batchgauge register SPEC' or 'batchgauge run SPEC' makes one known", err=True)
        return
    printing.show(job_list(states, time()), [state_document(state) for state in states], as_json=json)


@app.command()
def status(job: JobName, *, json: Json = False) -> None:
    """Show one job: state, schedule, latest run, quality, push."""
    from time import time

    from jobs.dead_runs import settled_state
    from jobs.documents import state_document
    from jobs.retrain.summary import latest_line, record_document
    from jobs.summary import job_status

    with _ledger() as ledger:
        state = settled_state(ledger, _job_name(job))
        retrains = ledger.retrains(state.definition.job, limit=1)
    document = state_document(state) | {"retrained": record_document(retrains[0]) if retrains else None}
    shown = job_status(state, time(), retrained=latest_line(retrains[0]) if retrains else None)
    printing.show(shown, document, as_json=json)


@app.command()
def history(
    job: JobName,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many runs, newest first.")] = 20,
    json: Json = False,
) -> None:
    """Show a job's runs, newest first."""
    from jobs.documents import history_document
    from jobs.summary import run_history

    with _ledger() as ledger:
        runs = ledger.runs(_job_name(job), limit=limit)
    printing.show(run_history(runs), history_document(runs), as_json=json)


@app.command()
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

    name = _job_name(job)
    with _ledger() as ledger:
        written = page(gather(ledger, name, now=time()))
    file = output or publish.default_file(name)
    publish.write(written, file)
    if file != publish.STDOUT:
        typer.echo(f"wrote {file}", err=True)


@app.command()
def register(specs: SpecFiles, *, json: Json = False) -> None:
    """Make jobs known before their first run: pushes zeros, so that the first increase is seen."""
    from jobs.catalogue import load_all
    from jobs.delivery import register_job

    environment = _environment()
    jobs = load_all(specs)
    with _ledger(environment) as ledger:
        pushes = [register_job(ledger, spec, environment) for spec in jobs]
    _show_pushes(pushes, json=json)


@app.command()
def push(
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB]…", help="Jobs; default: all.", show_default=False)] = None,
    *,
    owed: Annotated[bool, typer.Option("--owed", help="Only jobs whose newest state was not delivered yet.")] = False,
    json: Json = False,
) -> None:
    """Push the state of jobs again. Heals a gateway that was away or has lost its memory."""
    from jobs.delivery import push_jobs

    environment = _environment()
    with _ledger(environment) as ledger:
        names = [_job_name(job) for job in jobs or ()] or ledger.jobs()
        pushes = push_jobs(ledger, names, environment, only_owed=owed)
    _show_pushes(pushes, json=json)


@app.command()
def forget(
    job: JobName,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask: the job's history and counters are lost.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Leave gateway and textfile alone: they are gone, or elsewhere.")
    ] = False,
) -> None:
    """Delete a job from the gateway and the ledger. Its predictions stay."""
    from jobs.delivery import forget_job

    environment = _environment()
    name = _job_name(job)
    with _ledger(environment) as ledger:
        ledger.state(name)
        if not yes and not typer.confirm(f"forget {name!r}, with its history and counters?", err=True):
            raise typer.Exit(FAILED)
        forget_job(ledger, name, environment, offline=offline)
    typer.echo(f"forgot {name!r}", err=True)


@stack_app.command("up")
def stack_up(
    *,
    folder: StackFolder = None,
    scrape_interval: Annotated[str, typer.Option(help="Of every scrape and evaluation, as in 1s.")] = "5s",
    textfiles: Annotated[
        Path | None,
        typer.Option(help="Folder that node_exporter reads, for push.textfile; default: textfile in the stack's folder."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background.")] = False,
) -> None:
    """Start Prometheus, Pushgateway, Alertmanager and node_exporter on loopback, with batchgauge's rules.

    It stays until it is interrupted (or ended by 'stack down'), and keeps its data. If one of them dies, all end.
    """
    from jobs import stack

    def show(status: stack.Status) -> None:
        printing.show(stack.status_table(status), status.document(), as_json=False)
        typer.echo(stack.next_steps(status), err=True)

    place = folder or stack.default_folder(_environment())
    if detach:
        show(stack.up_detached(place, interval=scrape_interval, textfiles=textfiles))
        typer.echo("It runs in the background; 'batchgauge stack down' ends it.", err=True)
    else:
        stack.up(place, interval=scrape_interval, textfiles=textfiles, say=lambda line: typer.echo(line, err=True), show=show)


@stack_app.command("down")
def stack_down(*, folder: StackFolder = None) -> None:
    """End the stack, and wait until it has ended. Its data stays."""
    from jobs import stack

    typer.echo(stack.down(folder or stack.default_folder(_environment())), err=True)


@stack_app.command("status")
def stack_status(*, folder: StackFolder = None, json: Json = False) -> None:
    """Show the stack's servers and what Prometheus scrapes. Exit code 1 unless it runs and all of them answer."""
    from jobs import stack

    status = stack.status(folder or stack.default_folder(_environment()))
    printing.show(stack.status_table(status), status.document(), as_json=json)
    raise typer.Exit(0 if status.well else FAILED)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write.", show_default=False)],
    *,
    prometheus: Annotated[str, typer.Option(metavar="HOST:PORT")] = "127.0.0.1:9090",
    gateway: Annotated[str, typer.Option(metavar="HOST:PORT", help="The Pushgateway.")] = "127.0.0.1:9091",
    alertmanager: Annotated[str, typer.Option(metavar="HOST:PORT")] = "127.0.0.1:9093",
    node_exporter: Annotated[str, typer.Option(metavar="HOST:PORT")] = "127.0.0.1:9100",
    scheduler: Annotated[str, typer.Option(metavar="HOST:PORT", help="batchgauge's own.")] = "127.0.0.1:9195",
    grafana_url: Annotated[str, typer.Option(metavar="URL", help="For links in alerts.")] = "http://127.0.0.1:3000",
    runbook_url: Annotated[str, typer.Option(metavar="URL", help="Where RUNBOOK.md can be read.")] = "RUNBOOK.md",
    secrets: Annotated[
        str, typer.Option(metavar="PATH", help="Folder of Alertmanager's secrets.")
    ] = "/etc/alertmanager/secrets",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
) -> None:
    """Write the configuration of Prometheus, Alertmanager and Grafana to a folder, with these addresses put in."""
    from monitoring import deployment

    addresses = deployment.Addresses(
        prometheus=prometheus,
        gateway=gateway,
        alertmanager=alertmanager,
        node_exporter=node_exporter,
        scheduler=scheduler,
        grafana_url=grafana_url,
        runbook_url=runbook_url,
        secrets=secrets,
    )
    files = deployment.files(addresses)
    deployment.write(folder, files, force=force)
    typer.echo(f"wrote {len(files)} files to {folder}", err=True)


@app.command()
def crontab(
    specs: SpecFiles,
    *,
    mailto: Annotated[str | None, typer.Option(help="Whom cron mails what goes wrong; '' for nobody.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder for what runs print; default: mailed if one goes wrong.")] = None,
) -> None:
    """Print a crontab for the jobs that have a schedule, with this environment's settings but no secret."""
    from jobs import timetable
    from jobs.crontab import Crontab, machine_zone

    jobs, left_out = timetable.scheduled(_load_all(specs))
    made = Crontab(
        entries=[entry for entry, _ in jobs],
        programs=timetable.programs(),
        settings=timetable.settings(os.environ, _environment()),
        machine=machine_zone(),
        mailto=mailto,
        logs=logs.absolute() if logs else None,
    )
    typer.echo(made.text(), nl=False)
    for note in (*left_out, *made.notes()):
        typer.echo(f"note: {note}", err=True)


@app.command()
def systemd(
    specs: SpecFiles,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write the units.")],
    user: Annotated[str | None, typer.Option(help="User that the jobs run as; default: whoever asks.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite units that differ.")] = False,
) -> None:
    """Write a systemd service and timer for each job that has a schedule, with this environment's settings but no secret."""
    from jobs import timetable
    from jobs.systemd import Host, current_user, missing, steps, units
    from monitoring.deployment import write

    environment = _environment()
    if user and user != current_user() and not os.environ.get("BATCHGAUGE_LEDGER"):
        raise SpecError(
            f"--user {user}: set BATCHGAUGE_LEDGER to a file that {user} may write; the default is in your own home"
        )
    jobs, left_out = timetable.scheduled(_load_all(specs))
    settings = timetable.settings(os.environ, environment)
    host = Host(timetable.programs(), environment, settings, user or current_user(), datetime.now(UTC))
    files = units(jobs, host)
    write(output, files, force=force)
    for note in (*left_out, *steps(output, files, missing(jobs, environment), host.user)):
        typer.echo(f"note: {note}", err=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a job file, for editors."""
    from jobs.spec import JobSpec

    printing.show_json(JobSpec.model_json_schema())


@app.command()
def doctor(
    spec: Annotated[Path | None, typer.Argument(metavar="[SPEC]", help="Check this job too.", show_default=False)] = None,
    *,
    json: Json = False,
) -> None:
    """Check what a run needs: packages, ledger, gateway, and with a job file its model, input and output."""
    from jobs.doctor import examine
    from jobs.summary import findings_table

    findings = examine(_load(spec) if spec else None, _environment())
    printing.show(findings_table(findings), [finding.document() for finding in findings], as_json=json)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else FAILED)


@app.command()
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
        str, typer.Option(metavar="HOST:PORT", help="Where to serve its own /metrics for Prometheus; '' for nowhere.")
    ] = "127.0.0.1:9195",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log events as JSON, one a line.")] = False,
) -> None:
    """Run jobs when their schedules say so, until SIGTERM. SIGHUP reads changed job files at once."""
    from jobs.scheduler.service import serve
    from jobs.scheduler.settings import Settings, default_max_running

    settings = Settings(
        paths=tuple(specs),
        environment=_environment(),
        max_running=max_running or default_max_running(),
        sync_every_seconds=_duration("--sync-every", sync_every),
        shutdown_seconds=_duration("--shutdown-timeout", shutdown_timeout),
        log_folder=log_dir,
        listen=listen or None,
    )
    serve(settings, stream=sys.stderr, log_json=log_json)


@app.command(epilog=RETRAIN_EXIT_CODES)
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
    json: Json = False,
) -> None:
    """Train a job's model again, and put it in place if it is better on labelled rows that it never saw."""
    from jobs.retrain.request import RetrainRequest
    from jobs.retrain.summary import retrain_document, retrain_summary
    from pipelines.cancellation import Cancellation

    loaded, environment = _load(spec), _environment()
    message = _message(alerts) if alerts else None
    request = RetrainRequest(loaded, environment, date.date() if date else None, dry_run, message)
    cancellation = Cancellation()
    with stopping(cancellation) as stop, redirect_stdout(sys.stderr):  # what a model's code prints is a message
        from jobs.retrain.loop import retrain as retrain_job

        result = retrain_job(request, cancellation=cancellation)
    try:
        printing.show(retrain_summary(result), retrain_document(result), as_json=json)
    except printing.PrintingError as error:  # it can't change what the exit code says of it
        typer.echo(f"warning: {error}; 'batchgauge retrains' has it", err=True)
    outcome = result.record.outcome if result.record else None
    code = {None: SKIPPED, "failed": FAILED, "refused": REFUSED}.get(outcome, 0)
    raise typer.Exit(stop.exit_code if stop.exit_code and code == FAILED else code)


@app.command()
def retrains(
    job: JobName,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many retrainings, newest first.")] = 20,
    json: Json = False,
) -> None:
    """Show how a job's model was trained again, newest first."""
    from jobs.dead_runs import settled_state
    from jobs.retrain.summary import record_document, retrain_history

    with _ledger() as ledger:
        name = settled_state(ledger, _job_name(job)).definition.job
        records = ledger.retrains(name, limit=limit)
    printing.show(retrain_history(records), [record_document(record) for record in records], as_json=json)


@app.command()
def rollback(job: JobName, *, json: Json = False) -> None:
    """Put the model back that the last promotion replaced."""
    from jobs.retrain.rollback import roll_back
    from jobs.retrain.summary import retrain_document, retrain_summary

    environment = _environment()
    with _ledger(environment) as ledger:
        file = Path(job) if job.endswith(".toml") else Path(ledger.state(job).definition.spec_path)
        result = roll_back(ledger, _load(file), environment)
    printing.show(retrain_summary(result), retrain_document(result), as_json=json)


def _message(file: Path) -> Message:
    from jobs.retrain.alerts import MAX_BYTES, parse

    try:
        with sys.stdin.buffer if file == Path("-") else file.open("rb") as stream:
            return parse(stream.read(MAX_BYTES + 1))
    except OSError as error:
        raise SpecError(f"--alerts {file}: can't be read: {error.strerror}") from error


def _run(request: RunRequest, cancellation: Cancellation) -> RunResult:
    from jobs.progress import watching
    from jobs.run import run as run_job  # the import that brings in torch

    # What a model's code prints is a message: stdout is for the report.
    with watching(request.spec.job.name, _stderr()) as observer, redirect_stdout(sys.stderr):
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


def _load_all(files: list[Path]) -> list[JobSpec]:
    from jobs.catalogue import load_all

    return load_all(files)


def _load(file: Path, *, text_from: Path | None = None) -> JobSpec:
    from jobs.spec import load

    return load(file, text_from=text_from)


def _environment() -> Environment:
    from jobs.environment import read

    return read(os.environ)


def _duration(option: str, text: str) -> float:
    from jobs.spec import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise SpecError(f"{option} {text!r}: {error}") from None


def _ledger(environment: Environment | None = None) -> Ledger:
    from monitoring.ledger import Ledger

    return Ledger.open((environment or _environment()).ledger)


def _job_name(name: str) -> str:
    """A job's name: as given, or that of the job file that was named instead."""
    return _load(Path(name)).job.name if name.endswith(".toml") and Path(name).is_file() else name


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _show_pushes(pushes: list[Push], *, json: bool) -> None:
    if json:
        printing.show_json([push.document() for push in pushes])
    for push in pushes:
        if push.error or not json:
            typer.echo(push.sentence(), err=True)
    raise typer.Exit(FAILED if any(push.error for push in pushes) else 0)


if __name__ == "__main__":
    main()
