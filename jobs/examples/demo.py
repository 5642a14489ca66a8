"""A month of nights in a minute: `make demo`, or `python -m jobs.examples.demo` in a clone.

Trains both example models, starts the local stack (Pushgateway, Prometheus, Alertmanager, node_exporter) and
`batchgauge schedule` on free loopback ports, and takes thirty nightly drops, as they come, through the same `jobs.run.run` that
cron calls. When noise has made the model surely too bad it waits for what must follow by itself: the alert, its way to the
scheduler, a retraining, a better model in place. The nights after are scored with that one, and the alert resolves. Everything
it makes lies in the folder that the job files name as their root. Where the servers can't be had it writes textfiles instead,
and says so.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from time import monotonic, time

from rich.table import Table
from rich.text import Text

from dashboards.check import Source
from dashboards.queries import QUERIES
from jobs.breaches import breaches
from jobs.console import Console
from jobs.delivery import register_job
from jobs.environment import read
from jobs.examples import breast_cancer, digits
from jobs.examples.alerts import DELIVERED, WITHDRAWN, Watch, alerts
from jobs.examples.loop import Scheduler, scheduler, steps, until_retrained
from jobs.examples.nights import dates
from jobs.examples.waiting import until
from jobs.progress import Silent
from jobs.report import publish
from jobs.report.facts import gather
from jobs.report.page import page
from jobs.request import RunRequest, RunResult
from jobs.run import run
from jobs.spec import JobSpec, load
from jobs.summary import estimate, run_summary, worst_slices
from monitoring import names
from monitoring.ledger import Ledger, RetrainOutcome, RetrainRecord
from monitoring.server import free_port
from monitoring.servers import MissingServer
from monitoring.stack import Stack
from pipelines.cancellation import Cancellation
from pipelines.report import Outcome

NIGHTS = 30
HERE = Path(__file__).parent
ROOT = HERE.parent.parent / ".batchgauge" / "demo"
EXAMPLES = {"digits": digits, "breast_cancer": breast_cancer}
SCRAPE_SECONDS = 30.0
NOISY = "digits"
ALERT, ALERT_SECONDS = "ModelAccuracyLow", 180.0
"""It comes a minute after the first night that is surely below the threshold: that is the rule's `for`."""
RETRAIN_SECONDS = 180.0


def main() -> int:
    """Run the whole demo in an emptied folder. Returns 0 when each night ended well and was pushed, and the loop is closed."""
    console, began = Console(highlight=False, width=None if sys.stdout.isatty() else 140), monotonic()
    tonight = datetime.now(UTC).date()
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    for name, example in EXAMPLES.items():
        console.print(f"{name}: trained (accuracy {example.train_first(ROOT):.3f} on data it never saw)")
    os.environ["BATCHGAUGE_LEDGER"] = str(ROOT / "ledger.db")
    with _servers(console) as loop:
        nights = Nights(tonight, console, loop)
        nights.register()
        nights.run_all()
        _show_last(nights.results, console)
        closed = _show_monitoring(loop, console) if loop else True
    _write_reports(console)
    console.print(f"\n{len(nights.results)} runs; the whole demo took {monotonic() - began:.0f} s.")
    well = all(result.report.outcome is Outcome.SUCCESS and result.delivery is not None for result in nights.results)
    return 0 if well and closed else 1


@dataclass
class Loop:
    """The servers around the jobs, the scheduler, and what is known of the alert and of the retraining that it leads to."""

    stack: Stack
    scheduler: Scheduler
    watch: Watch
    record: RetrainRecord | None = None

    @property
    def closed(self) -> bool:
        """Whether a better model was put in place, and the alert has resolved everywhere."""
        promoted = self.record is not None and self.record.outcome is RetrainOutcome.PROMOTED
        return promoted and WITHDRAWN in self.watch.seen


@contextmanager
def _servers(console: Console) -> Iterator[Loop | None]:
    """The stack and the scheduler, with the targets as Prometheus sees them; None where the servers can't be had."""
    with ExitStack() as opened:
        listen = f"127.0.0.1:{free_port()}"
        try:
            stack = opened.enter_context(Stack(ROOT / "stack", interval="1s", default_ports=False, scheduler=listen))
        except MissingServer as error:
            console.print(
                f"[yellow]no Prometheus servers here, so the state goes to textfiles instead, as node_exporter reads them,"
                f" and there are no alerts[/]\n({error})"
            )
            os.environ.update(_destination(None))
            yield None
            return
        os.environ.update(_destination(stack.gateway.url) | {"BATCHGAUGE_ALERTS_TOKEN_FILE": str(stack.token_file)})
        specs = [HERE / f"{name}.toml" for name in EXAMPLES]
        running = opened.enter_context(scheduler(specs, listen=listen, log=ROOT / "scheduler.log"))
        _await_scheduler(stack, listen)
        console.print("\nA real Prometheus scrapes, every second:\n", style="bold")
        console.print(_table((f"{target.job}", target.address, target.health.upper()) for target in stack.targets()))
        console.print(f"\nThe scheduler's own page: http://{listen}/ (log: {running.log})")
        yield Loop(stack, running, Watch(stack.prometheus.url, stack.alertmanager.url, ALERT, NOISY))


