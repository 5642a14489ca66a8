"""Runs that are killed at a random moment, and finished by the next one.

    python -m tests.faults.killed_runs FOLDER KILLS SEED [BUG]

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
from itertools import count
from pathlib import Path
from time import monotonic, sleep

from jobs.environment import read
from tests.faults.nights import Night, asked, fork
from tests.faults.planted import plant
from tests.tiny_job import TinyJob

FIRST_NIGHT = date(2020, 1, 1)
ROWS = 160
WARM = 3
"""Nights that nobody kills: the last one says how long a night takes once everything is in the page cache."""
CLOSE_SECONDS = 0.002
LONGER = 1.05
"""By how much longer than until the last kill a night is taken to last; one that ended too soon puts that right."""


def kill_after(seconds: float, night: Night) -> bool:
    """Run the night and kill it so long after its start. Returns whether that came before its end."""
    began = monotonic()
    pid = fork(night.score)
    sleep(max(0.0, seconds - CLOSE_SECONDS))
    while monotonic() - began < seconds:
        pass  # hits the moment more closely than a sleep
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def undisturbed(night: Night) -> float:
    """How long a night takes that nobody kills."""
    began = monotonic()
    os.waitpid(fork(night.score), 0)
    return monotonic() - began


def afterwards(night: Night, *, earlier: int) -> list[str]:
    """What is wrong right after the death, and after the next run. The first line is how many parts lay there uncommitted."""
    unclaimed, torn = night.unclaimed(), night.torn()
    night.score()
    return [str(unclaimed), *torn, *night.violations(earlier=earlier)]


def main(folder: Path, kills: int, seed: int, bug: str | None) -> None:
    """Kill so many nights, and let each finish. One that ended before its moment came is no trial, but must be right, too."""
    randomness = random.Random(seed)  # noqa: S311  a seed makes a failure repeatable
    job = TinyJob(folder / "job")
    job.edit({"part_rows = 100": "part_rows = 50"})
    environment = read({"BATCHGAUGE_LEDGER": str(folder / "state" / "ledger.db")})
    if bug is not None:
        plant(bug)
    took = 0.0
    for number in count():
        night = Night(job, environment, FIRST_NIGHT + timedelta(days=number), ROWS)
        night.write_input()
        if number < WARM:
            took = undisturbed(night)
            continue
        moment = randomness.uniform(0, took)
        killed = kill_after(moment, night)
        # On a machine that is busy at times a night takes now so long and now so long: follow it.
        took = took * LONGER if killed else moment
        unclaimed, *wrong = asked(lambda night=night, number=number: afterwards(night, earlier=number))  # type: ignore[misc]  # defaults bind them
        found = {"night": number, "seconds": round(moment, 4), "killed": killed, "unclaimed": int(unclaimed), "wrong": wrong}
        print(json.dumps(found), flush=True)
        kills -= killed
        if not kills or (wrong and bug is not None):
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
