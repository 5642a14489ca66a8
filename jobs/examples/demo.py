"""A month of nights in a minute: `make demo`, or `python -m jobs.examples.demo` in a clone.

Trains both example models, writes thirty nightly drops, starts the local stack (Pushgateway, Prometheus, Alertmanager,
node_exporter) on free loopback ports, runs every night through the same `jobs.run.run` that cron calls, waits until the
alert that the noisy nights are for has arrived in Alertmanager, and prints what happened. Everything it makes lies in the
folder that the job files name as their root. Where the servers can't be had it writes textfiles instead, and says so.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep, time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dashboards.check import Source
from dashboards.queries import QUERIES
from jobs.breaches import breaches
from jobs.delivery import register_job
from jobs.environment import read
from jobs.examples import breast_cancer, digits
from jobs.examples.alerts import Watch, alerts
from jobs.progress import Silent
from jobs.report import publish
from jobs.report.facts import gather
from jobs.report.page import page
from jobs.request import RunRequest, RunResult
from jobs.run import run
from jobs.spec import JobSpec, load
from jobs.summary import estimate, run_summary, worst_slices
from monitoring import names
from monitoring.ledger import Ledger
from monitoring.servers import MissingServer
from monitoring.stack import Stack
from pipelines.cancellation import Cancellation
from pipelines.report import Outcome

NIGHTS = 30
HERE = Path(__file__).parent
ROOT = HERE.parent.parent / ".batchgauge" / "demo"
EXAMPLES = {"digits": digits, "breast_cancer": breast_cancer}
SCRAPE_SECONDS = 30.0
ALERT, ALERT_SECONDS = "ModelAccuracyLow", 180.0
"""It comes a minute after the first night that is surely below the threshold: that is the rule's `for`."""


def main() -> int:
    """Run the whole demo in an emptied folder. Returns 0 when every night ended well and was pushed, and the alert arrived."""
    console, began = Console(highlight=False, width=None if sys.stdout.isatty() else 140), monotonic()
    tonight = datetime.now(UTC).date()
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    _prepare(tonight, console)
    nights = [tonight - timedelta(days=age) for age in reversed(range(NIGHTS))]
    os.environ["BATCHGAUGE_LEDGER"] = str(ROOT / "ledger.db")
    with _stack(console) as stack:
        os.environ.update(_destination(stack.gateway.url if stack else None))
        watch = Watch(stack.prometheus.url, stack.alertmanager.url, ALERT, "digits") if stack else None
        results = _run_nights(nights, console, watch)
        _show_last(results, console)
        told = _show_monitoring(stack, watch, console) if stack and watch else True
    _write_reports(console)
    console.print(f"\n{len(results)} runs; the whole demo took {monotonic() - began:.0f} s.")
    well = all(result.report.outcome is Outcome.SUCCESS and result.delivery is not None for result in results)
    return 0 if well and told else 1


def _prepare(tonight: date, console: Console) -> None:
    """Models and data: real images and biopsies, made into nights as `jobs/examples/README.md` says."""
    for name, example in EXAMPLES.items():
        accuracy = example.train_first(ROOT)
        example.write_nights(ROOT, tonight, NIGHTS)
        console.print(f"{name}: trained (accuracy {accuracy:.3f} on data it never saw), {NIGHTS} nights written")


@contextmanager
def _stack(console: Console) -> Iterator[Stack | None]:
    """The local stack, with its targets as Prometheus sees them; None where its servers can't be had."""
    with ExitStack() as opened:
        try:
            stack = opened.enter_context(Stack(ROOT / "stack", interval="1s", default_ports=False))
        except MissingServer as error:
            console.print(
                f"[yellow]no Prometheus servers here, so the state goes to textfiles instead, as node_exporter reads them,"
                f" and there are no alerts[/]\n({error})"
            )
            yield None
            return
        console.print("\nA real Prometheus scrapes, every second:\n", style="bold")
        console.print(_table((f"{target.job}", target.address, target.health.upper()) for target in stack.targets()))
        yield stack


def _destination(gateway: str | None) -> dict[str, str]:
    """Environment variables that say where states go: there only, wherever this shell's own would send them."""
    if gateway:
        return {"BATCHGAUGE_GATEWAY": gateway, "BATCHGAUGE_TEXTFILE": ""}
    folder = ROOT / "textfile"
    folder.mkdir()
    return {"BATCHGAUGE_GATEWAY": "", "BATCHGAUGE_TEXTFILE": str(folder)}


