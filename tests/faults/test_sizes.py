"""Slices without number: budgets hold, memory is bounded, and the gateway isn't flooded."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from monitoring.names import MAX_SERIES_PER_JOB
from tests.faults.conftest import Tally
from tests.faults.sizes import ROWS, SLICES

ROOT = Path(__file__).parents[2]
MIB = 2**20
DIMENSIONS = ("each", "some", "some,each")


def run(folder: Path, how: str) -> dict[str, Any]:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.faults.sizes", str(folder), how]
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return found


def test_a_million_slices_and_values_of_a_megabyte(tmp_path: Path, tally: Tally) -> None:
    """Of 2,010,000 slices 200 and the rests are kept, every row is counted, and long text is cut and stays apart."""
    with ThreadPoolExecutor() as pool:
        few, many = pool.map(lambda how: run(tmp_path / how, how), ("few", "many"))
    for found in (few, many):
        assert found["outcome"] == "success"
        assert found["examples"] == dict.fromkeys(DIMENSIONS, ROWS)
    assert few["dropped"] == 0
    assert many["slices"] <= 200 + len(DIMENSIONS)
    # One that was folded early, and came again, is counted twice among those that are gone.
    assert many["dropped"] >= 2 * ROWS + SLICES - 200
    assert many["series"] <= MAX_SERIES_PER_JOB
    assert many["body_bytes"] < MIB
    assert many["ledger_bytes"] < MIB
    (first, twice), (second, once) = many["texts"]
    assert (twice, once) == (2, 1)
    assert first != second
    assert {len(first), len(second)} == {200}
    more = (many["peak_bytes"] - many["before_bytes"]) - (few["peak_bytes"] - few["before_bytes"])
    measured = (
        f"{more / MIB:+.0f} MiB beside few slices; a push has {many['series']} series, {many['body_bytes'] / 1024:.0f} KiB"
    )
    tally.add("2,010,000 slices, values of 1 MiB", tries=1, losses=0, measured=measured)
    assert more < 384 * MIB, measured
