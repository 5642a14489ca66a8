"""What a scheduler is told: where the job files are, how much may run at once, how long to be patient."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from jobs.environment import Environment
from jobs.scheduler.clock import MakeTrigger
from jobs.scheduler.folder import JobFile
from jobs.trigger import CronTextTrigger
from monitoring.resources import available_cores

Command = Callable[[JobFile, date, float], Sequence[str]]
"""The process of a run: from the job file, the logical date and the scheduled time (Unix seconds)."""

RetrainCommand = Callable[[JobFile], Sequence[str]]
"""The process of a retraining, which reads Alertmanager's message from its standard input."""

_COUNT_ACCELERATORS = "import torch; print(torch.accelerator.device_count() if torch.accelerator.is_available() else 0)"
_PATIENCE_SECONDS = 120.0


# -P: a folder `jobs` in the current folder is nobody's package.
_BATCHGAUGE = (sys.executable, "-P", "-m", "jobs.cli")


def batchgauge_run(file: JobFile, logical_date: date, due_at: float) -> list[str]:
    """`batchgauge run`, as a hand would call it, on the definition that the scheduler has read."""
    run = [*_BATCHGAUGE, "run", str(file.path), "--trigger", "scheduler"]
    return [*run, "--date", logical_date.isoformat(), "--due", repr(due_at), "--definition", str(file.copy)]


def batchgauge_retrain(file: JobFile) -> list[str]:
    """`batchgauge retrain`, likewise."""
    return [*_BATCHGAUGE, "retrain", str(file.path), "--definition", str(file.copy), "--alerts", "-"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to schedule.

    `log_folder` None: `logs` beside the ledger. `listen` is where browsers, Prometheus and Alertmanager find it; None: nowhere.
    Alertmanager must show `alerts_token`; None: its alerts are not taken.

    A run is asked to stop `timeout_allowance_seconds` after its `job.timeout` (it enforces that itself, and says so
    best), and ended `kill_after_seconds` after it was asked; a retraining likewise.
    """

    paths: tuple[Path, ...]
    environment: Environment
    max_running: int
    sync_every_seconds: float = 60.0
    shutdown_seconds: float = 30.0
    log_folder: Path | None = None
    listen: str | None = None
    alerts_token: str | None = field(default=None, repr=False)
    rescan_every_seconds: float = 2.0
    tick_seconds: float = 1.0
    timeout_allowance_seconds: float = 30.0
    kill_after_seconds: float = 10.0
    command: Command = batchgauge_run
    retrain_command: RetrainCommand = batchgauge_retrain
    trigger: MakeTrigger = CronTextTrigger


def default_max_running() -> int:
    """One run for each accelerator; without any, one for every two cores, and at least 1."""
    return accelerators() or max(1, available_cores() // 2)


def accelerators() -> int:
    """How many accelerators torch sees; 0 when it can't tell. Asked in a process of its own: torch is heavy."""
    command = [sys.executable, "-P", "-c", _COUNT_ACCELERATORS]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True).stdout
        return int(said.split()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
