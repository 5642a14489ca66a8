"""The machine that is measured on: what it is, and what other work took of it meanwhile."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from monitoring.resources import available_cores

_PACKAGES = ("batchgauge", "fairlearn", "numpy", "pandas", "prometheus_client", "pyarrow", "ray", "scikit-learn", "torch")


class OtherWork:
    """Counts, from construction to `cores`, the CPU time that neither this process nor its children used."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._seconds = _other_seconds()

    def cores(self) -> float:
        """So many cores of this host, on average, were busy with something else, or taken from it."""
        return max(0.0, (_other_seconds() - self._seconds) / (perf_counter() - self._began))


def facts() -> dict[str, Any]:
    """Cores and versions, for who compares two tables."""
    return {
        "cores": available_cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "packages": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    """Of the packages that are installed: some are extras."""
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _processor() -> str:
    """What the kernel calls it; on other systems than Linux, what Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _other_seconds() -> float:
    host = psutil.cpu_times()
    idle = host.idle + host.iowait + host.guest + host.guest_nice  # a guest's time is counted as user time too
    ours = psutil.Process()
    family = (ours, *ours.children(recursive=True))
    # The first four are its own and those of its children that ended, user and system.
    return float(sum(host) - idle - sum(sum(process.cpu_times()[:4]) for process in family))
