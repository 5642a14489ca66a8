"""Commands about what is on the gateway: known, pushed again, forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs import printing
from jobs.commands.common import FAILED, JobName, Json, SpecFiles, job_name, open_ledger, read_environment

if TYPE_CHECKING:
    from jobs.delivery import Push


def register(specs: SpecFiles, *, json: Json = False) -> None:
    """Make jobs known before their first run: pushes zeros, so that the first increase is seen."""
    from jobs.catalogue import load_all
    from jobs.delivery import register_job

    environment = read_environment()
    jobs = load_all(specs)
    with open_ledger(environment) as ledger:
        pushes = [register_job(ledger, spec, environment) for spec in jobs]
    _show_pushes(pushes, json=json)


def push(
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB]…", help="Jobs; default: all.", show_default=False)] = None,
    *,
    owed: Annotated[bool, typer.Option("--owed", help="Only jobs whose newest state was not delivered yet.")] = False,
    json: Json = False,
) -> None:
    """Push the state of jobs again. Heals a gateway that was away or has lost its memory."""
    from jobs.delivery import push_jobs

    environment = read_environment()
    with open_ledger(environment) as ledger:
        names = [job_name(job) for job in jobs or ()] or ledger.jobs()
        pushes = push_jobs(ledger, names, environment, only_owed=owed)
    _show_pushes(pushes, json=json)


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

    environment = read_environment()
    name = job_name(job)
    with open_ledger(environment) as ledger:
        ledger.state(name)
        if not yes and not typer.confirm(f"forget {name!r}, with its history and counters?", err=True):
            raise typer.Exit(FAILED)
        forget_job(ledger, name, environment, offline=offline)
    printing.say(f"forgot {name!r}")


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of each group.")] = False,
    abandon: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A gateway that is gone for good: its groups are not looked for any more."),
    ] = None,
    json: Json = False,
) -> None:
    """Delete groups from gateways that this ledger has pushed, and that no job in it owns any more."""
    from monitoring.leftovers import collect

    environment = read_environment()
    with open_ledger(environment) as ledger:
        leftovers = collect(
            ledger,
            dry_run=dry_run,
            credentials=environment.credentials,
            ca_file=environment.ca_file,
            abandoned=frozenset(abandon or ()),
        )
    if json:
        printing.show_json([leftover.document() for leftover in leftovers])
    else:
        for leftover in leftovers:
            printing.say(leftover.sentence(dry_run=dry_run), err=leftover.error is not None)
    for error in sorted({leftover.error for leftover in leftovers if leftover.error}):
        printing.say(f"error: {error}")
    raise typer.Exit(FAILED if any(leftover.error for leftover in leftovers) else 0)


def _show_pushes(pushes: list[Push], *, json: bool) -> None:
    if json:
        printing.show_json([push.document() for push in pushes])
    for push in pushes:
        if push.error or not json:
            printing.say(push.sentence())
    raise typer.Exit(FAILED if any(push.error for push in pushes) else 0)