def _await_scheduler(stack: Stack, address: str) -> None:
    def is_up() -> bool:
        return any((target.address, target.health) == (address, "up") for target in stack.targets())

    until(is_up, timeout_seconds=SCRAPE_SECONDS)  # the table will show if it is down


def _destination(gateway: str | None) -> dict[str, str]:
    """Environment variables that say where states go: there only, wherever this shell's own would send them."""
    if gateway:
        return {"BATCHGAUGE_GATEWAY": gateway, "BATCHGAUGE_TEXTFILE": ""}
    folder = ROOT / "textfile"
    folder.mkdir()
    return {"BATCHGAUGE_GATEWAY": "", "BATCHGAUGE_TEXTFILE": str(folder)}


class Nights:
    """A month of nights, each delivered, run and printed in its turn."""

    def __init__(self, tonight: date, console: Console, loop: Loop | None) -> None:
        self.results: list[RunResult] = []
        self._days = list(dates(tonight, NIGHTS))
        self._console = console
        self._loop = loop
        self._specs = {name: load(HERE / f"{name}.toml") for name in EXAMPLES}
        self._environment = read(os.environ)

    def register(self) -> None:
        """Make the jobs known before their first night."""
        with Ledger.open(self._environment.ledger) as ledger:
            for spec in self._specs.values():
                register_job(ledger, spec, self._environment)
        if self._loop:
            _await_zeros(self._loop.stack.prometheus.url, self._console)

    def run_all(self) -> None:
        """Every night; after the first that is surely too bad, wait until somebody has done something about it."""
        header = _row("night", "job", "outcome", "rows", "rows/s", "accuracy", "recall", "worst slice")
        self._console.print()
        self._console.print(header, style="dim", soft_wrap=True)
        waited = False
        for number, day in self._days:
            surely_low = [name for name, spec in self._specs.items() if self._run(name, spec, number, day)]
            if self._loop and NOISY in surely_low and not waited:
                waited = True
                self._wait(self._loop)

    def _run(self, name: str, spec: JobSpec, number: int, day: date) -> bool:
        """One job's night. Returns whether the accuracy was surely below its threshold."""
        EXAMPLES[name].write_night(ROOT, day, number)
        request = RunRequest(spec, self._environment, logical_date=day)
        self.results.append(run(request, observer=Silent(), cancellation=Cancellation()))
        self._console.print(_night(self.results[-1], spec), soft_wrap=True)
        found = breaches(self.results[-1].report, spec.thresholds)
        return any(one.certain and one.figure == "accuracy" for one in found)

    def _wait(self, loop: Loop) -> None:
        """What follows a bad night by itself: alert, retraining, a better model."""
        self._console.print(
            f"{'':11} surely too bad, so {ALERT} must come, and lead to a retraining: waiting …", style="bold red"
        )
        if loop.watch.until(DELIVERED, timeout_seconds=ALERT_SECONDS):
            with Ledger.open(self._environment.ledger) as ledger:
                loop.record = until_retrained(ledger, NOISY, timeout_seconds=RETRAIN_SECONDS)
        outcome = f"{loop.record.outcome}, {loop.record.reason}" if loop.record else "nothing came"
        self._console.print(f"{'':11} {outcome.partition(chr(10))[0]}", style="bold", soft_wrap=True)


def _await_zeros(prometheus: str, console: Console) -> None:
    """Zeros first, and seen: to Prometheus the rows of a first night before that would be no increase."""
    with Source(prometheus) as source:

        def are_there() -> bool:
            return len(source.instant(names.REQUESTS.name, at=time())) >= len(EXAMPLES)

        if not until(are_there, timeout_seconds=SCRAPE_SECONDS):
            console.print(f"[yellow]Prometheus has not scraped the jobs within {SCRAPE_SECONDS:g} s[/]")


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
    last = next(result for result in reversed(results) if result.report.job == NOISY)
    console.print(run_summary(last, breaches(last.report, load(HERE / f"{NOISY}.toml").thresholds)))


def _show_monitoring(loop: Loop, console: Console) -> bool:
    """What Prometheus, Alertmanager and the scheduler made of it. True when the loop was closed."""
    loop.watch.until(WITHDRAWN, timeout_seconds=ALERT_SECONDS)
    console.print("\nThe loop, from a bad night to a better model:\n", style="bold")
    told = steps(loop.watch, loop.scheduler, loop.record)
    console.print(_table((f"{at:%H:%M:%S}", word, sentence) for at, word, sentence in told))
    if not loop.closed:
        console.print("[bold red]it was not closed[/]; the scheduler's log says more")
    prometheus = loop.stack.prometheus.url
    console.print("\nAll alerts in Prometheus now:\n", style="bold")
    standing = alerts(prometheus)
    console.print(_table((one.severity, one.state, one.name, one.summary) for one in standing) if standing else "none")
    console.print("\nThe questions people ask, answered by Prometheus (the README has the queries):\n", style="bold")
    with Source(prometheus) as source:
        console.print(_table((query.question, _in_short(source, query.expression)) for query in QUERIES))
    return loop.closed


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
