"""Where one machine ends: what a push costs beside so many series, a part in a large ledger, a driver of so many parts.

    python -m benchmarks.scaling [NAME…] [--json FILE] [--figures FOLDER] [--most SERIES]

Real servers on loopback: a Pushgateway, a PostgreSQL that flushes each commit to disk, as SQLite does here, and a Ray of one
node. Figures belong to a machine; their shapes, and the ratios between them, to the programs. The scheduler is in `lag`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import httpx
import psutil

from benchmarks import known_jobs, machine, parts_table, ray_parts
from benchmarks.curves import curve
from jobs.report.figures.axis import Axis, amount_axis, seconds_axis
from monitoring import exposition, servers
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from monitoring.state import JobState
from tests import reports
from tests.postgres import Postgres

SERIES = (1_000, 10_000, 50_000, 100_000, 200_000, 400_000)
_SERIES_OF_A_SLICE = 7
_SLICES = (4, 132)
"""Slices of a job: with what every job has these make about a hundred series, and a thousand."""
_PUSHES = 15
_COMMITS = 100
_WRITERS = (1, 2, 4)
_AT_ONCE = (1, 32)


@dataclass(frozen=True, slots=True)
class Push:
    """One more push of a job of `job_series` to a gateway that holds `series`. Seconds and bytes; medians."""

    job_series: int
    series: int
    push_seconds: float
    gateway_cpu_seconds: float
    scrape_seconds: float
    scrape_bytes: int
    gateway_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Commits:
    """Parts a second that so many processes, each with a job of its own, add to one ledger, `at_once` a transaction."""

    ledger: str
    writers: int
    at_once: int
    parts_per_second: float


@dataclass(frozen=True, slots=True)
class Series:
    """How many series something has."""

    of: str
    series: int


def pushes(most: int) -> list[Push]:
    """For jobs of about a hundred series and of a thousand, up to `most` series on the gateway."""
    found = []
    with TemporaryDirectory() as folder:
        for slices in _SLICES:
            with servers.pushgateway() as gateway:
                found += _on_one(gateway, _state(Path(folder), slices), [one for one in SERIES if one <= most])
    return found


def _state(folder: Path, slices: int) -> JobState:
    with Ledger.open(folder / f"{slices}.db") as ledger:
        known_jobs.add(ledger, "job", slices=slices)
        return ledger.state("job")


def _on_one(gateway: servers.Server, state: JobState, sizes: Iterable[int]) -> list[Push]:
    body = exposition.render(state, pushed_at=0.0)
    job_series = sum(not line.startswith(b"#") for line in body.splitlines())
    process, destination, found, jobs = psutil.Process(gateway.pid), Gateway(gateway.url, timeout_seconds=60.0), [], 0
    for size in sizes:
        while jobs * job_series < size:
            destination.put({"job": f"job {jobs}"}, body)
            jobs += 1
        before, seconds = process.cpu_times(), []
        for number in range(_PUSHES):
            started = perf_counter()
            destination.put({"job": f"job {number % jobs}"}, body)
            seconds.append(perf_counter() - started)
        after = process.cpu_times()
        started = perf_counter()
        scraped = httpx.get(f"{gateway.url}/metrics", timeout=60.0, headers={"Accept-Encoding": "gzip"}, trust_env=False)
        found.append(
            Push(
                job_series,
                jobs * job_series,
                median(seconds),
                (after.user + after.system - before.user - before.system) / _PUSHES,
                perf_counter() - started,
                len(scraped.content),
                process.memory_info().rss,
            )
        )
    return found


def commits() -> list[Commits]:
    """On SQLite and on PostgreSQL."""
    found = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(Postgres(fsync="on", synchronous_commit="on", full_page_writes="on"))
        for name in ("SQLite", "PostgreSQL"):
            for writers in _WRITERS:
                for at_once in _AT_ONCE:
                    location = server.new_database() if name == "PostgreSQL" else str(folder / f"{writers}-{at_once}.db")
                    found.append(Commits(name, writers, at_once, _parts_per_second(location, writers, at_once)))
    return found


def _parts_per_second(location: str, writers: int, at_once: int) -> float:
    with Ledger.open(location) as ledger:
        for writer in range(writers):
            known_jobs.add(ledger, f"job {writer}")
    with ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_add, [location] * writers, range(writers), [1] * writers, [at_once] * writers))  # they import
        started = perf_counter()
        list(pool.map(_add, [location] * writers, range(writers), [_COMMITS] * writers, [at_once] * writers))
        return writers * _COMMITS * at_once / (perf_counter() - started)


def _add(location: str, writer: int, commits: int, at_once: int) -> None:
    job, run = f"job {writer}", f"run {writer} of {commits}"
    with Ledger.open(location) as ledger:
        ledger.start_run(reports.run_start(run, job), next_expected_at=None)
        for commit in range(commits):
            ledger.add_parts(run, job, [reports.part(f"{run}-{commit}-{number}.parquet") for number in range(at_once)])
        ledger.finish_run(reports.finished(run, job))


def series_of_a_job() -> list[Series]:
    """What every job has with a holdout, and what a slice adds."""
    with TemporaryDirectory() as folder:
        bodies = [exposition.render(_state(Path(folder), slices), pushed_at=0.0) for slices in (1, 2)]
    one, two = (sum(not line.startswith(b"#") for line in body.splitlines()) for body in bodies)
    return [Series("a job with a holdout and no slice", 2 * one - two), Series("each slice", two - one)]


def _figures(found: Sequence[Push]) -> Mapping[str, str]:
    """For each figure its SVG."""
    larger = max(one.job_series for one in found)
    measured = [one for one in found if one.job_series == larger]

    def drawn(title: str, axis: Callable[[float], Axis], values: Sequence[float]) -> str:
        series = [one.series for one in measured]
        return curve(title, "series on it", axis(max(values)), list(zip(series, values, strict=True)))

    return {
        "push": drawn(
            f"CPU of the gateway, a push of {larger:,} series", seconds_axis, [one.gateway_cpu_seconds for one in measured]
        ),
        "scrape": drawn("Seconds of a scrape", seconds_axis, [one.scrape_seconds for one in measured]),
        "memory": drawn("Memory of the gateway, MiB", amount_axis, [one.gateway_memory_bytes / 2**20 for one in measured]),
    }


def _push_table(found: Sequence[Push]) -> str:
    """As Markdown, as those that follow."""
    lines = [
        "| series of the job | series on the gateway | a push | CPU of the gateway, a push | a scrape | its bytes | memory |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {one.job_series:,} | {one.series:,} | {one.push_seconds * 1e3:.0f} ms | {one.gateway_cpu_seconds * 1e3:.0f} ms "
            f"| {one.scrape_seconds:.2f} s | {one.scrape_bytes / 1e6:.1f} MB | {one.gateway_memory_bytes / 2**20:,.0f} MiB |"
            for one in found
        ),
    ]
    return "\n".join(lines)


def _commit_table(found: Sequence[Commits]) -> str:
    lines = [
        "| ledger | processes | parts a transaction | parts a second |",
        "|---|---|---|---|",
        *(f"| {one.ledger} | {one.writers} | {one.at_once} | {one.parts_per_second:,.0f} |" for one in found),
    ]
    return "\n".join(lines)


def _series_table(found: Sequence[Series]) -> str:
    return "\n".join(["| what | series |", "|---|---|", *(f"| {one.of} | {one.series} |" for one in found)])


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure, of {', '.join(_TABLES)}; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value there")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write the curves there, as SVG")
    parser.add_argument("--most", type=int, default=SERIES[-1], metavar="SERIES", help="the most series on a gateway")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in _TABLES]:
        parser.error(f"unknown {', '.join(unknown)}; choose from {', '.join(_TABLES)}")
    measures: Mapping[str, Callable[[], Sequence[Any]]] = {
        "pushes": partial(pushes, options.most),
        "series": series_of_a_job,
        "commits": commits,
        "parts": parts_table.grown,
        "ray": ray_parts.driven,
    }
    found = {name: measures[name]() for name in _TABLES if name in options.names or not options.names}
    print(machine.facts(), *(_TABLES[name](values) for name, values in found.items()), sep="\n\n")
    if options.json:
        values = {name: [*map(asdict, measured)] for name, measured in found.items()}
        options.json.write_text(json.dumps({"machine": machine.facts(), **values}, indent=2) + "\n", encoding="utf-8")
    if options.figures and "pushes" in found:
        options.figures.mkdir(parents=True, exist_ok=True)
        for name, svg in _figures(found["pushes"]).items():
            (options.figures / f"{name}.svg").write_text(svg, encoding="utf-8")
    return 0


_TABLES: Mapping[str, Callable[[Any], str]] = {
    "pushes": _push_table,
    "series": _series_table,
    "commits": _commit_table,
    "parts": parts_table.table,
    "ray": ray_parts.table,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
