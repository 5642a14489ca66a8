"""Many starts at once, from a process with torch loaded: `python -m tests.many_starts STARTS SPEC…`, so many of each job.

Half are cron's, half are a hand's. Prints the outcome of each, a line each, when all have ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from pipelines.cancellation import Cancellation
from pipelines.report import Trigger


def child(spec: Path, trigger: Trigger, *, start: int, go: int, outcomes: int) -> int:
    """Fork; the child waits for the start, runs, and says how it ended. Returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(go)
        os.read(start, 1)  # returns when the last writer has closed it: for all at once
        result = run(RunRequest(load(spec), read(os.environ), trigger), observer=Silent(), cancellation=Cancellation())
        os.write(outcomes, f"{result.report.outcome}\n".encode())
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  a child must never return into its parent's code
        os.write(outcomes, f"{error!r}\n".encode())
        os._exit(2)


def main(starts: int, specs: Sequence[Path]) -> None:
    """Start them all, wait for them all."""
    start, go = os.pipe()
    outcomes, said = os.pipe()
    triggers = [(Trigger.CRON, Trigger.MANUAL)[number % 2] for number in range(starts)]
    pids = [child(spec, trigger, start=start, go=go, outcomes=said) for spec in specs for trigger in triggers]
    os.close(go)
    os.close(said)
    for pid in pids:
        os.waitpid(pid, 0)
    with os.fdopen(outcomes) as text:
        sys.stdout.write(text.read())


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
