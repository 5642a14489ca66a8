"""Runs that are killed at a random moment, and finished by the next one.

    python -m tests.faults.killed_runs FOLDER TRIALS SEED [BUG]

Each trial is a night of its own, all in one ledger. Prints a line of JSON for each trial, with what was wrong
afterwards. With a planted bug it ends at the first trial in which something was.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from datetime import date, timedelta
from pathlib import Path
from time import monotonic

from jobs.environment import read
from tests.faults.nights import Night, asked, fork
from tests.faults.planted import plant
from tests.tiny_job import TinyJob

FIRST_NIGHT = date(2020, 1, 1)
ROWS = 160
WARM = 3
"""Nights that nobody kills: the last one says how long a night takes once everything is in the page cache."""


def kill_after(seconds: float, night: Night) -> bool:
    """Run the night and kill it so long after its start. Returns whether that came before its end."""
    began = monotonic()
    pid = fork(night.score)
    while monotonic() - began < seconds:
        pass  # a busy wait hits the moment more closely than a sleep
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def undisturbed(night: Night) -> float:
    """How long a night takes that nobody kills."""
    began = monotonic()
    os.waitpid(fork(night.score), 0)
    return monotonic() - began


def afterwards(night: Night, *, earlier: int) -> list[str]:
    """What is wrong right after the death, and after the next run."""
    torn = night.torn()
    night.score()
    return torn + night.violations(earlier=earlier)


def main(folder: Path, trials: int, seed: int, bug: str | None) -> None:
    """Kill each trial's night once, then let it finish."""
    randomness = random.Random(seed)  # noqa: S311  a seed makes a failure repeatable
    job = TinyJob(folder / "job")
    job.edit({"part_rows = 100": "part_rows = 50"})
    environment = read({"BATCHGAUGE_LEDGER": str(folder / "state" / "ledger.db")})
    if bug is not None:
        plant(bug)
    took = 0.0
    for trial in range(trials + WARM):
        night = Night(job, environment, FIRST_NIGHT + timedelta(days=trial), ROWS)
        night.write_input()
        if trial < WARM:
            took = undisturbed(night)
            continue
        moment = randomness.uniform(0, took)
        killed = kill_after(moment, night)
        wrong = asked(lambda night=night, trial=trial: afterwards(night, earlier=trial))  # type: ignore[misc]  # defaults bind them
        print(json.dumps({"trial": trial - WARM, "seconds": round(moment, 4), "killed": killed, "wrong": wrong}), flush=True)
        if wrong and bug is not None:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
