"""The command line, as a person waits for it: wall time of the real `batchgauge` in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks import known_jobs
from benchmarks.rounds import Contender, RunFailed, Timing
from benchmarks.workload import Workload
from monitoring.ledger import Ledger

PYTHON, HELP, LIST, VALIDATE = "python -c pass", "batchgauge --help", "batchgauge list", "batchgauge validate"
RUN, SCRIPT = "batchgauge run", "imports and model load"
JOBS, ROWS = 200, 1_000
_BATCHGAUGE = Path(sys.executable).parent / "batchgauge"
_TORCHLESS = """
import sys
from jobs.cli import app
app(["validate", sys.argv[1]], standalone_mode=False)
sys.exit("torch" in sys.modules and "validate imported torch")
"""
_SCRIPT = """
import sys
import pyarrow.parquet
import torch
from safetensors.torch import load_file
sys.path.insert(0, sys.argv[1])
from small_model import mlp
model = mlp()
model.load_state_dict(load_file(sys.argv[2]))
model.eval()
"""
_FACTORY = """
from torch import nn


def mlp():
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
"""


def contenders(workload: Workload, gateway: str) -> tuple[Contender, ...]:
    """Each command, and what it is held against. `workload` has the rows of the run; its ledger gets 200 jobs with a run each.

    Raises:
        RunFailed: `validate` imports torch.

    """
    folder = workload.folder
    (folder / "small_model.py").write_text(_FACTORY)
    job = workload.job("small run", keep_runs=60)
    job.write_text(job.read_text().replace("benchmarks.workload:", "small_model.py:"))
    fill(folder / "jobs.db")
    environment = {**os.environ, "BATCHGAUGE_LEDGER": str(folder / "jobs.db"), "BATCHGAUGE_GATEWAY": gateway}
    own_ledger = {**environment, "BATCHGAUGE_LEDGER": str(folder / "small run.db")}
    _finish([sys.executable, "-c", _TORCHLESS, str(job)], environment)
    weights = folder / f"{workload.shape.model}.safetensors"
    commands: dict[str, tuple[Sequence[str | Path], dict[str, str], str]] = {
        PYTHON: ([sys.executable, "-c", "pass"], environment, "the interpreter's start and end"),
        HELP: ([_BATCHGAUGE, "--help"], environment, "console script"),
        LIST: ([_BATCHGAUGE, "list"], environment, f"console script, {JOBS} jobs with a run and a holdout each"),
        VALIDATE: ([_BATCHGAUGE, "validate", job], environment, "console script, one job file; no torch is imported"),
        RUN: (
            [_BATCHGAUGE, "run", "--rescore", job],
            own_ledger,
            f"console script, {workload.rows:,} rows, defaults, ledger, batch records, a push to a real Pushgateway",
        ),
        SCRIPT: (
            [sys.executable, "-c", _SCRIPT, folder, weights],
            environment,
            "import pyarrow.parquet, torch and safetensors; build the model, load its weights; nothing is scored",
        ),
    }
    return tuple(
        Contender(name, settings, partial(_seconds, command, variables))
        for name, (command, variables, settings) in commands.items()
    )


def fill(ledger_file: Path) -> None:
    """A ledger that knows 200 jobs, each with a run and its quality."""
    with Ledger.open(ledger_file) as ledger:
        for number in range(JOBS):
            known_jobs.add(ledger, f"job {number}")


def _seconds(command: Sequence[str | Path], environment: dict[str, str]) -> Timing:
    started = perf_counter()
    _finish(command, environment)
    seconds = perf_counter() - started
    return Timing(seconds, seconds)


def _finish(command: Sequence[str | Path], environment: dict[str, str]) -> None:
    done = subprocess.run(list(map(str, command)), env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RunFailed(f"{Path(command[0]).name}: {(done.stderr or done.stdout).strip()}")
