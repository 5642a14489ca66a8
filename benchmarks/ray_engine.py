"""batchgauge's own engine on Ray as a contender: beside its threads, with the same cores; and parts that are no work at all.

Ray is started in this process, of one node with as many CPUs as there are cores, before anything is timed. A run's actors are
started, and have their model, before its scoring begins; that is in `elapsed`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from uuid import uuid4

from benchmarks.job_runs import finished
from benchmarks.rounds import Contender, Timing
from benchmarks.workload import Workload
from jobs.environment import Environment, read
from jobs.journal import LedgerJournal
from jobs.spec import load
from monitoring.ledger import RunStart
from monitoring.resources import available_cores
from pipelines.cancellation import Cancellation
from pipelines.engines import Engine
from pipelines.engines.local import LocalEngine
from pipelines.report import BatchRecord, PartReport, Trigger

ON_RAY, BY_THREADS = "batchgauge on Ray", "batchgauge by threads"
PARTS_ON_RAY, PARTS_BY_THREADS = "empty parts on Ray", "empty parts by threads"
PARTS = 1_000
_BATCH_ROWS = 4096
_ENGINE = """
[engine]
kind = "ray"
"""


def missing() -> str:
    """Why nothing here can be measured; empty where it can."""
    return "" if find_spec("ray") else "not measured: Ray is not installed; pip install 'batchgauge[ray]'"


@contextmanager
def one_node() -> Iterator[None]:
    """A Ray of this machine's cores, for as long as one is inside; nothing, where it is missing."""
    if missing():
        yield
        return
    import ray  # noqa: PLC0415  it takes long to import

    ray.init("local", num_cpus=available_cores(), include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def contenders(workload: Workload) -> tuple[Contender, ...]:
    """The usual job on Ray and by threads, and empty parts on both. To be run inside `one_node`."""
    absent = missing()
    cores = available_cores()
    same = f"{cores} workers of one kernel thread, batches of {_BATCH_ROWS:,}; ledger and batch records"
    empty = f"{PARTS:,} parts whose function does nothing, {cores} workers that are there; committed by the journal of a run"
    return (
        Contender(ON_RAY, f"{same}; actors, ready before it is timed", _job_run(workload, ON_RAY, _ENGINE), missing=absent),
        Contender(BY_THREADS, same, _job_run(workload, BY_THREADS, ""), missing=absent),
        Contender(PARTS_ON_RAY, empty, lambda: _on_ray(workload, cores), missing=absent),
        Contender(PARTS_BY_THREADS, empty, lambda: _parts(workload, PARTS_BY_THREADS, LocalEngine(cores, 1)), missing=absent),
    )


def _job_run(workload: Workload, name: str, engine: str) -> Callable[[], Timing]:
    job = workload.job(name, keep_runs=60, batch_rows=_BATCH_ROWS, more=engine)
    job.write_text(job.read_text().replace("[batch]\n", f"[batch]\nworkers = {available_cores()}\n"))
    return lambda: finished(job, _environment(workload, name))


def _environment(workload: Workload, name: str) -> Environment:
    ledger = workload.folder / f"{name} state" / "ledger.db"
    return read({"BATCHGAUGE_LEDGER": str(ledger), "BATCHGAUGE_GATEWAY": ""})


def _on_ray(workload: Workload, cores: int) -> Timing:
    from pipelines.engines.ray import RayEngine  # noqa: PLC0415  Ray takes long to import

    engine = RayEngine(cores)
    try:
        engine.start(PARTS, Cancellation())
        return _parts(workload, PARTS_ON_RAY, engine)
    finally:
        engine.close()


def _parts(workload: Workload, name: str, engine: Engine) -> Timing:
    """The parts, from when they are given out to the last one's commit."""
    started = perf_counter()
    spec = load(workload.job(name, keep_runs=60))
    environment = _environment(workload, name)
    now = datetime.now(UTC)
    run_id = uuid4().hex
    start = RunStart(
        run_id, spec.job.name, Trigger.MANUAL, now.date(), socket.gethostname(), os.getpid(), started_at=now.timestamp()
    )
    with environment.open_ledger() as ledger:
        ledger.register(spec.definition(environment), now=start.started_at, next_expected_at=None)
        ledger.start_run(start, next_expected_at=None)
        journal = LedgerJournal(ledger, start, keep_runs=60)
        outputs = [str(workload.output(name) / f"{run_id}-{number}.parquet") for number in range(PARTS)]
        began = perf_counter()
        for reports in engine.map(_nothing, outputs, Cancellation()):
            journal.add(reports)
        seconds = perf_counter() - began
        journal.close()
    return Timing(seconds, perf_counter() - started)


def _nothing(output: str, _cancellation: Cancellation) -> PartReport:
    """What a part of one batch would say."""
    name = Path(output).name
    batch = BatchRecord(name, 0, _BATCH_ROWS, 0.001, 0.001, 0.001, 0.001)
    return PartReport(name, "rows.parquet", output, "", "", _BATCH_ROWS, _BATCH_ROWS, {}, {}, (batch,))
