"""The ledger's locks, on every database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring.ledger import Ledger
from pipelines.errors import LedgerError
from tests.reports import JOB


@pytest.fixture
def ledger_location(new_location: Callable[[], str]) -> str:
    """Every test of this module, on every database."""
    return new_location()


def test_a_lock_is_one_holders(ledger: Ledger) -> None:
    """Of one kind and one job, in threads and processes alike; odd names are names."""
    long = "x" * 300
    for job in (JOB, "a/b", "..", "ü 🙂", long):
        with ledger.lock("run", job):
            with pytest.raises(LedgerError, match="a run is in progress"), ledger.lock("run", job):
                pass
            with ledger.lock("push", job), ledger.lock("run", job + "2"):
                pass
        with ledger.lock("run", job):
            pass


def test_a_dead_holders_lock_is_free(ledger: Ledger, ledger_location: str) -> None:
    """The kernel sees to it: nothing stale is left to clean up."""
    code = f"""
import time
from monitoring.ledger import Ledger
with Ledger.open({ledger_location!r}) as ledger, ledger.lock("run", {JOB!r}):
    print("held", flush=True)
    time.sleep(600)
"""
    root = Path(__file__).parent.parent
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LedgerError, match="a run is in progress"), ledger.lock("run", JOB, wait_seconds=0.05):
            pass
        holder.kill()
    with ledger.lock("run", JOB):
        pass
