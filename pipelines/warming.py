"""A model's first batches: inferred to get warm, or to be timed. Nothing of them is counted or kept."""

from __future__ import annotations

import torch

from pipelines.batches import Batch
from pipelines.cancellation import Cancellation
from pipelines.inferring import Inference
from pipelines.inputs import PartInputs


class Walk:
    """Over rows in memory, one batch after the other and round again: none is in a cache for having been there just now.

    `forgiving`: what doesn't fit into memory was tried out, so it is not counted as a batch that didn't.
    """

    def __init__(
        self, inference: Inference, inputs: PartInputs, rows: int, cancellation: Cancellation, *, forgiving: bool
    ) -> None:
        self._inference = inference
        self._inputs = inputs
        self._rows = rows
        self._cancellation = cancellation
        self._forgiving = forgiving
        self._next = 0

    def infer(self, count: int) -> Batch:
        """The next `count` rows, or all there are; where they don't fit into memory, as the batches that a run would make.

        Raises `Cancelled` before it begins, otherwise as `Inference.batches`.
        """
        self._cancellation.check()
        count = min(count, self._rows)
        first = self._next if self._next + count <= self._rows else 0
        self._next = first + count
        batches = [one for _, one in self._inference.batches(self._inputs, first, self._next, count, Cancellation())]
        if self._forgiving:
            self._inference.fitting.forgive()
        return batches[0] if len(batches) == 1 else _as_one(batches)


def _as_one(batches: list[Batch]) -> Batch:
    outputs = [batch.outputs for batch in batches if batch.outputs is not None]
    seconds = [(batch.prepare_seconds, batch.latency_seconds) for batch in batches]
    return Batch(None, torch.cat(outputs) if outputs else None, *map(sum, zip(*seconds, strict=True)))
