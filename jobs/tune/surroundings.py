"""What else goes on while something is measured, and where it may leave what it writes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, process_time

import psutil

from jobs.environment import Environment
from pipelines.errors import LedgerError
from pipelines.objects import Place

_NOTICEABLE = 0.1
"""Others that take more than this share of the cores we may use are worth a word."""


def run_in_progress(environment: Environment, job: str) -> bool:
    """Whether the ledger says that a run of the job is in progress. Takes no lock, settles nothing, makes no ledger."""
    if environment.ledger_file is not None and not environment.ledger_file.exists():
        return False
    try:
        with environment.open_ledger() as ledger:
            return ledger.state(job).running is not None
    except LedgerError:  # it knows no such job, or can't be read: nobody could run it then either
        return False


class Others:
    """How many cores other processes of this machine keep busy, from construction to `cores`."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._ours = process_time()
        self._all = _busy_seconds()

    def cores(self) -> float:
        """On average since the construction; not below 0."""
        elapsed = monotonic() - self._began
        theirs = _busy_seconds() - self._all - (process_time() - self._ours)
        return max(0.0, theirs / elapsed) if elapsed > 0 else 0.0


def disturbance(others: float, *, ours: int, machine: int) -> str | None:
    """A sentence when `others` busy cores leave less than `ours` of the machine's; None when there is room for all."""
    missing = others + ours - machine
    if missing <= _NOTICEABLE * ours:
        return None
    return (
        f"other processes kept {others:.1f} of this machine's {machine} cores busy meanwhile: "
        "the figures are those of a busy machine; measure again when it is quiet"
    )


@contextmanager
def scratch_beside(output: Place) -> Iterator[Path]:
    """A temporary folder on the filesystem of the output folder, which need not exist; elsewhere if nobody may write there.

    Where the system's own folder for temporary files is on the same filesystem, it is in that. Its name begins with a dot, so
    that whoever reads a data set around it passes over it.
    """
    usual = Path(tempfile.gettempdir())
    # In the folder itself a reader might find it.
    place = _existing(output.parent) if isinstance(output, Path) else usual
    beside = not same_filesystem(usual, place) and place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    with tempfile.TemporaryDirectory(prefix=".batchgauge-tune-", dir=place if beside else usual) as folder:
        yield Path(folder)


def same_filesystem(one: Path, other: Place) -> bool:
    """Whether both lie on one filesystem; what doesn't exist lies where its nearest parent that does would have it.

    An object store is no filesystem.
    """
    return isinstance(other, Path) and _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times)) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
