"""The `batchgauge` command. Messages go to stderr; what a command reports goes to stdout.

Nothing heavy is imported before a command needs it: `--help`, `validate`, `list` and `status` know no torch.
"""

from __future__ import annotations

import sys
from signal import SIGINT
from typing import Annotated, NoReturn

import typer

from jobs import collector, printing
from jobs.commands import delivering, deploying, looking, moving, retraining, running, tuning
from jobs.commands.common import FAILED, USAGE
from jobs.signals import EXIT_BASE
from pipelines.errors import BatchgaugeError, SpecError

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

ledger_app = typer.Typer(help="The ledger itself.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
stack_app = typer.Typer(help="The servers around batchgauge, on this machine.", no_args_is_help=True)
app.add_typer(stack_app, name="stack")


def main() -> NoReturn:
    """Run the command; an error that we know is one clear message and an exit code."""
    collector.rest()
    printing.replace_unprintable()
    try:
        app()
    except BatchgaugeError as error:
        printing.say(f"error: {error}")
        sys.exit(USAGE if isinstance(error, SpecError) else FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_BASE + SIGINT)
    sys.exit(0)


def _version(value: bool) -> None:  # noqa: FBT001  typer calls it with the option's value
    if value:
        from importlib.metadata import version as installed_version  # noqa: PLC0415  --help must be quick

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


# In the order in which --help lists them.
app.command(epilog=EXIT_CODES)(running.run)
app.command()(running.schedule)
app.command()(tuning.tune)
app.command()(looking.validate)
app.command("list")(looking.list_jobs)
app.command()(looking.status)
app.command()(looking.history)
app.command()(looking.report)
app.command()(delivering.register)
app.command()(delivering.push)
app.command()(delivering.forget)
app.command()(delivering.gc)
app.command(epilog=RETRAIN_EXIT_CODES)(retraining.retrain)
app.command()(retraining.retrains)
app.command()(retraining.rollback)
app.command()(deploying.export)
app.command()(deploying.crontab)
app.command()(deploying.systemd)
app.command()(looking.schema)
app.command()(looking.doctor)
ledger_app.command("copy")(moving.copy)
stack_app.command("up")(deploying.stack_up)
stack_app.command("down")(deploying.stack_down)
stack_app.command("status")(deploying.stack_status)

if __name__ == "__main__":
    main()
