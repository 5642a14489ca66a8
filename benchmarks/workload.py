"""What is scored: data, model and job files, made in a folder from a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

SEED = 20_261_122
WIDTH = 32
FEATURES = tuple(f"feature_{number}" for number in range(WIDTH))
CLASSES = (0, 1)

_GROUP_ROWS = 131_072
_LEAST_GROUPS = 8

_JOB = """
[job]
name = "{name}"

[model]
factory = "benchmarks.workload:mlp"
weights = "mlp.safetensors"
device = "cpu"
task = "binary"
classes = [0, 1]

[input]
path = "input"
id = ["id"]
features = ["feature_*"]
part_rows = {group_rows}

[output]
path = "scored/{name}"

[batch]
keep_runs = {keep_runs}

[push]
every = "1s"
"""


@dataclass(frozen=True, slots=True)
class Workload:
    """One Parquet file of `rows` rows in row groups of `group_rows`, a model, and where each contender writes."""

    folder: Path
    rows: int
    group_rows: int

    @property
    def input(self) -> Path:
        """The file to score: `id` int64, 32 features float32, zstd."""
        return self.folder / "input" / "rows.parquet"

    def output(self, contender: str) -> Path:
        """The folder that a contender writes to."""
        return self.folder / "scored" / contender

    def job(self, name: str, *, keep_runs: int) -> Path:
        """A new job file for batchgauge, with its own defaults wherever there is a choice."""
        path = self.folder / f"{name}.toml"
        path.write_text(_JOB.format(name=name, group_rows=self.group_rows, keep_runs=keep_runs))
        return path

    def model(self) -> torch.nn.Module:
        """The model with its weights, for those who load it by hand."""
        model = mlp()
        model.load_state_dict(load_file(self.folder / "mlp.safetensors"))
        return model.eval()


def mlp() -> torch.nn.Module:
    """The model, 32-64-64-2: so small that reading costs as much as inferring."""
    return torch.nn.Sequential(
        torch.nn.Linear(WIDTH, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)
    )


def make(folder: Path, rows: int) -> Workload:
    """Write data and model. A tiny input too has several row groups, so that there is work for every worker."""
    workload = Workload(folder, rows, min(_GROUP_ROWS, -(-rows // _LEAST_GROUPS)))
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        save_file(mlp().state_dict(), folder / "mlp.safetensors")
    _write_rows(workload)
    return workload


def _write_rows(workload: Workload) -> None:
    """Row group by row group. No dictionaries: hardly a value is there twice, and with them nobody is fast."""
    generator = np.random.default_rng(SEED)
    schema = pa.schema([("id", pa.int64()), *((name, pa.float32()) for name in FEATURES)])
    workload.input.parent.mkdir()
    with pq.ParquetWriter(workload.input, schema, compression="zstd", use_dictionary=False) as writer:
        for first in range(0, workload.rows, workload.group_rows):
            rows = min(workload.group_rows, workload.rows - first)
            values = generator.standard_normal((WIDTH, rows), dtype=np.float32)
            writer.write_table(pa.table([pa.array(np.arange(first, first + rows)), *map(pa.array, values)], schema=schema))
