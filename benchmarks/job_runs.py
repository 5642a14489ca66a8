"""batchgauge as a contender: a whole run through `jobs.run.run`, as cron calls it, monitored or not."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from benchmarks.rounds import Contender, Timing
from benchmarks.workload import Workload
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from pipelines.cancellation import Cancellation
from pipelines.errors import BatchgaugeError
from pipelines.report import Outcome

MONITORED = "batchgauge"
UNMONITORED = "batchgauge unmonitored"


class RunFailed(BatchgaugeError):  # noqa: N818  it says what happened
    """A run that was to be timed did not end well."""


def monitored(workload: Workload, gateway: str, name: str = MONITORED) -> Contender:
    """Everything on: a record of every batch, the ledger, a push every second and one at the end."""
    settings = "batch.rows and workers auto; ledger, batch records, a push every second to a real Pushgateway"
    return _contender(workload, name, settings, keep_runs=60, gateway=gateway)


def unmonitored(workload: Workload) -> Contender:
    """No gateway, no batch records. The ledger stays: it is the commit that makes a run resumable."""
    settings = "batch.rows and workers auto; ledger, no batch records, no pushes"
    return _contender(workload, UNMONITORED, settings, keep_runs=0, gateway="")


def _contender(workload: Workload, name: str, settings: str, *, keep_runs: int, gateway: str) -> Contender:
    job = workload.job(name, keep_runs=keep_runs)
    ledger = workload.folder / f"{name} state" / "ledger.db"
    environment = read({"BATCHGAUGE_LEDGER": str(ledger), "BATCHGAUGE_GATEWAY": gateway})
    return Contender(name, settings, lambda: finished(job, environment))


def finished(job: Path, environment: Environment) -> Timing:
    """One run of the job, all rows scored again. Raises RunFailed unless it ended well."""
    started = perf_counter()
    result = run(RunRequest(load(job), environment, rescore=True), observer=Silent(), cancellation=Cancellation())
    elapsed = perf_counter() - started
    report = result.report
    if report.outcome is not Outcome.SUCCESS or report.warnings or result.push_error:
        raise RunFailed(f"{job.name}: {report.outcome}: {report.reason or result.push_error or report.warnings}")
    return Timing(report.scoring_seconds, elapsed, report.batch_rows)
