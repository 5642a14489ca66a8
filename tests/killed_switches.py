"""Switches of a model that are killed before each of their file operations, one after the other.

    python -m tests.killed_switches FOLDER

A process of its own, small and without threads, so that it can be forked for every trial. Prints a line of JSON for
each; the test judges what is said. An audit hook sees every file operation before it is done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

from jobs.retrain.settling import settle_retrains
from jobs.retrain.switching import Move, prune, put_in_place
from monitoring.ledger import Cause, Ledger, ModelId, RetrainOutcome, RetrainRecord
from pipelines import versions
from pipelines.versions import Version
from tests.reports import JOB, definition

OLD, NEW = b"old" * 1_000, b"new" * 1_000
OPERATIONS = ("open", "os.mkdir", "os.chmod", "os.rename", "os.remove")


def model(version: str, content: bytes) -> ModelId:
    """A model of that content."""
    return ModelId(version, sha256(content).hexdigest())


def promote(folder: Path, trial: int) -> None:
    """From a candidate that was judged to the end of the retraining."""
    file, candidate = folder / "model.bin", folder / "candidate.bin"
    with Ledger.open(folder / "ledger.db") as ledger, ledger.lock("retrain", JOB):
        record = RetrainRecord(f"id-{trial}", JOB, Cause.HAND, date(2026, 11, 22), str(file), 1000.0 + trial, reason="better")
        ledger.start_retrain(record)
        before, after = model("v1", OLD), model("v2", NEW)
        description = Version(*after, *before, datetime.now(UTC), record.retrain_id)
        if trial:
            kill_before(trial, folder)
        put_in_place(ledger, record, Move(candidate, before, after, description))
        promoted = replace(record, before=before, after=after, outcome=RetrainOutcome.PROMOTED, finished_at=2000.0 + trial)
        ledger.finish_retrain(promoted)
        prune(ledger, JOB, file, keep=5)


def kill_before(number: int, folder: Path) -> None:
    """End this process, as a power cut would, right before its so many-th operation on files in the folder."""
    left = number

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def trial(folder: Path, number: int) -> bool:
    """One switch in a fresh folder, killed before operation `number`. Returns whether there was such an operation."""
    folder.mkdir()
    file = folder / "model.bin"
    file.write_bytes(OLD)
    (folder / "candidate.bin").write_bytes(NEW)
    with Ledger.open(folder / "ledger.db") as ledger:
        ledger.register(definition(), now=0.0, next_expected_at=None)
    pid = os.fork()
    if not pid:
        promote(folder, number)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    at_death = file.read_bytes()
    with Ledger.open(folder / "ledger.db") as ledger:
        settle_retrains(ledger, JOB)
        (record,) = ledger.retrains(JOB)
        stopped = ledger.state(JOB).counters.get(("model_retrains_total", ("stopped",)), 0)
    kept = versions.kept(file, model("v1", OLD).sha256)
    found = {
        "killed": os.WIFSIGNALED(status),
        "model": {OLD: "old", NEW: "new"}.get(at_death, "neither"),
        "kept": kept.read_bytes() == OLD if kept.exists() else None,
        "described": versions.version_of(file, model("v2", NEW).sha256) is not None,
        "outcome": record.outcome,
        "stopped": stopped,
        "leftovers": [str(path) for path in folder.rglob("*.tmp")],
    }
    print(json.dumps(found), flush=True)  # noqa: T201  its output is what the test reads
    return os.WIFSIGNALED(status)


def main(folder: Path) -> None:
    """Kill one before its first operation, the next before its second, until one is not killed any more."""
    number = 1
    while trial(folder / str(number), number):
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
