"""How many rows fit into memory at once: nobody says so beforehand, batches that don't fit do."""

from __future__ import annotations

import threading

import torch

_SAYS_SO = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)
"""Where torch raises a plain RuntimeError: the CPU's allocator, pinned memory, a library's workspace, Apple's devices."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the host or of an accelerator, could not be had."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAYS_SO)


class Fitting:
    """What batches of a process's workers have found out about its memory. Safe to share between them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._most: int | None = None
        self._largest = 0
        self._uncounted = 0

    def at_most(self, rows: int) -> int:
        """So many rows, or as many as may fit."""
        return rows if self._most is None else min(rows, self._most)

    def halve(self, rows: int) -> None:
        """A batch of so many rows, at least 2, doesn't fit: half of them may."""
        with self._lock:
            self._most = self.at_most((rows + 1) // 2)
            self._largest = max(rows, self._largest)
            self._uncounted += 1

    def forgive(self) -> None:
        """Don't count the batches that didn't fit so far, and don't warn of them: the limit that they showed stays."""
        with self._lock:
            self._largest = self._uncounted = 0

    def take(self) -> int:
        """How many batches didn't fit since this was asked last."""
        with self._lock:
            uncounted, self._uncounted = self._uncounted, 0
        return uncounted

    def warning(self, device: str, rows: int) -> str | None:
        """What a person should know and do, where batches didn't fit and `rows` are in one now; None where all did."""
        if not self._largest:
            return None
        return (
            f"batches of {self._largest:,} rows ran out of memory on {device}: their rows were inferred in smaller ones, of "
            f"{rows:,} in the end; set batch.rows = {rows}, or lower batch.workers"
        )
