"""Where one gateway and one ledger end: what a push costs beside so many series, and how many parts are counted a second.

    python -m benchmarks.scaling [--json FILE] [--figures FOLDER] [--most SERIES]

Real servers on loopback: a Pushgateway, and a PostgreSQL that flushes each commit to disk, as SQLite does here. Figures
belong to a machine; their shapes, and the ratios between them, to the programs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import httpx
import psutil

from benchmarks import known_jobs, machine
from jobs.report.figures.axis import Axis, amount_axis, count_axis, seconds_axis
from jobs.report.figures.plot import Frame, Point, line_plot
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
_STYLE = (
    ":root { --accent: #2563eb; --muted: #6b7280; --hairline: #d1d5db; --ink: #111827; font-family: sans-serif; }"
    " @media (prefers-color-scheme: dark) { :root { --accent: #60a5fa; --muted: #9ca3af; --hairline: #374151; } }"
    " .tick { fill: var(--muted); font-size: 12px; } .title { fill: var(--muted); font-size: 13px; }"
    " .grid { stroke: var(--hairline); } .axis { stroke: var(--muted); } .note { fill: transparent; }"
    " .line { fill: none; stroke: var(--accent); stroke-width: 2; vector-effect: non-scaling-stroke; }"
    " .dot { fill: var(--accent); } svg svg { overflow: visible; }"
)


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


def series_of_a_job() -> Mapping[str, int]:
    """What every job has, what a holdout adds, what a slice adds."""
    with TemporaryDirectory() as folder:
        bodies = [exposition.render(_state(Path(folder), slices), pushed_at=0.0) for slices in (1, 2)]
    one, two = (sum(not line.startswith(b"#") for line in body.splitlines()) for body in bodies)
    return {"a job with a holdout and no slice": 2 * one - two, "each slice": two - one}


def _figures(found: Sequence[Push]) -> Mapping[str, str]:
    """For each figure its SVG."""
    most, larger = max(one.series for one in found), max(one.job_series for one in found)
    series, measured = count_axis(most), [one for one in found if one.job_series == larger]

    def drawn(title: str, y: Axis, values: Sequence[tuple[float, float]]) -> str:
        points = [Point(x, y) for x, y in values]
        plot = line_plot(Frame(title, series, y), points)
        words = f'<text class="title" x="64" y="14">{title}, against series on it (to {most:,})</text>'
        inside = f'<svg x="64" y="22" width="560">{plot}</svg>'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="660" height="215"><style>{_STYLE}</style>{words}{inside}</svg>\n'
        )

    cpu = [(one.series, one.gateway_cpu_seconds) for one in measured]
    scrape = [(one.series, one.scrape_seconds) for one in measured]
    memory = [(one.series, one.gateway_memory_bytes / 2**20) for one in measured]
    return {
        "push": drawn(f"CPU of the gateway, a push of {larger:,} series", seconds_axis(max(y for _, y in cpu)), cpu),
        "scrape": drawn("Seconds of a scrape", seconds_axis(max(y for _, y in scrape)), scrape),
        "memory": drawn("Memory of the gateway, MiB", amount_axis(max(y for _, y in memory)), memory),
    }


def _tables(pushed: Sequence[Push], added: Sequence[Commits]) -> str:
    """As Markdown."""
    lines = [
        "| series of the job | series on the gateway | a push | CPU of the gateway, a push | a scrape | its bytes | memory |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {one.job_series:,} | {one.series:,} | {one.push_seconds * 1e3:.0f} ms | {one.gateway_cpu_seconds * 1e3:.0f} ms "
            f"| {one.scrape_seconds:.2f} s | {one.scrape_bytes / 1e6:.1f} MB | {one.gateway_memory_bytes / 2**20:,.0f} MiB |"
            for one in pushed
        ),
        "",
        "| ledger | processes | parts a transaction | parts a second |",
        "|---|---|---|---|",
        *(f"| {one.ledger} | {one.writers} | {one.at_once} | {one.parts_per_second:,.0f} |" for one in added),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value there")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write the curves there, as SVG")
    parser.add_argument("--most", type=int, default=SERIES[-1], metavar="SERIES", help="the most series on a gateway")
    options = parser.parse_args(arguments)
    pushed, added, series = pushes(options.most), commits(), series_of_a_job()
    sys.stdout.write(f"{machine.facts()}\n\n{_tables(pushed, added)}\n{series}\n")
    if options.json:
        document = {
            "machine": machine.facts(),
            "pushes": [*map(asdict, pushed)],
            "commits": [*map(asdict, added)],
            "series": series,
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        for name, svg in _figures(pushed).items():
            (options.figures / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
