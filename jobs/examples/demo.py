"""A month of nights in a minute: `make demo`, or `python -m jobs.examples.demo` in a clone.

Trains both example models, writes thirty nightly drops, starts a real Pushgateway on a free loopback port,
runs every night through the same `jobs.run.run` that cron calls, and prints what happened. Everything it
makes lies in the folder that the job files name as their root. Where no Pushgateway can be had it writes
textfiles instead, and says so.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.table import Table

from jobs.breaches import breaches
from jobs.environment import read
from jobs.examples import breast_cancer, digits
from jobs.progress import Silent
from jobs.request import RunRequest, RunResult
from jobs.run import run
from jobs.spec import JobSpec, load
from jobs.summary import estimate, run_summary, worst_slices
from monitoring import names, servers
from monitoring.exposition import render
from monitoring.ledger import Ledger
from pipelines.cancellation import Cancellation
from pipelines.report import Outcome

NIGHTS = 30
HERE = Path(__file__).parent
ROOT = HERE.parent.parent / ".batchgauge" / "demo"
EXAMPLES = {"digits": digits, "breast_cancer": breast_cancer}
MAIN_METRICS = tuple(
    f"{metric.name}{{" for metric in (names.RUN_STATE, names.REQUESTS, names.LATENCY, names.ACCURACY, names.RECALL)
)


def main() -> int:
    """Run the whole demo in an emptied folder. Returns 0 when every night ended well and was pushed."""
    console, began = Console(highlight=False, width=None if sys.stdout.isatty() else 140), monotonic()
    tonight = datetime.now(UTC).date()
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    _prepare(tonight, console)
    with _sink(console) as variables:
        os.environ.update(variables | {"BATCHGAUGE_LEDGER": str(ROOT / "ledger.db")})
        results = _run_nights([tonight - timedelta(days=age) for age in reversed(range(NIGHTS))], console)
        _show_end(results, console)
    console.print(f"\n{len(results)} runs; the whole demo took {monotonic() - began:.0f} s.")
    well = all(result.report.outcome is Outcome.SUCCESS and result.delivery is not None for result in results)
    return 0 if well else 1


def _prepare(tonight: date, console: Console) -> None:
    """Models and data: real images and biopsies, made into nights as `jobs/examples/README.md` says."""
    for name, example in EXAMPLES.items():
        accuracy = example.train_first(ROOT)
        example.write_nights(ROOT, tonight, NIGHTS)
        console.print(f"{name}: trained (accuracy {accuracy:.3f} on data it never saw), {NIGHTS} nights written")


@contextmanager
def _sink(console: Console) -> Iterator[dict[str, str]]:
    """Environment variables that name a real gateway; or a textfile folder where there is none."""
    try:
        gateway = servers.pushgateway()
    except servers.MissingServer as error:
        folder = ROOT / "textfile"
        folder.mkdir()
        console.print(
            f"[yellow]no Pushgateway here, so the state goes to {folder} instead, as node_exporter reads it[/]\n({error})"
        )
        yield {"BATCHGAUGE_TEXTFILE": str(folder)}
        return
    with gateway:
        console.print(f"a real Pushgateway listens on {gateway.url}\n")
        yield {"BATCHGAUGE_GATEWAY": gateway.url}


def _run_nights(nights: list[date], console: Console) -> list[RunResult]:
    specs = [load(HERE / f"{name}.toml") for name in EXAMPLES]
    environment = read(os.environ)
    results: list[RunResult] = []
    console.print(
        _row("night", "job", "outcome", "rows", "rows/s", "accuracy", "recall", "worst slice"), style="dim", soft_wrap=True
    )
    for night in nights:
        for spec in specs:
            request = RunRequest(spec, environment, logical_date=night)
            results.append(run(request, observer=Silent(), cancellation=Cancellation()))
            console.print(_night(results[-1], spec), soft_wrap=True)
    return results


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


def _show_end(results: list[RunResult], console: Console) -> None:
    console.print("\nThe last night of digits, as `batchgauge run` prints it:\n", style="bold")
    last = next(result for result in reversed(results) if result.report.job == "digits")
    console.print(run_summary(last, breaches(last.report, load(HERE / "digits.toml").thresholds)))
    console.print("\nThe pushed state (some of it; all of it is in the gateway until this demo ends):\n", style="bold")
    with Ledger.open(os.environ["BATCHGAUGE_LEDGER"]) as ledger:
        states = [ledger.state(job) for job in ledger.jobs()]
    for state in states:
        text = render(state, pushed_at=state.pushed_at or 0.0, labels={"job": state.definition.job}).decode()
        file = ROOT / f"{state.definition.job}.prom"
        file.write_text(text, encoding="utf-8")
        shown = [line for line in text.splitlines() if line.startswith(MAIN_METRICS) and not line.endswith(" 0")]
        console.print("\n".join(shown), markup=False, soft_wrap=True)
    console.print("\nWhere to look:\n", style="bold")
    console.print(_places())


def _places() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(str(ROOT / "digits.prom"), "the whole pushed state of a job")
    table.add_row(str(ROOT / "digits" / "scored"), "predictions, a folder a night")
    table.add_row(str(ROOT / "batches"), "per-batch records of every run, Parquet")
    table.add_row(f"export BATCHGAUGE_LEDGER={ROOT / 'ledger.db'}", "then: batchgauge list, status digits, history digits")
    return table


if __name__ == "__main__":
    sys.exit(main())
