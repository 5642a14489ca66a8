"""A job's process, and whatever it starts itself: one process group, watched from outside.

The group is a session of its own, so a signal to the scheduler's terminal doesn't reach it, and it goes on when the
scheduler is killed: the ledger then tells the next scheduler of it. Output goes to a file, which outlives us too;
writing to a pipe whose reader has died would kill the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import IO, Protocol

import psutil

from jobs.environment import SCHEDULERS_OWN

LARGEST_LOG_BYTES = 10 * 2**20
_QUOTED_CHARACTERS = 300


class Child(Protocol):
    """A process group that somebody waits for."""

    pid: int

    def terminate(self) -> None:
        """Ask its first process to stop: it knows what to do about the others."""

    def kill(self) -> None:
        """End all of the group."""

    def wait(self) -> None:
        """Return when the first process has ended. It stays a zombie, so that its id is nobody else's."""

    def reap(self) -> int | None:
        """Its exit code (negative: the signal that ended it); None when only its parent could know."""


class StartedChild:
    """A process that we started. It reads `told` from its standard input."""

    def __init__(self, command: Sequence[str], log: Path, *, told: bytes = b"") -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        _make_room(log)
        environment = {name: value for name, value in os.environ.items() if name not in SCHEDULERS_OWN}
        with log.open("ab") as output, _to_be_read(told) as standard_input:
            self.log_from = output.tell()
            self._process = subprocess.Popen(
                command, env=environment, stdin=standard_input, stdout=output, stderr=output, start_new_session=True
            )
        self.pid = self._process.pid

    def terminate(self) -> None:
        """See `Child`."""
        with suppress(ProcessLookupError):
            self._signal(os.kill, signal.SIGTERM)

    def kill(self) -> None:
        """See `Child`."""
        with suppress(ProcessLookupError, PermissionError):
            self._signal(os.killpg, signal.SIGKILL)

    def _signal(self, send: Callable[[int, int], None], number: signal.Signals) -> None:
        if self._process.returncode is None:  # once it was reaped, its id may be another's
            send(self.pid, number)

    def wait(self) -> None:
        """See `Child`."""
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def reap(self) -> int | None:
        """See `Child`."""
        return self._process.wait()


class AdoptedChild:
    """A process that a scheduler before us started: no child of ours, so only its end can be seen."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.pid = process.pid

    def terminate(self) -> None:
        """See `Child`."""
        with suppress(psutil.Error):
            self._process.terminate()

    def kill(self) -> None:
        """See `Child`. Nothing is left to do once the first process has gone: its id may be another's."""
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if self._process.is_running():
                os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """See `Child`."""
        with suppress(psutil.Error):
            self._process.wait()

    def reap(self) -> int | None:
        """See `Child`."""
        return None


def adoptable(pid: int, *, started_at: float) -> AdoptedChild | None:
    """The process that a scheduler before us started for a run that began at that time, if it lives; else None."""
    try:
        process = psutil.Process(pid)
        leads_a_group = os.getpgid(pid) == pid
    except (psutil.Error, ProcessLookupError, ValueError):
        return None
    # A second for clocks that are read in two ways; a process that is younger than the run isn't the run's.
    return AdoptedChild(process) if leads_a_group and process.create_time() <= started_at + 1 else None


@dataclass(slots=True, kw_only=True)
class Work:
    """What a process does for a job. `started_at` is in Unix seconds; the limits are on the monotonic clock."""

    job: str
    started_at: float
    child: Child
    log: Path
    log_from: int = 0
    """Where in its log its own output begins."""
    terminate_at: float | None = None
    terminate_reason: str = ""
    kill_at: float | None = None
    stopping: str | None = None
    """Why it was asked to stop, if it was."""

    def stop(self, reason: str, *, kill_after_seconds: float) -> None:
        """Ask it to stop, and end its group if it doesn't. The first reason stays, the shortest wait counts."""
        kill_at = monotonic() + kill_after_seconds
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        if self.stopping is None:
            self.stopping = reason
            self.child.terminate()

    def enforce(self, *, kill_after_seconds: float) -> None:
        """Do what has become due: ask it to stop when its time is over, end its group when it was asked long enough ago."""
        now = monotonic()
        if self.stopping is None and self.terminate_at is not None and now >= self.terminate_at:
            self.stop(self.terminate_reason, kill_after_seconds=kill_after_seconds)
        if self.kill_at is not None and now >= self.kill_at:
            self.child.kill()

    def last_words(self) -> str:
        """The last line of its output; empty without any."""
        try:
            with self.log.open("rb") as output:
                size = output.seek(0, os.SEEK_END)
                output.seek(max(self.log_from, size - 4096))
                lines = output.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:_QUOTED_CHARACTERS]


@dataclass(slots=True, kw_only=True)
class Run(Work):
    """One run in progress, for the scheduled time `due_at` (Unix seconds)."""

    due_at: float


def watch(work: Work, ended: Callable[[], None]) -> None:
    """Call `ended`, from a thread of its own, when the work's process has ended."""

    def wait() -> None:
        work.child.wait()
        ended()

    threading.Thread(target=wait, name=f"watch {work.job}", daemon=True).start()


@contextmanager
def _to_be_read(told: bytes) -> Iterator[IO[bytes] | int]:
    """Standard input for a process. A file and no pipe: it takes any length at once, and outlives us. Nothing needs none."""
    if not told:
        yield subprocess.DEVNULL
        return
    with TemporaryFile() as file:
        file.write(told)
        file.seek(0)
        yield file


def _make_room(log: Path) -> None:
    """Keep the output of a job that runs for years from filling the disk: the last file, and the one before."""
    with suppress(OSError):
        if log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