def _run_nights(nights: list[date], console: Console, watch: Watch | None) -> list[RunResult]:
    specs = [load(HERE / f"{name}.toml") for name in EXAMPLES]
    environment = read(os.environ)
    with Ledger.open(environment.ledger) as ledger:
        for spec in specs:
            register_job(ledger, spec, environment)
    if watch:
        _await_zeros(watch.prometheus, console)
    results: list[RunResult] = []
    console.print()
    console.print(
        _row("night", "job", "outcome", "rows", "rows/s", "accuracy", "recall", "worst slice"), style="dim", soft_wrap=True
    )
    for night in nights:
        for spec in specs:
            request = RunRequest(spec, environment, logical_date=night)
            results.append(run(request, observer=Silent(), cancellation=Cancellation()))
            console.print(_night(results[-1], spec), soft_wrap=True)
        for state in watch.look() if watch else ():
            console.print(f"{'':11} {ALERT} is {state}", style="bold red")
    return results


def _await_zeros(prometheus: str, console: Console) -> None:
    """Zeros first, and seen: to Prometheus the rows of a first night before that would be no increase."""
    deadline = monotonic() + SCRAPE_SECONDS
    with Source(prometheus) as source:
        while len(source.instant(names.REQUESTS.name, at=time())) < len(EXAMPLES):
            if monotonic() > deadline:
                console.print(f"[yellow]Prometheus has not scraped the jobs within {SCRAPE_SECONDS:g} s[/]")
                return
            sleep(0.1)


_WIDTHS = (11, 14, 8, 7, 9, 20, 20, 0)


def _row(*cells: str) -> str:
    return " ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))


def _night(result: RunResult, spec: JobSpec) -> str:
    report = result.report
    judged = next((holdout for holdout in report.holdouts if not holdout.error), None)
    worst = worst_slices(judged.slices, count=1) if judged else []
    low = judged is not None and judged.accuracy is not None and judged.accuracy.value < (spec.thresholds.accuracy or 0)
    row = _row(
        str(report.logical_date),
        report.job,
        str(report.outcome),
        f"{report.rows_scored:,}",
        f"{report.throughput_rows_per_second or 0:,.0f}",
        estimate(judged.accuracy if judged else None),
        estimate(judged.recall if judged else None),
        "".join(f"{piece.dimension} = {piece.value}: {estimate(piece.accuracy)}" for piece in worst),
    )
    return f"[red]{row}[/]" if low else row


def _show_last(results: list[RunResult], console: Console) -> None:
    console.print("\nThe last night of digits, as `batchgauge run` prints it:\n", style="bold")
    last = next(result for result in reversed(results) if result.report.job == "digits")
    console.print(run_summary(last, breaches(last.report, load(HERE / "digits.toml").thresholds)))


def _show_monitoring(stack: Stack, watch: Watch, console: Console) -> bool:
    """What Prometheus and Alertmanager made of it. True when the alert arrived."""
    console.print(f"\nThe alert {ALERT} of digits:\n", style="bold")
    told = watch.until_delivered(timeout_seconds=ALERT_SECONDS)
    console.print(_table((f"{at:%H:%M:%S}", state, _MEANINGS[state]) for state, at in watch.seen.items()))
    if not told:
        console.print(f"[bold red]it did not arrive in Alertmanager within {ALERT_SECONDS:g} s[/]")
    console.print("\nAll alerts in Prometheus now:\n", style="bold")
    console.print(_table((one.severity, one.state, one.name, one.summary) for one in alerts(stack.prometheus.url)))
    console.print("\nThe questions people ask, answered by Prometheus (the README has the queries):\n", style="bold")
    with Source(stack.prometheus.url) as source:
        console.print(_table((query.question, _in_short(source, query.expression)) for query in QUERIES))
    return told


_MEANINGS = {
    "pending": "in Prometheus: the upper bound of the accuracy is below the threshold",
    "firing": "in Prometheus: it has been for a minute",
    "delivered": "to Alertmanager, whose routes say who is told",
}
_ANSWERS = 2


def _in_short(source: Source, expression: str) -> str:
    series = source.instant(expression, at=time())
    shown = [
        f"{_number(one.value)} " + " ".join(value for name, value in sorted(one.labels.items()) if not name.startswith("__"))
        for one in series[:_ANSWERS]
    ]
    more = len(series) - len(shown)
    return "; ".join(map(str.strip, shown)) + (f"; and {more} more" if more else "") if series else "none"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004  four figures, whichever


def _table(rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _write_reports(console: Console) -> None:
    with Ledger.open(os.environ["BATCHGAUGE_LEDGER"]) as ledger:
        for job in EXAMPLES:
            publish.write(page(gather(ledger, job, now=time())), ROOT / f"{job}.html")
    console.print("\nWhere to look:\n", style="bold")
    console.print(
        _table(
            (
                (str(ROOT / "digits.html"), "the report, for a browser; also breast_cancer.html"),
                (str(ROOT / "digits" / "scored"), "predictions, a folder a night"),
                (str(ROOT / "batches"), "per-batch records of every run, Parquet"),
                (f"export BATCHGAUGE_LEDGER={ROOT / 'ledger.db'}", "then: batchgauge list, status digits, history digits"),
                (f"batchgauge stack up --folder {ROOT / 'stack'}", "the servers again, with all they know"),
            )
        )
    )


if __name__ == "__main__":
    sys.exit(main())
