"""Parts that are no work at all, by both engines: what a part costs the driver, in time, and in memory when they are very many.

Parts are as a plan has them; their function returns a report and does nothing else. Where it is memory that is measured, the
driver is a process of its own, on the Ray that is there: `python -m benchmarks.ray_parts PARTS JOB ADDRESS`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from uuid import uuid4

from benchmarks import ray_engine
from benchmarks import workload as workloads
from benchmarks.rounds import Contender, RunFailed, Timing, of
from benchmarks.workload import Workload
from jobs.environment import read
from jobs.journal import LedgerJournal
from jobs.spec import load
from monitoring.ledger import RunStart
from monitoring.resources import ResourceMeter, available_cores
from pipelines.cancellation import Cancellation
from pipelines.engines import Engine
from pipelines.engines.local import LocalEngine
from pipelines.planning import Part
from pipelines.report import BatchRecord, PartReport, Trigger
from pipelines.tally import Tally

ON_RAY, BY_THREADS = "empty parts on Ray", "empty parts by threads"
PARTS, MANY_PARTS = 1_000, 20_000
SIZES = (1_000, 10_000, 100_000)
FEW, MANY = (of("a driver's process", f"{parts:,} empty parts") for parts in (PARTS, MANY_PARTS))
_ROWS = 4096


def contenders(workload: Workload) -> tuple[Contender, ...]:
    """A thousand parts, in this process. To be run inside `ray_engine.one_node`, as what follows."""
    absent, cores = ray_engine.missing(), available_cores()
    settings = f"{PARTS:,} parts whose function does nothing, {cores} workers that are there; committed by the journal of a run"
    return (
        Contender(ON_RAY, settings, lambda: _on_ray(workload.job(ON_RAY, keep_runs=60), PARTS), missing=absent),
        Contender(
            BY_THREADS,
            settings,
            lambda: _parts(workload.job(BY_THREADS, keep_runs=60), PARTS, LocalEngine(cores, 1)),
            missing=absent,
        ),
    )


def drivers(workload: Workload) -> tuple[Contender, ...]:
    """The same of a thousand parts, and of many, each with a driver in a process of its own."""
    return tuple(driver(workload, name, parts) for name, parts in ((FEW, PARTS), (MANY, MANY_PARTS)))


def driver(workload: Workload, name: str, parts: int) -> Contender:
    """So many parts, with a driver in a process of its own."""
    settings = f"{parts:,} parts whose function does nothing, {available_cores()} workers; committed by the journal of a run"
    return Contender(name, settings, lambda: _elsewhere(workload.job(name, keep_runs=60), parts), missing=ray_engine.missing())


@dataclass(frozen=True, slots=True)
class Driven:
    """What a driver of so many empty parts took. `parts_per_second`: from when they are given out to the last commit."""

    parts: int
    parts_per_second: float
    peak_bytes: int


def driven() -> list[Driven]:
    """By a driver in a process of its own, for each number of parts; none where Ray is missing."""
    found: list[Driven] = []
    with TemporaryDirectory() as folder, ray_engine.one_node():
        work = workloads.make(Path(folder), 1)
        for parts in SIZES if not ray_engine.missing() else ():
            timing = driver(work, f"driver of {parts}", parts).run()
            found.append(Driven(parts, parts / timing.scoring, timing.peak_bytes))
    return found


def table(found: Sequence[Driven]) -> str:
    """As Markdown."""
    lines = [
        "| parts | parts a second | peak memory of the driver |",
        "|---|---|---|",
        *(f"| {one.parts:,} | {one.parts_per_second:,.0f} | {one.peak_bytes / 2**20:,.0f} MiB |" for one in found),
    ]
    return "\n".join(lines)


def _elsewhere(job: Path, parts: int) -> Timing:
    command = [sys.executable, "-m", "benchmarks.ray_parts", str(parts), str(job), ray_engine.address()]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RunFailed(f"{job.name}: {done.stderr.strip()[-2_000:]}")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def _on_ray(job: Path, parts: int) -> Timing:
    from pipelines.engines.ray import RayEngine  # noqa: PLC0415  Ray takes long to import

    engine = RayEngine(available_cores())
    try:
        engine.start(parts, Cancellation())
        return _parts(job, parts, engine)
    finally:
        engine.close()


def _parts(job: Path, parts: int, engine: Engine) -> Timing:
    """The parts, from when they are given out to the last one's commit."""
    started = perf_counter()
    spec = load(job)
    environment = read({"BATCHGAUGE_LEDGER": str(job.parent / f"{job.stem} state" / "ledger.db"), "BATCHGAUGE_GATEWAY": ""})
    now = datetime.now(UTC)
    start = RunStart(
        uuid4().hex, spec.job.name, Trigger.MANUAL, now.date(), socket.gethostname(), os.getpid(), started_at=now.timestamp()
    )
    with environment.open_ledger() as ledger:
        ledger.register(spec.definition(environment), now=start.started_at, next_expected_at=None)
        ledger.start_run(start, next_expected_at=None)
        journal, tally = LedgerJournal(ledger, start, keep_runs=60), Tally()
        output = f"{spec.output.path}/{start.run_id}"
        plan = _plan(parts)
        began = perf_counter()
        for reports in engine.map(partial(_nothing, output), plan, Cancellation()):
            journal.add(reports)
            for report in reports:
                tally.add(report)
        seconds = perf_counter() - began
        journal.close()
    if tally.parts_done != parts:
        raise RunFailed(f"{job.name}: {tally.parts_done} of {parts} parts came back")
    return Timing(seconds, perf_counter() - started)


def _plan(parts: int) -> tuple[Part, ...]:
    """As `pipelines.planning` makes it of one file with so many row groups."""
    source = "/data/rows.parquet"
    return tuple(
        Part(f"rows-{number}-{number}.parquet", source, number, number, _ROWS, f"{number:064x}", number * _ROWS)
        for number in range(parts)
    )


def _nothing(output: str, part: Part, _cancellation: Cancellation) -> PartReport:
    """What a part of one batch would say."""
    batch = BatchRecord(part.name, 0, _ROWS, 0.001, 0.001, 0.001, 0.001)
    place = f"{output}/{part.name}"
    return PartReport(part.name, part.source, place, part.fingerprint, "m" * 64, _ROWS, _ROWS, {}, {}, (batch,))


def main(arguments: Sequence[str]) -> None:
    """Drive so many parts, and print what it took."""
    from pipelines.engines.ray_cluster import connected  # noqa: PLC0415  Ray takes long to import

    parts, job, address = arguments
    with connected(address):
        timing = _on_ray(Path(job), int(parts))
    peak = ResourceMeter().stop().max_resident_memory_bytes
    print(json.dumps(asdict(timing) | {"peak_bytes": peak}))


if __name__ == "__main__":
    main(sys.argv[1:])
