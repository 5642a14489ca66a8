"""Commands for what stands around the jobs: the local stack, configuration, other schedulers' files."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs import printing
from jobs.commands.common import FAILED, Json, SpecFiles, read_environment
from pipelines.errors import SpecError

StackFolder = Annotated[
    Path | None, typer.Option("--folder", help="Folder of its data; default: stack, beside the ledger.", show_default=False)
]


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
    from monitoring import stack_record

    def show(status: stack.Status) -> None:
        printing.show(stack.status_table(status), status.document(), as_json=False)
        printing.say(stack.next_steps(status))

    place = folder or stack.default_folder(read_environment())
    if detach:
        show(stack.up_detached(place, interval=scrape_interval, textfiles=textfiles))
        printing.say(f"It runs in the background; '{stack_record.command('down', place)}' ends it.")
    else:
        stack.up(place, interval=scrape_interval, textfiles=textfiles, say=printing.say, show=show)


def stack_down(*, folder: StackFolder = None) -> None:
    """End the stack, and wait until it has ended. Its data stays."""
    from jobs import stack

    printing.say(stack.down(folder or stack.default_folder(read_environment())))


def stack_status(*, folder: StackFolder = None, json: Json = False) -> None:
    """Show the stack's servers and what Prometheus scrapes. Exit code 1 unless it runs and all of them answer."""
    from jobs import stack

    status = stack.status(folder or stack.default_folder(read_environment()))
    printing.show(stack.status_table(status), status.document(), as_json=json)
    raise typer.Exit(0 if status.well else FAILED)


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
    printing.say(f"wrote {len(files)} files to {folder}")


def crontab(
    specs: SpecFiles,
    *,
    mailto: Annotated[str | None, typer.Option(help="Whom cron mails what goes wrong; '' for nobody.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder for what runs print; default: mailed if one goes wrong.")] = None,
) -> None:
    """Print a crontab for the jobs that have a schedule, with this environment's settings but no secret."""
    from jobs import timetable
    from jobs.catalogue import load_all
    from jobs.crontab import Crontab, machine_zone

    jobs, left_out = timetable.scheduled(load_all(specs))
    made = Crontab(
        entries=[entry for entry, _ in jobs],
        programs=timetable.programs(),
        settings=timetable.settings(os.environ, read_environment()),
        machine=machine_zone(),
        mailto=mailto,
        logs=logs.absolute() if logs else None,
    )
    typer.echo(made.text(), nl=False)
    for note in (*left_out, *made.notes()):
        printing.say(f"note: {note}")


def systemd(
    specs: SpecFiles,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write the units.")],
    user: Annotated[str | None, typer.Option(help="User that the jobs run as; default: whoever asks.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite units that differ.")] = False,
) -> None:
    """Write a systemd service and timer for each job that has a schedule, with this environment's settings but no secret."""
    from jobs import timetable
    from jobs.catalogue import load_all
    from jobs.systemd import Host, current_user, missing, steps, units
    from monitoring.deployment import write

    environment = read_environment()
    if user and user != current_user() and not os.environ.get("BATCHGAUGE_LEDGER"):
        raise SpecError(
            f"--user {user}: set BATCHGAUGE_LEDGER to a file that {user} may write; the default is in your own home"
        )
    jobs, left_out = timetable.scheduled(load_all(specs))
    settings = timetable.settings(os.environ, environment)
    host = Host(timetable.programs(), environment, settings, user or current_user(), datetime.now(UTC))
    files = units(jobs, host)
    write(output, files, force=force)
    for note in (*left_out, *steps(output, files, missing(jobs, environment), host.user)):
        printing.say(f"note: {note}")
