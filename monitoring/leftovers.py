"""Groups that this ledger has pushed and that no job of it owns any more: found, and deleted from their gateways.

A group is deleted only while it shows what this ledger has sent there. Another ledger's groups look just like ours, so
what no entry of the ledger knows is nobody's to delete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from monitoring import names
from monitoring.gateway import Credentials, Gateway, Group, checked_url
from monitoring.ledger import GroupRecord, Ledger
from monitoring.push import group
from monitoring.state import PushedGroup
from pipelines.errors import BatchgaugeError, PushError

_OURS = frozenset({metric.name for metric in names.TABLE} | {"push_time_seconds", "push_failure_time_seconds"})
_LOCK_SECONDS = 10.0


class Fate(StrEnum):
    """What became of a group, or (looked at only) would.

    deleted: it was ours; absent: it is not on the gateway any more; replaced: what is there now is of somebody else's
    push; shared: somebody has added metrics of their own to it; abandoned: its gateway is gone, somebody says; failed: the
    gateway, or a push in progress, was in the way.
    Only one that is shared or failed is left in the ledger.
    """

    DELETED = "deleted"
    ABSENT = "absent"
    REPLACED = "replaced"
    SHARED = "shared"
    ABANDONED = "abandoned"
    FAILED = "failed"


_WORDS = {
    Fate.DELETED: "deleted",
    Fate.ABSENT: "not there any more, so no longer looked for",
    Fate.REPLACED: "replaced by somebody else's push, so left alone and no longer looked for",
    Fate.SHARED: "left alone: it has metrics that batchgauge has not pushed; delete it by hand if they may go",
    Fate.ABANDONED: "on a gateway that is gone, so no longer looked for",
    Fate.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class Leftover:
    """A group that no job owns, what became of it and, if that failed, why."""

    group: PushedGroup
    fate: Fate
    error: str | None = None

    def sentence(self, *, dry_run: bool) -> str:
        """For a person."""
        labels = ", ".join(f"{name}={value!r}" for name, value in self.group.labels.items())
        would = " (nothing was changed: a dry run)" if dry_run and self.fate is not Fate.FAILED else ""
        return f"{self.group.gateway}: {labels}: {_WORDS[self.fate]}{would}"

    def document(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "gateway": self.group.gateway,
            "labels": dict(self.group.labels),
            "fate": str(self.fate),
            "error": self.error,
        }


def collect(
    ledger: Ledger,
    *,
    dry_run: bool = False,
    credentials: Credentials | None = None,
    ca_file: str | Path | None = None,
    abandoned: frozenset[str] = frozenset(),
) -> tuple[Leftover, ...]:
    """Delete every such group; with `dry_run` only say what would become of it.

    `ca_file` comes before the one that a group was pushed with. A gateway that can't be reached fails its own groups only;
    `abandoned` ones (URLs) are not asked, and their groups not looked for again. Raises `LedgerError`, and `PushError` for
    a URL that no gateway can have, or to which this ledger has pushed nothing that is left over.
    """
    gone = frozenset(map(checked_url, abandoned))
    gateways: dict[tuple[str, str | Path | None], _Listing | PushError] = {}
    found = []
    leftovers = [record for record in ledger.pushed_groups() if not _owned(ledger, record)]
    if unknown := gone - {record.group.gateway for record in leftovers}:
        raise PushError(f"{min(unknown)}: no group there is left over: there is nothing to abandon", permanent=True)
    for record in leftovers:
        if record.group.gateway in gone:
            if not dry_run:
                ledger.drop_group(record.group)
            found.append(Leftover(record.group, Fate.ABANDONED))
            continue
        place = record.group.gateway, ca_file or record.ca_file
        if place not in gateways:
            gateways[place] = _listing(*place, credentials)
        listing = gateways[place]
        if isinstance(listing, PushError):
            found.append(Leftover(record.group, Fate.FAILED, str(listing)))
        else:
            found.append(_settled(ledger, record, listing, dry_run=dry_run))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Listing:
    """A gateway, and its groups by their labels."""

    gateway: Gateway
    groups: Mapping[frozenset[tuple[str, str]], Group]


def _listing(url: str, ca_file: str | Path | None, credentials: Credentials | None) -> _Listing | PushError:
    """The groups of a gateway, or why they can't be had: asked once, whatever comes of it."""
    try:
        gateway = Gateway(url, credentials=credentials, ca_file=ca_file)
        return _Listing(gateway, {frozenset(one.labels.items()): one for one in gateway.groups()})
    except PushError as error:
        return PushError(f"{error}; if it is gone for good: batchgauge gc --abandon {url}", permanent=error.permanent)


def _settled(ledger: Ledger, record: GroupRecord, listing: _Listing, *, dry_run: bool) -> Leftover:
    """Act on one group under its job's push lock: nobody pushes there meanwhile, and no job can take it unseen."""
    try:
        with ledger.lock("push", record.job, wait_seconds=_LOCK_SECONDS):
            if record not in ledger.pushed_groups() or _owned(ledger, record):
                return Leftover(
                    record.group, Fate.FAILED, f"job {record.job!r} has pushed it again meanwhile; it is left alone"
                )
            fate = _fate(record, listing.groups.get(frozenset(record.group.labels.items())))
            if fate is Fate.DELETED and not dry_run:
                listing.gateway.delete(record.group.labels)
            if fate is not Fate.SHARED and not dry_run:
                ledger.drop_group(record.group)
            return Leftover(record.group, fate)
    except BatchgaugeError as error:
        return Leftover(record.group, Fate.FAILED, str(error))


def _fate(record: GroupRecord, shown: Group | None) -> Fate:
    if shown is None:
        return Fate.ABSENT
    first, last = sorted((record.since, record.pushed_at))  # a clock may have been set back between them
    if shown.sequence is None or shown.sent_at is None or not first <= shown.sent_at <= last:
        return Fate.REPLACED
    return Fate.DELETED if shown.families <= _OURS else Fate.SHARED


def _owned(ledger: Ledger, record: GroupRecord) -> bool:
    """Whether a job's state is to be in this group, or still is there until it arrives in another."""
    if record.job not in ledger.jobs():
        return False
    state = ledger.state(record.job)
    destination = state.definition.destination
    if state.owed and state.pushed_group == record.group:
        return True
    try:
        return destination.gateway is not None and record.group == PushedGroup(
            checked_url(destination.gateway), group(record.job, destination)
        )
    except PushError:  # its labels or its URL can't be used: it has arrived nowhere
        return False
