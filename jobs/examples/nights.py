"""What both examples do with a night's rows: draw them, deliver them, label a sample of them. And how they save a model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file
from torch import nn

ROW_GROUP_ROWS = 500


def dates(last: date, nights: int) -> Iterator[tuple[int, date]]:
    """The nights as (number from 1, date), the last of them on `last`."""
    for night in range(1, nights + 1):
        yield night, last - timedelta(days=nights - night)


def random_for(day: date) -> np.random.Generator:
    """The night's own randomness: a date always gets the same rows, however many nights are made."""
    return np.random.default_rng(day.toordinal())


def ids(day: date, rows: int) -> pa.Array:
    """Row ids that never repeat, such as `2026-11-22-0000`."""
    return pa.array([f"{day}-{row:04}" for row in range(rows)])


def deliver(root: Path, job: str, day: date, rows: pa.Table, *, label: str, labelled: npt.NDArray[np.int64]) -> None:
    """Drop the rows without their label into the job's inbox, and those at `labelled`, with it, beside it."""
    _write(rows.drop_columns([label]), root / job / "inbox" / f"date={day}" / "rows.parquet")
    _write(rows.take(pa.array(np.sort(labelled))), root / job / "labelled" / f"date={day}" / "rows.parquet")


def save(model: nn.Module, path: Path) -> None:
    """Write the weights aside and rename: whoever loads them meanwhile gets the old ones or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    save_file(model.state_dict(), aside)
    aside.replace(path)


def _write(table: pa.Table, path: Path) -> None:
    """Write aside and rename: a run that starts now sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, aside, row_group_size=ROW_GROUP_ROWS)
    aside.replace(path)
