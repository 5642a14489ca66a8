"""Jobs that push every second: `python -m tests.faults.pushers LEDGER FIRST LAST`, until standard input ends.

Prints how many pushes arrived, and the last error that any of them had, if any.
"""

from __future__ import annotations

import json
import sys

from monitoring.push import Pusher


def name(number: int) -> str:
    """A job's name."""
    return f"job-{number:03}"


def main(ledger: str, first: int, last: int) -> None:
    """Push until told to stop."""
    pushers = [Pusher(ledger, name(number), every_seconds=1.0) for number in range(first, last)]
    for pusher in pushers:
        pusher.start()
    sys.stdin.read()
    for pusher in pushers:
        pusher.stop(wait_seconds=0.0)  # all of them first, so that none pushes on while another is waited for
    for pusher in pushers:
        pusher.stop(wait_seconds=60.0)
    errors = [pusher.last_error for pusher in pushers if pusher.last_error]
    sys.stdout.write(json.dumps({"pushes": sum(pusher.pushes for pusher in pushers), "errors": errors}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
