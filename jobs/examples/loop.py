"""The demo's scheduler, a real one, and what came of an alert: the loop from a bad night to a better model, with its times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.examples.alerts import DELIVERED, FIRING, PENDING, RESOLVED, WITHDRAWN, Watch
from jobs.examples.waiting import until
from monitoring.dying import with_parent
from monitoring.ledger import Ledger, RetrainOutcome, RetrainRecord

_END_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Scheduler:
    """`batchgauge schedule` as a process of the demo, and its log: one JSON document a line."""

    process: subprocess.Popen[bytes]
    log: Path

    def events(self, job: str) -> list[dict[str, Any]]:
        """What it has logged about a job, oldest first. A line that is being written is left out."""
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        documents = [json.loads(line) for line in lines if line.endswith("\n")]
        return [document for document in documents if document.get("job") == job]


@contextmanager
def scheduler(specs: list[Path], *, listen: str, log: Path) -> Iterator[Scheduler]:
    """Schedule these job files in this process's environment until the end of the block. It ends with us, however we do."""
    command = [sys.executable, "-P", "-m", "jobs.cli", "schedule", *map(str, specs)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--listen", listen, "--log-json", "--max-running", "1"],
            stdin=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
            preexec_fn=with_parent(),  # noqa: PLW1509  no thread of ours holds a lock that it takes
        )
    try:
        yield Scheduler(process, log)
    finally:
        process.terminate()
        process.wait(_END_SECONDS)


def until_retrained(ledger: Ledger, job: str, *, timeout_seconds: float) -> RetrainRecord | None:
    """The job's latest retraining, once it has ended; None when there is none in time."""

    def ended() -> RetrainRecord | None:
        latest = next(iter(ledger.retrains(job, limit=1)), None)
        return latest if latest and latest.outcome else None

    return until(ended, timeout_seconds=timeout_seconds)


def steps(watch: Watch, running: Scheduler, record: RetrainRecord | None) -> list[tuple[datetime, str, str]]:
    """What happened, in its order: when, in a word, and in a sentence."""
    found = [(at, state, _MEANINGS[state]) for state, at in watch.seen.items()]
    asked = next((event for event in running.events(watch.job) if event.get("retrain") == "true"), None)
    if asked:
        found.append((datetime.fromisoformat(asked["at"]), "heard", f"by the scheduler: {asked['message']}"))
    if record:
        began = datetime.fromtimestamp(record.started_at, UTC)
        found.append((began, "retraining", "in a process of its own, on the labelled nights before that one"))
    if record and record.finished_at and record.outcome:
        found.append((datetime.fromtimestamp(record.finished_at, UTC), str(record.outcome), _verdict(record)))
    return sorted(found, key=lambda step: step[0].replace(microsecond=0))  # the log has no more than seconds


def _verdict(record: RetrainRecord) -> str:
    called = f"{record.after.version}, " if record.after and record.outcome is RetrainOutcome.PROMOTED else ""
    return called + (record.reason or "").partition("\n")[0]


_MEANINGS = {
    PENDING: "in Prometheus: the upper bound of the accuracy is below the threshold",
    FIRING: "in Prometheus: it has been for a minute",
    DELIVERED: "to Alertmanager, whose routes say who is told: people, and the scheduler",
    RESOLVED: "in Prometheus: the new model's accuracy is not below the threshold",
    WITHDRAWN: "from Alertmanager: nobody is told of it any more",
}
