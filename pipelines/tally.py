"""The sum of a run's parts while they come in, in any order."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping

from pipelines.report import PartReport, Reason, Rejection, Stage


class Tally:
    """Adds up `PartReport`s. Holds 8 bytes for each batch (exact quantiles need every latency), and no rows."""

    def __init__(self) -> None:
        self.parts_done = 0
        self.rows_read = 0
        self.rows_scored = 0
        self.batches_out_of_memory = 0
        self._rejections: dict[Rejection, None] = {}
        self.latencies = array("d")
        self._rejected: Counter[Reason] = Counter()
        self._seconds: defaultdict[Stage, float] = defaultdict(float)

    def add(self, report: PartReport) -> None:
        """Count one part: done, or rejected whole."""
        self.rows_read += report.rows_read
        self.rows_scored += report.rows_scored
        self.batches_out_of_memory += report.batches_out_of_memory
        self._rejected.update(report.rows_rejected)
        self.add_seconds(report.stage_seconds)
        self.latencies.extend(batch.latency_seconds for batch in report.batches)
        if report.error is None:
            self.parts_done += 1
        else:
            self.reject(report.source, report.error)

    def add_seconds(self, stage_seconds: Mapping[Stage, float]) -> None:
        """Count time spent beside the parts, such as on holdouts."""
        for stage, seconds in stage_seconds.items():
            self._seconds[stage] += seconds

    def reject(self, source: str, error: str) -> None:
        """Note an input file or part that was rejected whole; the same words are kept once."""
        self._rejections[Rejection(source, error)] = None

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """Files and parts that were rejected whole, in the order in which they were met."""
        return tuple(self._rejections)

    @property
    def rows_rejected(self) -> dict[Reason, int]:
        """Rows rejected so far, by reason; reasons without rows are absent."""
        return {reason: rows for reason, rows in self._rejected.items() if rows}

    @property
    def stage_seconds(self) -> dict[Stage, float]:
        """Seconds so far, by stage, summed over workers."""
        return dict(self._seconds)
