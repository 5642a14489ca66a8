"""Bugs that somebody might make one day, planted in this process: a suite that doesn't see them protects nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from jobs.journal import LedgerJournal
from monitoring.ledger import Ledger, counters, jobs, parts, runs
from pipelines import sink
from pipelines.durable import flush_folder
from pipelines.report import PartReport, RunReport

_patch = pytest.MonkeyPatch()


def _nothing(*_arguments: object) -> None:
    pass


def never_flushed() -> None:
    """Nothing is flushed to disk: neither files nor folders."""
    _patch.setattr(sink, "flush", _nothing)
    _patch.setattr(sink, "flush_folder", _nothing)


def renamed_before_flushed() -> None:
    """A file gets its name first, and is flushed then."""

    def publish(file: IO[bytes], temporary: Path, path: Path) -> None:
        file.flush()
        temporary.replace(path)
        os.fsync(file.fileno())
        flush_folder(path.parent)

    _patch.setattr(sink, "_publish", publish)


def committed_before_renamed() -> None:
    """The ledger vouches for a part before its file is there."""
    stage, add = sink.stage_part, LedgerJournal.add
    waiting: dict[str, Callable[[], None]] = {}

    def later(table: Any, path: Path, **options: Any) -> sink.StagedPart:
        waiting[str(path)] = lambda: stage(table, path, **options).publish()
        return sink.StagedPart(_nothing, _nothing, ExitStack())

    def add_first(journal: LedgerJournal, reports: Sequence[PartReport]) -> None:
        add(journal, reports)
        for report in reports:
            waiting.pop(report.output, _nothing)()

    _patch.setattr(sink, "stage_part", later)
    _patch.setattr(LedgerJournal, "add", add_first)


def counters_in_memory() -> None:
    """Parts are committed at once, their counts when the run ends."""
    finish = Ledger.finish_run
    memory: Counter[Any] = Counter()

    def add_parts(ledger: Ledger, run_id: str, job: str, reports: Sequence[PartReport]) -> None:
        with ledger._store.write(job) as connection:
            jobs.raise_sequence(connection, job)
            runs.add_parts(connection, run_id, job, reports)
            parts.commit(connection, run_id, job, reports)
        memory.update(counters.of_parts(reports))

    def finish_run(ledger: Ledger, report: RunReport) -> None:
        with ledger._store.write(report.job) as connection:
            counters.add(connection, report.job, memory)
        finish(ledger, report)

    _patch.setattr(Ledger, "add_parts", add_parts)
    _patch.setattr(Ledger, "finish_run", finish_run)


BUGS: Mapping[str, Callable[[], None]] = {
    bug.__name__: bug for bug in (never_flushed, renamed_before_flushed, committed_before_renamed, counters_in_memory)
}


def plant(name: str) -> None:
    """Plant the bug for the rest of this process's life, and its children's."""
    BUGS[name]()
