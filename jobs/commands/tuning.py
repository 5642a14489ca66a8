"""The command that measures a job, for when its latency is high."""

from __future__ import annotations

from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import collector, printing
from jobs.commands.common import FAILED, Json, SpecFile, duration, load_spec, read_environment
from jobs.signals import stopping
from pipelines.errors import SpecError

if TYPE_CHECKING:
    from jobs.tune.request import TuneRequest, TuneResult


def tune(
    spec: SpecFile,
    *,
    date: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Day whose rows are measured with; default: the latest scheduled time's."),
    ] = None,
    time: Annotated[str, typer.Option(help="About how long to measure.")] = "20s",
    latency: Annotated[
        float | None,
        typer.Option(
            help="Seconds that 95 % of batches, and the mean row, may take; default: thresholds.latency_seconds.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure batch sizes, workers and devices on a job's own model and rows, and say what to set. It changes nothing."""
    loaded, environment = load_spec(spec), read_environment()
    seconds = duration("--time", time)
    if not seconds:
        raise SpecError(f"--time {time!r}: must be longer than nothing")
    if latency is not None and not 0 < latency < inf:
        raise SpecError(f"--latency {latency:g}: must be a number of seconds above 0")
    if loaded.engine.kind != "local":
        raise SpecError(
            f"engine.kind = {loaded.engine.kind!r}: tune measures threads of this host, and none of them works on this job; "
            "with batch.rows = 'auto' its runs measure on a worker"
        )

    from jobs.tune.advice import advise  # the imports that bring in torch
    from jobs.tune.request import TuneRequest
    from jobs.tune.summary import tune_document, tune_summary

    result = _tune(TuneRequest(loaded, environment, date.date() if date else None, seconds, latency))
    advice = advise(result)
    printing.show(tune_summary(result, advice), tune_document(result, advice), as_json=json)


def _tune(request: TuneRequest) -> TuneResult:
    from jobs.console import Console
    from jobs.tune.progress import watching
    from jobs.tune.session import tune as tune_job
    from pipelines.cancellation import Cancellation, Cancelled

    collector.resume()
    cancellation = Cancellation()
    with stopping(cancellation) as stop, watching(request.spec.job.name, Console(stderr=True)) as watch:
        try:
            with printing.kept_for_the_report():
                return tune_job(request, watch=watch, cancellation=cancellation)
        except Cancelled as error:
            printing.say(f"{error}: nothing was measured to the end, and nothing was changed")
            raise typer.Exit(stop.exit_code or FAILED) from None
