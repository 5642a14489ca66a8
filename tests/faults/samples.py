"""What a process holds while time goes on, and whether that grows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """Some processes together, and a ledger, `at` so many seconds. Memory is resident, in MiB; the ledger's size likewise."""

    at: float
    memory: float
    descriptors: int
    threads: int
    ledger: float

    @classmethod
    def of(cls, processes: Iterable[psutil.Process], ledger: Path, *, at: float) -> Sample:
        """Look now."""
        looked_at = list(processes)
        return cls(
            at=at,
            memory=sum(process.memory_info().rss for process in looked_at) / MIB,
            descriptors=sum(process.num_fds() for process in looked_at),
            threads=sum(process.num_threads() for process in looked_at),
            ledger=sum(file.stat().st_size for file in ledger.parent.glob(f"{ledger.name}*")) / MIB,
        )


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """By how much each grows from a quarter of the time to its end, by a straight line through what was seen.

    The first quarter is warming up: caches, allocators, a write-ahead log that reaches its size.
    """
    settled = samples[len(samples) // 4 :]
    times = np.array([sample.at for sample in settled])
    span = times[-1] - times[0]
    rows = [asdict(sample) for sample in settled]
    return {
        name: float(np.polyfit(times, [row[name] for row in rows], 1)[0] * span)
        for name in ("memory", "descriptors", "threads", "ledger")
    }


def told(samples: Sequence[Sample]) -> str:
    """The last sample and the growth, for the table."""
    last, grown = samples[-1], growth(samples)
    return (
        f"{last.memory:.0f} MiB ({grown['memory']:+.1f}), {last.descriptors} descriptors ({grown['descriptors']:+.1f}), "
        f"{last.threads} threads ({grown['threads']:+.1f}), ledger {last.ledger:.1f} MiB ({grown['ledger']:+.2f})"
    )


def own() -> psutil.Process:
    """This process."""
    return psutil.Process(os.getpid())
