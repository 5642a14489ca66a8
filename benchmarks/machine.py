"""The machine that is measured on: what it is, and what other work took of it meanwhile."""

from __future__ import annotations

import platform
from importlib.metadata import version
from time import perf_counter
from typing import Any

import psutil

from monitoring.resources import available_cores

_PACKAGES = ("batchgauge", "numpy", "pandas", "pyarrow", "scikit-learn", "torch")


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
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _other_seconds() -> float:
    host = psutil.cpu_times()
    idle = host.idle + host.iowait + host.guest + host.guest_nice  # a guest's time is counted as user time too
    ours = psutil.Process()
    family = (ours, *ours.children(recursive=True))
    # The first four are its own and those of its children that ended, user and system.
    return float(sum(host) - idle - sum(sum(process.cpu_times()[:4]) for process in family))
