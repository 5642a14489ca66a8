"""Where a run's parts are recorded: the ledger for what counts, Parquet beside it for every batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from monitoring.ledger import CommittedPart, Ledger, RunStart
from monitoring.resources import machine
from pipelines.errors import DataError, SpecError
from pipelines.records import RecordWriter, prune
from pipelines.report import BatchRecord, ModelReport, PartReport, TuningReport

_TUNING = TypeAdapter(TuningReport)


class LedgerJournal:
    """The ledger as a pipeline sees it, for one run."""

    def __init__(self, ledger: Ledger, start: RunStart, *, keep_runs: int) -> None:
        self._ledger = ledger
        self._start = start
        self._records = BatchRecords(ledger.batch_folder(start.job), start.run_id, keep_runs=keep_runs)

    def loaded(self, model: ModelReport) -> None:
        """Say which model runs."""
        self._ledger.set_model(self._start.run_id, model)

    def committed(self, output_folder: str) -> Mapping[str, CommittedPart]:
        """Parts committed before, by absolute output path. Raises `SpecError` when another job writes there too."""
        owner = self._ledger.other_owner(self._start.job, output_folder)
        if owner is not None:
            raise SpecError(
                f"output.path {output_folder}: job {owner!r} has predictions there; "
                f"give each job a folder of its own (or, if that job is no more: batchgauge forget {owner!r})"
            )
        return self._ledger.committed_parts(self._start.job, output_folder)

    def add(self, reports: Sequence[PartReport]) -> None:
        """Commit these parts and their counts in one transaction."""
        self._ledger.add_parts(self._start.run_id, self._start.job, reports)
        self._records.add(batch for report in reports for batch in report.batches)

    def drop(self, outputs: Iterable[str]) -> None:
        """Forget parts whose output is gone, or about to be replaced."""
        listed = tuple(outputs)
        if listed:
            self._ledger.drop_parts(self._start.job, listed)

    def tuning(self, key: str) -> TuningReport | None:
        """What an earlier run has kept by this key, on a machine of this kind; None when that can't be understood."""
        text = self._ledger.tuning(key, machine())
        if text is None:
            return None
        try:
            return _TUNING.validate_json(text)
        except ValidationError:  # another version's: measured anew, it is replaced
            return None

    def keep_tuning(self, key: str, found: TuningReport) -> None:
        """Keep it for the next run."""
        self._ledger.keep_tuning(key, machine(), _TUNING.dump_json(found).decode(), at=found.measured_at)

    def close(self) -> tuple[str, ...]:
        """Publish the batch records. Returns what went wrong with them, if anything did."""
        return self._records.close()


class BatchRecords:
    """Per-batch records of one run. They are worth a warning when they can't be kept, never a failed run."""

    def __init__(self, folder: Path, run_id: str, *, keep_runs: int) -> None:
        self._folder = folder
        self._keep_runs = keep_runs
        self._writer = RecordWriter(folder, run_id) if keep_runs else None
        self._warnings: tuple[str, ...] = ()

    def add(self, batches: Iterable[BatchRecord]) -> None:
        """Keep these batches."""
        if self._writer is None:
            return
        try:
            self._writer.add(batches)
        except DataError as error:
            self._give_up(error)

    def close(self) -> tuple[str, ...]:
        """Publish the file and remove those of runs that are too old."""
        try:
            if self._writer is not None:
                self._writer.close()
            prune(self._folder, self._keep_runs)
        except DataError as error:
            self._give_up(error)
        return self._warnings

    def _give_up(self, error: DataError) -> None:
        self._writer = None
        self._warnings = (f"batch records of this run are not kept: {error}",)
