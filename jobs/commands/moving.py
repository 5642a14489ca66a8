"""Commands about the ledger itself."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import printing
from jobs.commands.common import Json, read_environment
from pipelines.errors import SpecError

_PLACE = "A path, or postgresql://user@host/database (its password in ~/.pgpass, or in PGPASSWORD)."


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help=f"The ledger to copy. {_PLACE}", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TO", help="An empty or absent one, in the same way.", show_default=False)],
    *,
    json: Json = False,
) -> None:
    """Copy a ledger, from SQLite to PostgreSQL or back: counters go on from where they were. Nobody may be at work on it."""
    from monitoring.ledger import Ledger
    from monitoring.urls import has_password

    environment = read_environment()
    for place in (source, target):
        if has_password(place):
            raise SpecError(
                "a password in an argument is seen by everybody on this machine: put it into ~/.pgpass (or PGPASSWORD), "
                "and leave it out of the URL"
            )
    if not _exists(source):
        raise SpecError(f"{source}: there is no such ledger")
    with Ledger.open(source, folder=environment.state) as old, Ledger.open(target, folder=environment.state) as new:
        rows = old.copy_to(new)
        places = old.location, new.location
    if json:
        printing.show_json({"from": places[0], "to": places[1], "rows": dict(rows)})
    else:
        said = ", ".join(f"{count} {name}" for name, count in rows.items() if count)
        typer.echo(f"copied {places[0]} to {places[1]}: {said or 'nothing, it was empty'}")
        typer.echo(
            "set BATCHGAUGE_LEDGER to the new one wherever jobs run; batch records and logs stay in their folder", err=True
        )


def _exists(place: str) -> bool:
    """Whether there is a file; a database says so itself. To open a ledger makes one, which nobody wants to copy."""
    from pathlib import Path

    from monitoring.urls import is_postgresql

    return is_postgresql(place) or Path(place.removeprefix("sqlite:///")).expanduser().is_file()
