"""Alertmanager's webhook message, as far as retraining reads it. Sizes are bounded: it comes from the network.

The format is its version "4": https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. Fields that are not
named here are not looked at, so newer Alertmanagers may add some.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictStr, ValidationError

from jobs.foreign import name
from monitoring.ledger import AlertId
from pipelines.errors import BatchgaugeError, printable

MAX_BYTES = 1 << 20
_MAX_ALERTS = 1_000
_MAX_LABELS = 64
_MAX_TEXT = 4_096
_SHOWN_ERRORS = 3

_Label = Annotated[StrictStr, Field(max_length=_MAX_TEXT)]


class MessageError(BatchgaugeError):
    """What came is no message of Alertmanager's, or too large."""


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is outside of the calendar in UTC") from error


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Alert(_Part):
    """One alert."""

    status: Literal["firing", "resolved"]
    labels: Annotated[dict[_Label, _Label], Field(max_length=_MAX_LABELS)]
    starts_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] = Field(alias="startsAt", strict=True)  # text: no seconds
    fingerprint: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{1,64}$")]

    @property
    def id(self) -> AlertId:
        """The same however often this firing of it is told."""
        return AlertId(self.fingerprint, self.starts_at.isoformat())


class Message(_Part):
    """One notification."""

    version: Literal["4"]
    alerts: Annotated[tuple[Alert, ...], Field(max_length=_MAX_ALERTS)]


def parse(body: bytes) -> Message:
    """The message. Raises `MessageError` that says what is wrong with it, in one line."""
    if len(body) > MAX_BYTES:
        raise MessageError(f"the message has {len(body):,} bytes, more than {MAX_BYTES:,}; let fewer alerts into a group")
    try:
        return Message.model_validate_json(body)
    except ValidationError as error:
        flaws = [f"{_place(flaw['loc'])}: {flaw['msg']}" for flaw in error.errors(include_input=False)]
        shown = "; ".join(flaws[:_SHOWN_ERRORS])
        raise MessageError(f'not a webhook message of Alertmanager\'s version "4": {shown}') from None


def _place(location: tuple[int | str, ...]) -> str:
    """Where in the message: the sender has chosen the names of labels, so they are cut, and kept in a line."""
    return printable(name(".".join(map(str, location)) or "it"))
