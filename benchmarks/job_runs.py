"""batchgauge as a contender: a whole run through `jobs.run.run`, as cron calls it, with more or less of what watches it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import psutil

from benchmarks.rounds import Contender, RunFailed, Timing, of
from benchmarks.workload import Workload
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.resources import available_cores
from monitoring.server import Server
from pipelines.cancellation import Cancellation
from pipelines.pipeline import Committed, Pipeline
from pipelines.report import ModelReport, Outcome, PartReport, TuningReport

MONITORED = "batchgauge"
BARE = "no monitoring"
LEDGER, RECORDS, PUSHES = (of(MONITORED, what) for what in ("ledger", "ledger and batch records", "all monitoring"))
MANY_SERIES, MANY_SERIES_UNPUSHED = "10,000 series, pushed every second", "10,000 series, not pushed"
_BATCH_ROWS = 4096
"""Where runs are held against each other that differ in monitoring only: tuning would choose now this, now that."""


def monitored(workload: Workload, gateway: Server, name: str = MONITORED, device: str = "cpu") -> Contender:
    """Everything on, batchgauge's own defaults: a record of every batch, the ledger, a push every second and one at the end."""
    settings = "batch.rows and workers auto; ledger, batch records, a push every second to a real Pushgateway"
    return _contender(workload, name, settings, keep_runs=60, gateway=gateway, device=device)


def watched(workload: Workload, gateway: Server) -> tuple[Contender, ...]:
    """The same work without monitoring, and with one kind after the other added; batches of one size for all."""
    fixed = f"batches of {_BATCH_ROWS:,}; "
    return (
        _bare(workload, f"{fixed}the pipeline alone: no ledger, no batch records, no pushes"),
        _contender(workload, LEDGER, f"{fixed}ledger", keep_runs=0, batch_rows=_BATCH_ROWS),
        _contender(workload, RECORDS, f"{fixed}ledger, batch records", keep_runs=60, batch_rows=_BATCH_ROWS),
        _contender(
            workload,
            PUSHES,
            f"{fixed}ledger, batch records, a push every second to a real Pushgateway",
            keep_runs=60,
            batch_rows=_BATCH_ROWS,
            gateway=gateway,
        ),
    )


def with_many_series(workload: Workload, gateway: Server) -> tuple[Contender, ...]:
    """A job that has 10,000 series, once its first run has judged its holdout: pushed while it scores, and not."""
    holdouts = workload.write_many_slices()
    return tuple(
        _contender(workload, name, settings, keep_runs=60, batch_rows=_BATCH_ROWS, gateway=to, more=holdouts)
        for name, settings, to in (
            (MANY_SERIES, "a push of 10,000 series every second while it scores; their judging is not in the time", gateway),
            (MANY_SERIES_UNPUSHED, "the same job without a gateway", None),
        )
    )


def _contender(
    workload: Workload,
    name: str,
    settings: str,
    *,
    keep_runs: int,
    gateway: Server | None = None,
    batch_rows: int | None = None,
    device: str = "cpu",
    more: str = "",
) -> Contender:
    job = workload.job(name, keep_runs=keep_runs, batch_rows=batch_rows, device=device, more=more)
    ledger = workload.folder / f"{name} state" / "ledger.db"
    environment = read({"BATCHGAUGE_LEDGER": str(ledger), "BATCHGAUGE_GATEWAY": gateway.url if gateway else ""})
    servers = (gateway,) if gateway else ()
    return Contender(name, settings, lambda: finished(job, environment, servers))


def finished(job: Path, environment: Environment, servers: Iterable[Server] = ()) -> Timing:
    """One run of the job, all rows scored again; its CPU time includes the servers'. Raises RunFailed unless it ended well."""
    meter = _CpuMeter(servers)
    started = perf_counter()
    result = run(RunRequest(load(job), environment, rescore=True), observer=meter, cancellation=Cancellation())
    elapsed = perf_counter() - started
    report = result.report
    if report.outcome is not Outcome.SUCCESS or report.warnings or result.push_error:
        raise RunFailed(f"{job.name}: {report.outcome}: {report.reason or result.push_error or report.warnings}")
    return Timing(report.scoring_seconds, elapsed, report.batch_rows, cpu=meter.seconds)


class _CpuMeter(Silent):
    """CPU seconds of this process and of servers beside it, from the start of scoring to the phase after it."""

    def __init__(self, servers: Iterable[Server] = ()) -> None:
        self._servers = [psutil.Process(server.pid) for server in servers]
        self._began: float | None = None
        self.seconds = 0.0

    def phase(self, name: str) -> None:
        """Begin with `scoring`, end with whatever comes next."""
        if name == "scoring":
            self._began = self._now()
        elif self._began is not None:
            self.seconds, self._began = self._now() - self._began, None

    def _now(self) -> float:
        servers = (server.cpu_times() for server in self._servers)
        return time.process_time() + sum(times.user + times.system for times in servers)


class _NoJournal:
    """Remembers nothing: no run can be taken up again."""

    def loaded(self, model: ModelReport) -> None:
        """Ignored."""

    def committed(self, output_folder: str) -> Mapping[str, Committed]:
        """None."""
        del output_folder
        return {}

    def add(self, reports: Sequence[PartReport]) -> None:
        """Ignored."""

    def drop(self, outputs: Iterable[str]) -> None:
        """Ignored."""

    def tuning(self, key: str) -> None:
        """None."""

    def keep_tuning(self, key: str, found: TuningReport) -> None:
        """Ignored."""


def _bare(workload: Workload, settings: str) -> Contender:
    job = workload.job(BARE, keep_runs=0, batch_rows=_BATCH_ROWS)

    def scored() -> Timing:
        spec, meter = load(job), _CpuMeter()
        started = perf_counter()
        pipeline = Pipeline(
            spec.for_date(datetime.now(UTC).date()),
            folder=spec.folder,
            journal=_NoJournal(),
            observer=meter,
            cancellation=Cancellation(),
            cores=available_cores(),
            rescore=True,
        )
        pipeline.execute()
        meter.phase("done")
        return Timing(pipeline.scoring_seconds, perf_counter() - started, _BATCH_ROWS, cpu=meter.seconds)

    return Contender(BARE, settings, scored)
