"""Where a retraining works: a folder beside the ledger that goes when it ends, and a log that stays for a while."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from monitoring.ledger import Ledger

KEEP_LOGS = 20


@dataclass(frozen=True, slots=True)
class Workplace:
    """The places of one retraining, in its job's folder."""

    home: Path
    retrain_id: str

    @property
    def folder(self) -> Path:
        """Everything that goes when the retraining ends."""
        return self.home / f"{self.retrain_id}.work"

    @property
    def scratch(self) -> Path:
        """The training process's current folder."""
        return self.folder / "scratch"

    @property
    def log(self) -> Path:
        """What training said."""
        return self.home / f"{self.retrain_id}.log"

    def make(self) -> None:
        """Make the folders, and remove the logs of all but the newest retrainings."""
        self.scratch.mkdir(parents=True)
        logs = sorted(self.home.glob("*.log"), key=lambda file: file.stat().st_mtime)
        for log in logs[: -KEEP_LOGS + 1]:
            log.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder, whatever training has put there; what can't be removed is left."""
        shutil.rmtree(self.folder, ignore_errors=True)


def workplace(ledger: Ledger, job: str, retrain_id: str) -> Workplace:
    """The places of this retraining."""
    return Workplace(ledger.retrain_folder(job), retrain_id)
