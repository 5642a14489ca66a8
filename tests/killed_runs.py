"""Runs in children that are forked from a process with torch loaded, and killed at a random moment.

    python -m tests.killed_runs SPEC TRIALS SEED

A process of its own, since only one that never ran a kernel can be forked safely, and a child then starts in
milliseconds. Prints a line of JSON for each trial; the test judges what is on disk.
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
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from pipelines.cancellation import Cancellation
from tests.tiny_job import TinyJob

FIRST_NIGHT = date(2026, 1, 1)


def night(trial: int) -> date:
    """Each trial has a night of its own."""
    return FIRST_NIGHT + timedelta(days=trial)


def child(spec: Path, trial: int) -> int:
    """Fork; the child runs the night and exits. Returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        request = RunRequest(load(spec), read(os.environ), logical_date=night(trial))
        result = run(request, observer=Silent(), cancellation=Cancellation())
        print(result.report.reason or "", file=sys.stderr, flush=True)
        os._exit(0 if result.report.outcome == "success" else 1)
    except BaseException as error:  # noqa: BLE001  a child must never return into its parent's code
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(2)


def main(spec: Path, trials: int, seed: int) -> None:
    """Kill each trial's night once, then let it finish."""
    randomness = random.Random(seed)  # noqa: S311  a seed makes a failure repeatable
    job = TinyJob(spec.parent, spec=spec.read_text())
    took = 0.0
    for trial in range(trials + 1):
        job.write_input(night(trial).isoformat(), 3000, name=f"night{trial}", seed=trial)
        kill_after = randomness.uniform(0, took) if trial else None
        began = monotonic()
        pid = child(spec, trial)
        if kill_after is None:  # the first is left alone: it says how long a run takes
            os.waitpid(pid, 0)
            took = monotonic() - began
            continue
        while monotonic() - began < kill_after:
            pass  # a busy wait hits the moment more closely than a sleep
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        _, again = os.waitpid(child(spec, trial), 0)
        killed = os.WIFSIGNALED(status)
        print(
            json.dumps({"night": night(trial).isoformat(), "killed": killed, "exit": os.waitstatus_to_exitcode(again)}),
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
