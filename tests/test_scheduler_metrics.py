"""The scheduler's own metrics."""

from __future__ import annotations

import subprocess
from dataclasses import replace

from monitoring import servers
from monitoring.names import LAG_BUCKETS, SCHEDULER_TABLE
from monitoring.scheduler_metrics import Lags, SchedulerFigures, exposed

FIGURES = SchedulerFigures(
    jobs=3,
    broken_files=1,
    runs_started=7,
    runs_missed=2,
    running=1,
    waiting=4,
    max_running=2,
    sync_failures=5,
    last_sync_at=1795228000.5,
    ledger_trouble=True,
    began_at=1795220000.0,
    alert_messages=9,
    retrains_started=6,
    retrains_running=1,
    retrains_waiting=2,
    lags=Lags().observed(0.01).observed(2.0).observed(9999.0),
)


def text_of(figures: SchedulerFigures) -> str:
    return exposed(figures).decode()


def test_every_family_of_the_table_is_there_once() -> None:
    """And no other: no `_created`, no metrics of the process."""
    lines = text_of(FIGURES).splitlines()
    assert [line.split()[2] for line in lines if line.startswith("# TYPE")] == [metric.name for metric in SCHEDULER_TABLE]
    assert not [line for line in lines if "_created" in line]
    samples = {line.split()[0] for line in lines if not line.startswith("#")}
    assert len(samples) == len(SCHEDULER_TABLE) - 1 + len(LAG_BUCKETS) + 3


def test_figures_are_shown_as_they_are() -> None:
    """And what isn't known is absent."""
    text = text_of(FIGURES)
    for sample in (
        "batch_scheduler_jobs 3.0",
        "batch_scheduler_runs_started_total 7.0",
        "batch_scheduler_ledger_trouble 1.0",
        "batch_scheduler_alert_messages_total 9.0",
        "batch_scheduler_retrains_started_total 6.0",
        "batch_scheduler_retrains_running 1.0",
        "batch_scheduler_retrains_waiting 2.0",
        'batch_scheduler_lag_seconds_bucket{le="0.05"} 1.0',
        'batch_scheduler_lag_seconds_bucket{le="2.5"} 2.0',
        'batch_scheduler_lag_seconds_bucket{le="+Inf"} 3.0',
        "batch_scheduler_lag_seconds_count 3.0",
        "batch_scheduler_lag_seconds_sum 10001.01",
    ):
        assert f"{sample}\n" in text
    assert "last_sync" not in text_of(replace(FIGURES, last_sync_at=None))


def test_promtool_finds_nothing_to_complain_of() -> None:
    """Names, types and help."""
    command = [str(servers.find("promtool")), "check", "metrics"]
    done = subprocess.run(command, input=text_of(FIGURES), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
