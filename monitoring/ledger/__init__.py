"""The ledger: what every job has done, durable and exact, and the one source of what is pushed."""

from monitoring.ledger.book import Ledger
from monitoring.ledger.groups import GroupRecord
from monitoring.ledger.locks import LockHeld
from monitoring.ledger.records import CommittedPart, Revision, RunOutline, RunRecord, RunStart
from monitoring.ledger.retrains import SWITCHES, AlertId, Cause, InPlace, ModelId, RetrainOutcome, RetrainRecord
from monitoring.ledger.store import Hold

__all__ = [
    "SWITCHES",
    "AlertId",
    "Cause",
    "CommittedPart",
    "GroupRecord",
    "Hold",
    "InPlace",
    "Ledger",
    "LockHeld",
    "ModelId",
    "RetrainOutcome",
    "RetrainRecord",
    "Revision",
    "RunOutline",
    "RunRecord",
    "RunStart",
]
