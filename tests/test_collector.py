"""The garbage collector rests while a command starts, and works as ever afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys

from jobs import collector

_SAYS_HOW_OFTEN = """
import gc, sys
from jobs import cli
from jobs.commands import running
usual, seen = gc.get_threshold(), []
def run(*_, **__):
    seen.append((gc.get_threshold(), gc.get_freeze_count()))
    raise SystemExit
import jobs.run
jobs.run.run = run
try:
    cli.main()
except SystemExit:
    pass
(threshold, frozen), = seen
sys.exit(0 if threshold == usual and frozen > 100_000 else f"{threshold} instead of {usual}, {frozen} frozen")
"""


def test_a_resting_collector_resumes_with_its_usual_thresholds() -> None:
    """What is there by then is never looked at again."""
    usual, enabled = gc.get_threshold(), gc.isenabled()
    try:
        collector.rest()
        assert gc.get_threshold() > usual
        assert gc.isenabled() is enabled
        collector.resume()
        assert gc.get_threshold() == usual
        assert gc.get_freeze_count()
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def test_a_run_has_its_usual_collector() -> None:
    """Once torch is imported, and before anything is scored."""
    command = [sys.executable, "-c", _SAYS_HOW_OFTEN, "run", "jobs/examples/digits.toml"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
