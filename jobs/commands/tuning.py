"""Advice about speed."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from datetime import datetime
from typing import Annotated

import typer

from jobs import printing
from jobs.commands.common import FAILED, Json, SpecFile, duration, load_spec, read_environment
from jobs.signals import stopping
from pipelines.errors import SpecError


def tune(
    spec: SpecFile,
    *,
    date: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Measure on this day's input; default: the date of the latest scheduled time."),
    ] = None,
    time: Annotated[str, typer.Option(help="How long to measure, about.")] = "20s",
    latency: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Seconds that 95 % of the batches may take; default: thresholds.latency_seconds.", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure batch sizes, workers and devices on a job's real model and data, and say what to set. Changes nothing."""
    from jobs.tune.request import TuneRequest
    from pipelines.cancellation import Cancellation, Cancelled

    loaded, environment = load_spec(spec), read_environment()
    seconds = duration("--time", time)
    if latency == 0:
        raise SpecError("--latency 0: give the seconds that a batch may take, as in 0.2")
    request = TuneRequest(loaded, date.date() if date else None, seconds, latency)
    cancellation = Cancellation()
    with stopping(cancellation) as stop, redirect_stdout(sys.stderr):  # what a model's code prints is a message
        from jobs.tune.advice import advise
        from jobs.tune.session import tune as tune_job
        from jobs.tune.summary import tuned_document, tuned_summary

        try:
            tuned = tune_job(request, environment, cancellation=cancellation, say=_say)
        except Cancelled as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(stop.exit_code or FAILED) from None
    advice = advise(tuned)
    printing.show(tuned_summary(tuned, advice), tuned_document(tuned, advice), as_json=json)


def _say(step: str) -> None:
    """On a terminal one line that changes; elsewhere nothing, since it would be hundreds."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{step}")
        sys.stderr.flush()
