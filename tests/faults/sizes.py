"""A run whose holdout has few slices or very many: `python -m tests.faults.sizes FOLDER few|many`.

Both have as many rows, with text of about the same length. Prints, as JSON, what the run cost and what it would push.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.exposition import render
from monitoring.ledger import Ledger
from pipelines.cancellation import Cancellation
from tests.tiny_job import TinyJob, rows_table

ROWS, SLICES, NIGHT = 1_000_000, 10_000, "2026-11-01"
MEGABYTE = 2**20


MORE = """
[[holdout]]
name = "long"
path = "long"
label = "truth"
slices = ["text"]

[thresholds]
"""


def labelled(rows: int) -> pa.Table:
    """Rows whose label is always what the model says."""
    table = rows_table(rows, prefix="row", seed=3)
    truth = (table["x"].to_numpy() > table["y"].to_numpy()).astype(np.int64)
    return table.append_column("truth", pa.array(truth))


def sliced(*, many: bool) -> pa.Table:
    """Labelled rows with two columns to slice by."""
    rows = np.arange(ROWS)
    each = pa.array(rows if many else rows % 10).cast(pa.string())
    some = pa.array(rows % SLICES if many else rows % 10).cast(pa.string())
    return labelled(ROWS).append_column("each", each).append_column("some", some)


def long(*, many: bool) -> pa.Table:
    """Three labelled rows with text: two are the same, the third differs at its end only; with `many`, after a megabyte."""
    text = "a" * (MEGABYTE if many else 1)
    return labelled(3).append_column("text", pa.array([text, text, f"{text}b"]))


def main(folder: Path, *, many: bool) -> None:
    """Run it."""
    job = TinyJob(folder / "job")
    job.edit({'slices = ["side"]': 'slices = ["each", "some", ["some", "each"]]', "part_rows = 100": "part_rows = 50000"})
    job.edit({"rows = 50": "rows = 10000", "[thresholds]\n": MORE})
    job.write(job.folder / "labelled" / "holdout.parquet", sliced(many=many), group_rows=50_000)
    job.write(job.folder / "long" / "long.parquet", long(many=many))
    job.write_input(NIGHT, 100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    environment = read({"BATCHGAUGE_LEDGER": str(folder / "ledger.db")})
    request = RunRequest(load(job.spec), environment, logical_date=date.fromisoformat(NIGHT))
    report = run(request, observer=Silent(), cancellation=Cancellation()).report
    with Ledger.open(environment.ledger) as ledger:
        body = render(ledger.state("tiny"), pushed_at=1.0)
    series = [line for line in body.splitlines() if not line.startswith(b"#")]
    judged, texts = report.holdouts
    found: dict[str, Any] = {
        "outcome": report.outcome,
        "before_bytes": before * 1024,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "series": len(series),
        "body_bytes": len(body),
        "longest_line": max(map(len, series)),
        "slices": len(judged.slices),
        "examples": Counter(),
        "dropped": judged.slices_dropped,
        "texts": [[one.value, one.examples] for one in texts.slices],
        "ledger_bytes": (folder / "ledger.db").stat().st_size,
    }
    for one in judged.slices:
        found["examples"][one.dimension] += one.examples
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), many=sys.argv[2] == "many")
