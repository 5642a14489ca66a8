"""The ledger: what every job has done, durable and exact, and the one source of what is pushed."""

from monitoring.ledger.book import Ledger
from monitoring.ledger.locks import LockHeld
from monitoring.ledger.records import CommittedPart, RunRecord, RunStart

__all__ = ["CommittedPart", "Ledger", "LockHeld", "RunRecord", "RunStart"]
