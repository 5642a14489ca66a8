"""The tiny job with a model that is half wrong, labelled days, and a training function written in the test."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from tests.tiny_job import SPEC, TinyJob, rows_table

DAY = date(2026, 11, 20)
DAYS = 6
ROWS = 200

RETRAIN = """
[retrain]
entrypoint = "trainer.py:train"
timeout = "60s"
"""

HEAD = """
import os, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def weights(x, y):
    # The larger the difference of the two rows, the surer: class 1 where x * row[0] + y * row[1] is positive.
    return {"weight": np.array([[-x, -y], [x, y]], np.float32), "bias": np.zeros(2, np.float32)}


def write(training, x, y):
    save_file(weights(x, y), training.candidate)

"""

GOOD = "write(training, 1, -1)"
"""Class 1 where x > y: as right as can be."""
WORSE = "write(training, -1, 1)"
"""Wrong wherever the good one is right."""


class RetrainedJob(TinyJob):
    """In use is a model that looks at x alone: right on about three rows of four. The labels of six days lie there."""

    def __init__(self, folder: Path, *, trainer: str = GOOD, settings: str = "") -> None:
        dated = SPEC.replace('path = "labelled"\n', 'path = "labelled/date={date}"\n')
        super().__init__(folder, spec=dated + RETRAIN + settings)
        self.model = folder / "tiny.safetensors"
        self.write_weights(1.0, 0.0)
        for age in range(DAYS):
            self.write_labels(DAY - timedelta(days=age))
        self.write_trainer(trainer)

    def write_holdout(self, rows: int = 200, wrong: int = 10) -> Path:
        """There is none without a date."""
        del rows, wrong
        return self.folder

    def write_labels(self, day: date, *, rows: int = ROWS, wrong: int = 0, folder: str = "labelled") -> Path:
        """Write a day's labelled rows: class 1 where x > y, `wrong` of them the other way."""
        table = rows_table(rows, prefix=str(day), seed=day.toordinal())
        truth = (table["x"].to_numpy() > table["y"].to_numpy()).astype(np.int64)
        truth[:wrong] = 1 - truth[:wrong]
        table = table.append_column("truth", pa.array(truth)).append_column("side", pa.array(["left", "right"] * (rows // 2)))
        return self.write(self.folder / folder / f"date={day}" / "rows.parquet", table)

    def write_weights(self, x: float, y: float, *, file: Path | None = None) -> None:
        """Write a model: class 1 where x * column x + y * column y is positive."""
        tensors: Mapping[str, torch.Tensor] = {"weight": torch.tensor([[-x, -y], [x, y]]), "bias": torch.zeros(2)}
        save_file(dict(tensors), file or self.model)

    def write_trainer(self, body: str) -> None:
        """Write the training function: its body, which knows `training` and the names in `HEAD`."""
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (self.folder / "trainer.py").write_text(f"{HEAD}\ndef train(training):\n{lines}\n")

    def leftovers(self) -> list[str]:
        """Temporary files and workplaces, anywhere in the folder above the job's, where the ledger is."""
        found = self.folder.parent.rglob("*")
        return [str(path) for path in found if path.name.endswith((".tmp", ".work"))]
