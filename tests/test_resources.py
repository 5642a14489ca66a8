"""What a run costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from monitoring.resources import ResourceMeter, available_cores


def measured(code: str) -> list[float]:
    """The figures that a fresh process prints, pinned to one core."""
    program = f"import os\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n{code}"
    root = Path(__file__).parent.parent
    output = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True).stdout
    return [float(word) for word in output.split()]


BUSY = """
import time
from monitoring.resources import ResourceMeter, available_cores
meter, began = ResourceMeter(), time.process_time()
{work}
report = meter.stop(accelerator_memory_peak_bytes=7)
print(available_cores(), report.cpu_usage_ratio, report.max_resident_memory_bytes, report.accelerator_memory_peak_bytes)
"""


def test_a_busy_process_uses_more_of_its_cores_than_an_idle_one() -> None:
    """A ratio from 0 to 1 of the cores it may use: here one, by affinity."""
    cores, busy, _, accelerator = measured(BUSY.format(work="while time.process_time() - began < 0.2: pass"))
    _, idle, _, _ = measured(BUSY.format(work="import threading; threading.Event().wait(0.2)"))
    assert cores == 1
    assert 0 <= idle < busy <= 1.05
    assert accelerator == 7


def test_peak_memory_is_the_process_own() -> None:
    """What was taken and given back counts; what this process holds doesn't, though it started the other."""
    _, _, small, _ = measured(BUSY.format(work=""))
    ballast = bytearray(os.urandom(1)) * (300 * 2**20)
    _, _, again, _ = measured(BUSY.format(work=""))
    _, _, large, _ = measured(BUSY.format(work="block = bytearray(b'x') * (200 * 2**20); del block"))
    assert again < small + 100 * 2**20, len(ballast)
    assert large > small + 190 * 2**20


def test_here_and_now() -> None:
    """The figures agree with what psutil says of this process."""
    report = ResourceMeter().stop()
    assert report.max_resident_memory_bytes is not None
    assert report.max_resident_memory_bytes >= psutil.Process().memory_info().rss * 0.5
    assert report.accelerator_memory_peak_bytes is None
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
