"""What a run costs its machine."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Protocol

from pipelines.report import ResourceReport

_CGROUPS = Path("/sys/fs/cgroup")


class OtherProcesses(Protocol):
    """Processes beside this one: CPU seconds of all, the CPUs that they had, and the largest one's peak of resident bytes."""

    @property
    def cpu_seconds(self) -> float:
        """Of all of them."""

    @property
    def cpus(self) -> float:
        """Of all of them."""

    @property
    def max_resident_memory_bytes(self) -> int:
        """Of the largest."""


class ResourceMeter:
    """Measures this process (all its threads, no children) from construction to `stop`, with what is said of others."""

    def __init__(self) -> None:
        self._cores = _cores()
        self._began = time.monotonic()
        self._cpu_seconds = time.process_time()

    def stop(self, *, accelerator_memory_peak_bytes: int | None = None, others: OtherProcesses | None = None) -> ResourceReport:
        """CPU seconds ÷ (elapsed × cores available), and peak resident bytes since the process started.

        With `others`, which do the work: their CPU seconds are added, the cores are theirs, and the peak is the largest one's.
        """
        elapsed_seconds = time.monotonic() - self._began
        cpu_seconds = time.process_time() - self._cpu_seconds + (others.cpu_seconds if others else 0.0)
        available_seconds = elapsed_seconds * (others.cpus if others else self._cores)
        return ResourceReport(
            cpu_usage_ratio=cpu_seconds / available_seconds if available_seconds > 0 else None,
            max_resident_memory_bytes=max(_peak_resident_bytes(), others.max_resident_memory_bytes if others else 0),
            accelerator_memory_peak_bytes=accelerator_memory_peak_bytes,
        )


def available_cores() -> int:
    """Cores that this process may use, by affinity and cgroup quota; at least 1."""
    return max(1, ceil(_cores()))


@cache
def machine() -> str:
    """What kind of machine this is, in words, as far as it decides how fast something runs: processor, cores, torch."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []  # not Linux
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    processor = next(models, "") or platform.processor() or platform.machine()
    return f"{processor}, {available_cores()} cores, torch {version('torch')}"


def _cores() -> float:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(allowed), *_quotas()])


def _quotas() -> Iterator[float]:
    """The CPU quotas, in cores, of the cgroup (version 2) that we are in and of those above it."""
    for folder in _own_cgroups():
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue  # no such controller here: no limit here
        if quota != "max" and int(quota) > 0:
            yield int(quota) / int(period)


def _own_cgroups() -> Iterator[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        if line.startswith("0::"):
            own = _CGROUPS / line.removeprefix("0::").lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(_CGROUPS))


def _peak_resident_bytes() -> int:
    """The kernel's high-water mark. `ru_maxrss` would do, but Linux lets a child inherit its parent's."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
