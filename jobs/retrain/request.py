"""What a retraining is asked, and what it answers. Imports no pyarrow and no torch, so that any command may speak of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from jobs.delivery import deliver_job
from jobs.environment import Environment
from jobs.retrain.alerts import Message
from jobs.spec import JobSpec
from monitoring.ledger import Ledger, RetrainRecord
from monitoring.push import Delivery
from pipelines.errors import LedgerError, PushError


@dataclass(frozen=True, slots=True)
class RetrainRequest:
    """What to retrain. Without a logical date it is that of the latest scheduled time.

    With a `message` of Alertmanager's it is retrained only if the policy says so: what it says is decided under the
    job's retrain lock, so that a message that comes twice at once does nothing twice.
    """

    spec: JobSpec
    environment: Environment
    logical_date: date | None = None
    dry_run: bool = False
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class RetrainResult:
    """What came of it: a record, or the reason why nothing was done. `delivery` is None when the push is owed."""

    record: RetrainRecord | None
    reason: str | None
    delivery: Delivery | None = None
    push_error: str | None = None


def delivered(ledger: Ledger, record: RetrainRecord, environment: Environment) -> RetrainResult:
    """The result of what has ended, once the job's state was pushed; a push that fails is owed, and changes nothing."""
    try:
        return RetrainResult(record, None, deliver_job(ledger, record.job, environment))
    except (PushError, LedgerError) as error:
        return RetrainResult(record, None, None, str(error))
