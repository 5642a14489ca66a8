"""What is scored: data, model and job files, made in a folder from a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
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
_LEAST_PARTS = 32
"""So that workers, which take whole parts, end at about the same time."""
_SIDE, _PATCH = 32, 8
PIXELS = _SIDE * _SIDE

_JOB = """
[job]
name = "{name}"

[model]
factory = "benchmarks.workload:{model}"
weights = "{model}.safetensors"
device = "{device}"
task = "binary"
classes = [0, 1]

[input]
path = "input"
id = ["id"]
{features}
part_rows = {part_rows}

[output]
path = "scored/{name}"

[batch]
rows = {batch_rows}
keep_runs = {keep_runs}

[push]
every = "1s"
"""
_HOLDOUT = """
[[holdout]]
name = "{name}"
path = "holdout"
label = "truth"
slices = ["{column}"]
max_slices = {slices}
"""
_SLICES = (800, 700)
"""Values of two columns: with seven series each, more than the 10,000 that are shown of a job."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rows of a workload look like. `columns` of float32, or one list column of `PIXELS` uint8.

    `rows_divisor`: so many times fewer rows than the usual ones, for about as much work. `most_rounds`: what takes long
    gets few. `least_groups`: so many row groups even if there are few rows, so that there is work for every worker.
    """

    name: str = "mlp"
    model: str = "mlp"
    columns: int = WIDTH
    images: bool = False
    compression: str = "zstd"
    group_rows: int = _GROUP_ROWS
    files: int = 1
    rows_divisor: int = 1
    most_rounds: int = 5
    least_groups: int = _LEAST_GROUPS


USUAL = Shape()
FEW_ROWS = Shape("few rows", least_groups=1)
DEEP_MLP = Shape("MLP 32-1024-1024-2", model="wide_mlp", group_rows=16_384, rows_divisor=8)
TRANSFORMER = Shape("transformer on patches", model="transformer", images=True, group_rows=1_024, rows_divisor=128)
COMPUTE_BOUND = (DEEP_MLP, TRANSFORMER)
ODD_SHAPES = (
    Shape("4 columns", model="mlp_of_4", columns=4, rows_divisor=4),
    Shape("1,000 columns", model="mlp_of_1000", columns=1_000, group_rows=8_192, rows_divisor=64),
    Shape("images", model="mlp_of_images", images=True, group_rows=16_384, rows_divisor=16),
    Shape("row groups of 1,024", group_rows=1_024, rows_divisor=4),
    Shape("row groups of 1 Mi", group_rows=2**20, rows_divisor=2, least_groups=2),
    Shape("1,000 files", files=1_000, rows_divisor=32),
    Shape("10,000 files", files=10_000, rows_divisor=32, most_rounds=1),
    Shape("snappy", compression="snappy", rows_divisor=4),
    Shape("uncompressed", compression="none", rows_divisor=4),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """Parquet files of `rows` rows together in row groups of `group_rows`, a model, and where each contender writes."""

    folder: Path
    rows: int
    group_rows: int
    shape: Shape = USUAL

    @property
    def input(self) -> Path:
        """The file to score, or the first one: `id` int64, and the features."""
        return self.inputs[0]

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files to score."""
        names = ["rows.parquet", *(f"rows {number}.parquet" for number in range(1, self.shape.files))]
        return tuple(self.folder / "input" / name for name in names)

    def output(self, contender: str) -> Path:
        """The folder that a contender writes to."""
        return self.folder / "scored" / contender

    def job(
        self,
        name: str,
        *,
        keep_runs: int,
        part_rows: int | None = None,
        batch_rows: int | None = None,
        device: str = "cpu",
        more: str = "",
    ) -> Path:
        """A new job file for batchgauge, with its own defaults wherever there is a choice; `more` is added at its end."""
        path = self.folder / f"{name}.toml"
        features = f'features = ["image"]\nshape = [{PIXELS}]' if self.shape.images else 'features = ["feature_*"]'
        path.write_text(
            _JOB.format(
                name=name,
                model=self.shape.model,
                features=features,
                part_rows=part_rows or max(self.group_rows, min(_GROUP_ROWS, -(-self.rows // _LEAST_PARTS))),
                device=device,
                batch_rows=batch_rows or '"auto"',
                keep_runs=keep_runs,
            )
            + more
        )
        return path

    def write_many_slices(self) -> str:
        """Labelled rows that make more slices than can be shown, and the holdouts of a job file that judge them."""
        count = 2 * max(_SLICES)
        columns = {f"feature_{number}": np.zeros(count, np.float32) for number in range(self.shape.columns)}
        labels = {"truth": np.arange(count) // max(_SLICES)}  # each slice has both classes
        values = {f"slice_{size}": np.arange(count) % size for size in _SLICES}
        (self.folder / "holdout").mkdir(exist_ok=True)
        pq.write_table(pa.table(columns | labels | values), self.folder / "holdout" / "rows.parquet")
        return "".join(_HOLDOUT.format(name=f"of {size}", column=f"slice_{size}", slices=size) for size in _SLICES)

    def model(self) -> torch.nn.Module:
        """The model with its weights, for those who load it by hand."""
        model = _new_model(self.shape)
        model.load_state_dict(load_file(self.folder / f"{self.shape.model}.safetensors"))
        return model.eval()

    def batch(self, rows: int) -> torch.Tensor:
        """A batch of random rows as the model takes them, in the layout that is cheapest to fill."""
        generator = torch.Generator().manual_seed(SEED)
        if self.shape.images:
            return torch.randint(256, (rows, PIXELS), generator=generator).float()
        return torch.randn(self.shape.columns, rows, generator=generator).T


def mlp(width: int = WIDTH, hidden: int = 64) -> torch.nn.Module:
    """The model, 32-64-64-2: so small that reading costs as much as inferring."""
    return torch.nn.Sequential(
        torch.nn.Linear(width, hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, 2),
    )


def mlp_of_4() -> torch.nn.Module:
    """The same for 4 columns."""
    return mlp(4)


def mlp_of_1000() -> torch.nn.Module:
    """The same for 1,000 columns."""
    return mlp(1_000)


def mlp_of_images() -> torch.nn.Module:
    """The same for images."""
    return mlp(PIXELS)


def wide_mlp() -> torch.nn.Module:
    """32-1024-1024-2: inferring is nearly all there is to do."""
    return mlp(hidden=1_024)


class Transformer(torch.nn.Module):
    """Some layers over the 16 patches, 8 × 8 each, of an image of 32 × 32."""

    def __init__(self, width: int = 128, layers: int = 4) -> None:
        super().__init__()
        self.first = torch.nn.Linear(_PATCH * _PATCH, width)
        layer = torch.nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=4 * width, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, num_layers=layers)
        self.last = torch.nn.Linear(width, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits `[N, 2]` of pixels `[N, 1024]`, 0 to 255."""
        side = _SIDE // _PATCH
        patches = (
            (pixels / 255).reshape(-1, side, _PATCH, side, _PATCH).transpose(2, 3).reshape(-1, side * side, _PATCH * _PATCH)
        )
        logits: torch.Tensor = self.last(self.layers(self.first(patches)).mean(dim=1))
        return logits


def transformer() -> torch.nn.Module:
    """The transformer."""
    return Transformer()


def larger_transformer() -> torch.nn.Module:
    """One that an accelerator has something to do with: 12 layers, 512 wide."""
    return Transformer(width=512, layers=12)


def _new_model(shape: Shape) -> torch.nn.Module:
    model: torch.nn.Module = globals()[shape.model]()
    return model


def make(folder: Path, rows: int, shape: Shape = USUAL) -> Workload:
    """Write data and model."""
    rows = max(shape.files, rows // shape.rows_divisor)
    workload = Workload(folder, rows, min(shape.group_rows, -(-rows // shape.least_groups)), shape)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        save_file(_new_model(shape).state_dict(), folder / f"{shape.model}.safetensors")
    (folder / "input").mkdir()
    generator = np.random.default_rng(SEED)
    bounds = [rows * number // shape.files for number in range(shape.files + 1)]
    for path, ends in zip(workload.inputs, pairwise(bounds), strict=True):
        _write_rows(workload, path, ends, generator)
    return workload


def _write_rows(workload: Workload, path: Path, bounds: tuple[int, int], generator: np.random.Generator) -> None:
    """Row group by row group. No dictionaries: hardly a value is there twice, and with them nobody is fast."""
    shape = workload.shape
    if shape.images:
        features = [pa.field("image", pa.list_(pa.uint8(), PIXELS))]
    else:
        features = [pa.field(f"feature_{number}", pa.float32()) for number in range(shape.columns)]
    schema = pa.schema([("id", pa.int64()), *features])
    with pq.ParquetWriter(path, schema, compression=shape.compression, use_dictionary=False) as writer:
        for first in range(*bounds, workload.group_rows):
            rows = min(workload.group_rows, bounds[1] - first)
            columns = _features(shape, rows, generator)
            writer.write_table(pa.table([pa.array(np.arange(first, first + rows)), *columns], schema=schema))


def _features(shape: Shape, rows: int, generator: np.random.Generator) -> list[pa.Array]:
    if shape.images:
        pixels = generator.integers(256, size=rows * PIXELS, dtype=np.uint8)
        return [pa.FixedSizeListArray.from_arrays(pa.array(pixels), PIXELS)]
    return [pa.array(values) for values in generator.standard_normal((shape.columns, rows), dtype=np.float32)]
