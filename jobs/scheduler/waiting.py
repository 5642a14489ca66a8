"""Runs that are due and wait for their turn: one a job, the one that was due first comes first."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job whose time has come. Unix seconds: when it was due, since when it waits, and when it is too late for it."""

    job: str
    due_at: float
    since: float
    until: float


class WaitingList:
    """The jobs that wait."""

    def __init__(self) -> None:
        self._entries: dict[str, Waiting] = {}
        self._fresh: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Waiting]:
        """In the order in which they will start."""
        return iter(sorted(self._entries.values(), key=lambda entry: (entry.due_at, entry.since, entry.job)))

    def get(self, job: str) -> Waiting | None:
        """The job's entry, if it waits."""
        return self._entries.get(job)

    def put(self, entry: Waiting) -> None:
        """Let the job wait; a later time takes the place of an earlier one."""
        known = self._entries.get(entry.job)
        if known is None or known.due_at != entry.due_at:
            self._entries[entry.job] = entry
            self._fresh.add(entry.job)

    def drop(self, job: str) -> None:
        """Let it wait no longer."""
        self._entries.pop(job, None)
        self._fresh.discard(job)

    def fresh(self) -> list[Waiting]:
        """Those that wait since the last time this was asked."""
        fresh = [entry for entry in self if entry.job in self._fresh]
        self._fresh.clear()
        return fresh

    def next(self, *, not_of: Container[str]) -> Waiting | None:
        """Whose turn it is, but for these jobs."""
        return next((entry for entry in self if entry.job not in not_of), None)

    def too_late(self, now: float) -> tuple[str, ...]:
        """Jobs whose time to start has passed."""
        return tuple(entry.job for entry in self._entries.values() if now > entry.until)
