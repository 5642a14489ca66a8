"""A part's batches, added up: however many rows each has, and however many are decoded at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from pipelines import batches
from pipelines.batches import Batch, Batches
from pipelines.casting import NAN, NULL
from pipelines.predictions import Predictions, decode
from pipelines.report import Reason, Stage
from pipelines.settings import ModelSettings

SETTINGS = ModelSettings(path="model.pt2", task="multiclass")


def decoded(values: torch.Tensor) -> Predictions:
    return decode(values, SETTINGS, probabilities=True)


def added(outputs: torch.Tensor, reasons: np.ndarray[Any, Any], sizes: list[int]) -> Batches:
    """Batches of these sizes, over and over, of rows with these outputs, all from one block as from a model that reuses it."""
    found = Batches("part", len(outputs), decoded, read_seconds=1.0, prepare_seconds=2.0)
    block, first, turn = torch.empty_like(outputs), 0, 0
    while first < len(outputs):
        last = min(first + sizes[turn % len(sizes)], len(outputs))
        own = reasons[first:last]
        valid = outputs[first:last][torch.from_numpy(own == 0)]
        block[: len(valid)] = valid
        found.add(first, Batch(own if own.any() else None, block[: len(valid)] if len(valid) else None, 0.5, 0.25))
        first, turn = last, turn + 1
    found.decode()
    return found


@effort(deadline=None)
@given(
    rows=st.integers(1, 60),
    classes=st.integers(2, 5),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    together=st.integers(1, 150),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_split_comes_to_the_same(rows: int, classes: int, sizes: list[int], together: int, seed: int) -> None:
    """Invalid rows and outputs of NaN among them; the oracle decodes all outputs at once."""
    generator = np.random.default_rng(seed)
    outputs = torch.from_numpy(generator.normal(size=(rows, classes)).astype(np.float32))
    outputs[torch.from_numpy(generator.random(rows) < 0.1), 0] = float("nan")
    reasons = generator.choice(np.array([0, NULL, NAN], np.int8), rows, p=[0.8, 0.1, 0.1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_DECODED_VALUES", together)
        found = added(outputs, reasons, sizes)
    finite = outputs.isfinite().all(dim=1).numpy()
    kept = (reasons == 0) & finite
    expected = decoded(outputs[torch.from_numpy(kept)])
    np.testing.assert_array_equal(found.predicted(), expected.index)
    np.testing.assert_allclose(found.score(), expected.score, rtol=1e-6)
    if kept.any():
        assert expected.probabilities is not None
        np.testing.assert_allclose(found.probabilities(), expected.probabilities, rtol=1e-6)
    counts = {
        Reason.NULL: int((reasons == NULL).sum()),
        Reason.NAN: int((reasons == NAN).sum()),
        Reason.OUTPUT: int(((reasons == 0) & ~finite).sum()),
    }
    assert found.rejected() == {reason: count for reason, count in counts.items() if count}
    assert sum(record.rows for record in found.records()) == int((reasons == 0).sum())


def test_a_model_may_change_how_many_classes_it_tells_apart() -> None:
    """Outputs of another width or dtype don't wait together."""
    found = Batches(
        "part", 30_000, lambda values: decode(values, SETTINGS, probabilities=False), read_seconds=0, prepare_seconds=0
    )
    for first, outputs in ((0, torch.eye(3)), (3, torch.eye(2)), (5, torch.eye(4, dtype=torch.float64))):
        found.add(first, Batch(None, outputs, 0.0, 0.0))
    found.decode()
    assert found.predicted().tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]


def test_decoding_is_a_part_of_latency() -> None:
    """Shared out by rows: the records' seconds are the part's."""
    found = added(torch.zeros(40_000, 2), np.zeros(40_000, np.int8), [10_000, 5_000])
    seconds, records = found.stage_seconds(), found.records()
    assert seconds[Stage.INFER] > 0.25 * len(records)
    assert sum(record.latency_seconds for record in records) == pytest.approx(seconds[Stage.INFER])
    assert records[0].latency_seconds - 0.25 == pytest.approx(2 * (records[1].latency_seconds - 0.25))
