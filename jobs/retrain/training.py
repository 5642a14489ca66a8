"""Training in a process of its own, which can neither hang us nor outlive us."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from jobs.dead_runs import killed_by
from jobs.environment import PREFIX
from jobs.retrain.contract import TASK, Task
from monitoring.dying import with_parent
from pipelines.cancellation import Cancellation, Cancelled
from pipelines.errors import BatchgaugeError

TERM_SECONDS = 10.0
"""How long a training that was asked to end may take to do so."""

_WAKE_SECONDS = 0.1
_TAIL_BYTES = 4_096
_LAST_LINES = 3
_LAST_CHARACTERS = 500


class TrainingError(BatchgaugeError):
    """The training function failed, or wrote no model."""


def train(task: Task, *, log: Path, cancellation: Cancellation, term_seconds: float = TERM_SECONDS) -> None:
    """Call the task's function in a process of its own, until there is a file at `task.training.candidate`.

    The process, and all that it starts in its group, has ended when this returns or raises; it ends with us, too. It
    works in the candidate's folder, without our environment variables (they hold secrets); what it says goes to `log`.

    Raises:
        TrainingError: it failed, was killed, or left no model. Its last words are in the message.
        Cancelled: it was stopped: asked first, and killed after `term_seconds`.

    """
    folder = task.training.candidate.parent
    told = folder.parent / "task.json"
    told.write_bytes(TASK.dump_json(task))
    # -P: a folder called `jobs` in the current folder must not stand in for ours. -B: bytecode is known by second and
    # size, so a training function that was edited at once would be trained as it was.
    code = _run([sys.executable, "-P", "-B", "-m", "jobs.retrain.child", str(told)], folder, log, cancellation, term_seconds)
    if cancellation.requested:
        raise Cancelled(f"training was stopped: {cancellation.reason}{_last_words(log)}")
    if code < 0:
        raise TrainingError(f"training failed: {killed_by(-code)}{_last_words(log)}")
    if code:
        raise TrainingError(f"training failed (exit code {code}){_last_words(log)}")
    if task.training.candidate.is_symlink() or not task.training.candidate.is_file():
        raise TrainingError(
            f"training ended without an error, but wrote no file to training.candidate ({task.training.candidate.name})"
            f"{_last_words(log)}"
        )


def _run(command: Sequence[str], folder: Path, log: Path, cancellation: Cancellation, term_seconds: float) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with log.open("xb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=with_parent(signal.SIGKILL),  # noqa: PLW1509  no thread of ours holds a lock that it takes
        )
    try:
        _wait(process.pid, cancellation, term_seconds)
    finally:
        # Before its number is free for another: whatever it started goes with it.
        os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    return code


def _wait(pid: int, cancellation: Cancellation, term_seconds: float) -> None:
    """Until the process has ended (it is not reaped), or must be killed."""
    descriptor = os.pidfd_open(pid)
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        kill_at = float("inf")
        while not ended.poll(_WAKE_SECONDS * 1000):
            if cancellation.requested and kill_at == float("inf"):
                os.killpg(pid, signal.SIGTERM)
                kill_at = monotonic() + term_seconds
            if monotonic() >= kill_at:
                return
    finally:
        os.close(descriptor)


def _last_words(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    said = [line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    words = " / ".join(said)[-_LAST_CHARACTERS:]
    return f": {words} (all of its output is in {log})" if words else f" (it said nothing: {log})"
