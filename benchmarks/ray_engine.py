"""batchgauge's own engine on Ray as a contender: beside its threads, and beside Ray Data, with the same cores.

Ray is started in this process, of one node with as many CPUs as there are cores, before anything is timed. A run's actors are
started, and have their model, before its scoring begins; that is in `elapsed`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from benchmarks.job_runs import finished
from benchmarks.rounds import Contender, Timing
from benchmarks.workload import Workload
from jobs.environment import read
from monitoring.resources import available_cores

ON_RAY, BY_THREADS = "batchgauge on Ray", "batchgauge by threads"
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


def address() -> str:
    """Where another process finds the node that this one is inside of."""
    import ray  # noqa: PLC0415  it takes long to import

    return str(ray.get_runtime_context().gcs_address)


def contenders(workload: Workload) -> tuple[Contender, ...]:
    """The usual job on Ray and by threads. To be run inside `one_node`."""
    absent = missing()
    same = f"{available_cores()} workers of one kernel thread, batches of {_BATCH_ROWS:,}; ledger and batch records"
    return (
        Contender(ON_RAY, f"{same}; actors, ready before it is timed", _job_run(workload, ON_RAY, _ENGINE), missing=absent),
        Contender(BY_THREADS, same, _job_run(workload, BY_THREADS, ""), missing=absent),
    )


def _job_run(workload: Workload, name: str, engine: str) -> Callable[[], Timing]:
    job = workload.job(name, keep_runs=60, batch_rows=_BATCH_ROWS, more=engine)
    job.write_text(job.read_text().replace("[batch]\n", f"[batch]\nworkers = {available_cores()}\n"))
    ledger = workload.folder / f"{name} state" / "ledger.db"
    return lambda: finished(job, read({"BATCHGAUGE_LEDGER": str(ledger), "BATCHGAUGE_GATEWAY": ""}))
