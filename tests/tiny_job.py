"""A whole job, small: a linear model over two features, Parquet input, a labelled holdout, a job file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

MODEL = """
import torch


def build():
    return torch.nn.Linear(2, 2)
"""

SLOW_MODEL = """
import time

import torch


class Slow(torch.nn.Linear):
    def forward(self, x):
        time.sleep({seconds})
        return super().forward(x)


def build():
    return Slow(2, 2)
"""

SPEC = """
[job]
name = "tiny"
schedule = "15 2 * * *"

[model]
factory = "tiny.py:build"
weights = "tiny.safetensors"
version = "v1"
device = "cpu"
task = "binary"

[input]
path = "inbox/date={date}"
id = ["id"]
features = ["x", "y"]
part_rows = 100

[output]
path = "scored/date={date}"

[batch]
rows = 50
workers = 2

[[holdout]]
name = "labelled"
path = "labelled"
label = "truth"
slices = ["side"]

[thresholds]
latency_seconds = 1.0
accuracy = 0.9
recall = 0.9
"""


class TinyJob:
    """A job in `folder`. The model says 1 where x > y; the truth is the same but for a few wrong labels."""

    def __init__(self, folder: Path, *, spec: str = SPEC) -> None:
        self.folder = folder
        self.spec = folder / "tiny.toml"
        folder.mkdir(parents=True, exist_ok=True)
        self.spec.write_text(spec)
        (folder / "tiny.py").write_text(MODEL)
        weights = {"weight": torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), "bias": torch.zeros(2)}
        save_file(weights, folder / "tiny.safetensors")
        self.write_holdout()

    def write_input(self, night: str, rows: int, *, name: str = "drop", seed: int = 0, group_rows: int = 100) -> Path:
        """Write one drop; its ids are `<name>-<row>`. Returns the file."""
        path = self.folder / "inbox" / f"date={night}" / f"{name}.parquet"
        return self.write(path, rows_table(rows, prefix=name, seed=seed), group_rows=group_rows)

    def write_holdout(self, rows: int = 200, wrong: int = 10) -> Path:
        """Write the labelled holdout, `wrong` of whose labels differ from what the model says."""
        table = rows_table(rows, prefix="holdout", seed=7)
        truth = (table["x"].to_numpy() > table["y"].to_numpy()).astype(np.int64)
        truth[:wrong] = 1 - truth[:wrong]
        side = np.where(np.arange(rows) % 2 == 0, "left", "right")
        table = table.append_column("truth", pa.array(truth)).append_column("side", pa.array(side))
        return self.write(self.folder / "labelled" / "holdout.parquet", table)

    def write(self, path: Path, table: pa.Table, *, group_rows: int = 100) -> Path:
        """Write any table as Parquet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=group_rows)
        return path

    def edit(self, replacements: Mapping[str, str]) -> None:
        """Change the job file's text."""
        text = self.spec.read_text()
        for old, new in replacements.items():
            assert old in text, old
            text = text.replace(old, new)
        self.spec.write_text(text)

    def slow_down(self, *, seconds_for_each_batch: float) -> None:
        """Give the job the same model, but slow."""
        (self.folder / "tiny.py").write_text(SLOW_MODEL.format(seconds=seconds_for_each_batch))

    def output(self, night: str) -> pa.Table:
        """All predictions of a night, as a reader of the folder sees them."""
        return pq.read_table(self.folder / "scored" / f"date={night}", partitioning=None)


def rows_table(rows: int, *, prefix: str, seed: int) -> pa.Table:
    """Random rows with an id each."""
    generator = np.random.default_rng(seed)
    return pa.table(
        {
            "id": [f"{prefix}-{row}" for row in range(rows)],
            "x": generator.normal(size=rows).astype(np.float32),
            "y": generator.normal(size=rows),
        }
    )
