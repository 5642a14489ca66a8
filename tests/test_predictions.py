"""From model outputs to predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from pipelines import predictions
from pipelines.errors import ModelError
from pipelines.predictions import Predictions, class_names
from pipelines.settings import ModelSettings


def decode(output: torch.Tensor, settings: ModelSettings, rows: int) -> Predictions:
    """With the probabilities, and without them the same."""
    values = predictions.matrix(output, settings, rows)
    found, short = (predictions.decode(values, settings, probabilities=asked) for asked in (True, False))
    assert short.probabilities is None
    for one, other in ((found.index, short.index), (found.score, short.score)):
        np.testing.assert_array_equal(one, other)
    return found


def probabilities(found: Predictions) -> np.ndarray[Any, Any]:
    assert found.probabilities is not None
    return found.probabilities


def finite(found: Predictions) -> list[bool]:
    return [True] * len(found.index) if found.finite is None else found.finite.tolist()


def settings(**changes: Any) -> ModelSettings:
    return ModelSettings(path="model.pt2", **{"task": "multiclass", **changes})


@effort(deadline=None)
@given(logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20), threshold=st.floats(0, 1))
def test_binary_forms_agree(logits: list[float], threshold: float) -> None:
    """`[N]`, `[N, 1]` and `[N, 2]` logits, and the same as probabilities, say the same; numpy is the oracle."""
    x = torch.tensor(logits, dtype=torch.float64)
    p = 1 / (1 + np.exp(-x.numpy()))
    forms = {
        "logits": (x, x[:, None], torch.stack((torch.zeros_like(x), x), dim=1)),
        "probabilities": (torch.from_numpy(p), torch.from_numpy(p)[:, None], torch.from_numpy(np.stack((1 - p, p), axis=1))),
    }
    for output, values in forms.items():
        for value in values:
            if output == "probabilities" and len(x) == 1 and value.dim() == 1:
                value = value[0]  # noqa: PLW2901  a model that squeezes gives a scalar
            found = decode(value, settings(task="binary", output=output, decision_threshold=threshold), len(x))
            np.testing.assert_allclose(found.score, p, rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(probabilities(found), np.stack((1 - p, p), axis=1), rtol=1e-9, atol=1e-12)
            assert (found.index == (found.score >= threshold)).all()
            assert found.finite is None


def test_a_probability_at_the_threshold_is_positive() -> None:
    """At least, not more than; also in float32, where 0.7 is not 0.7."""
    output = torch.tensor([0.69, 0.7, 0.71])
    found = decode(output, settings(task="binary", output="probabilities", decision_threshold=0.7), 3)
    assert found.index.tolist() == [0, 1, 1]


@pytest.mark.parametrize("classes", [2, 7, 16, 17, 300])
def test_multiclass_is_the_softmax_and_its_largest(classes: int) -> None:
    """The score is the probability of the predicted class, of few classes or many; numpy is the oracle."""
    logits = torch.randn(50, classes, generator=torch.Generator().manual_seed(1))
    found = decode(logits, settings(), 50)
    raised = np.exp(logits.numpy())
    expected = raised / raised.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(found), expected, rtol=1e-5)
    assert (found.index == logits.numpy().argmax(axis=1)).all()
    np.testing.assert_allclose(found.score, expected.max(axis=1), rtol=1e-5)
    assert found.index.dtype == np.int64
    assert found.score.dtype == np.float32
    assert predictions.width(logits, settings()) == classes


def test_no_rows_give_no_predictions() -> None:
    """Nothing in, nothing out, of the right shapes."""
    found = decode(torch.zeros(0, 3), settings(), 0)
    assert found.index.shape == (0,)
    assert probabilities(found).shape == (0, 3)


def test_rows_that_are_not_finite_are_marked_and_hurt_no_other() -> None:
    """NaN or infinity in a row's output is that row's trouble, also among probabilities."""
    logits = torch.tensor([[0.0, 1.0], [float("nan"), 0.0], [float("inf"), 0.0]])
    assert finite(decode(logits, settings(), 3)) == [True, False, False]
    output = torch.tensor([0.25, float("nan"), float("inf")])
    found = decode(output, settings(task="binary", output="probabilities"), 3)
    assert finite(found) == [True, False, False]
    assert found.score[0] == 0.25


def test_the_result_shares_no_memory_with_the_output() -> None:
    """A model may return its input, which the next batch overwrites."""
    output = torch.tensor([[0.25, 0.75]])
    found = decode(output, settings(output="probabilities"), 1)
    output.zero_()
    assert probabilities(found).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_and_its_rounding_forgiven(dtype: torch.dtype) -> None:
    """A softmax in half precision may pass 1 by a rounding."""
    output = torch.tensor([[1.0, 0.0]], dtype=dtype) * (1 + torch.finfo(dtype).eps)
    found = decode(output, settings(output="probabilities"), 1)
    assert found.score.dtype == np.float32
    assert found.score.tolist() == [1.0]


@pytest.mark.parametrize(
    ("output", "changes", "rows", "message"),
    [
        (torch.zeros(4, 3), {"task": "binary"}, 4, r"shape \[4, 3\] for 4 rows.*\[N\], \[N, 1\] or \[N, 2\]"),
        (torch.zeros(4), {}, 4, r"shape \[4\] for 4 rows.*\[N, classes\]"),
        (torch.zeros(4, 1), {}, 4, r"shape \[4, 1\]"),
        (torch.zeros(3, 5), {}, 4, r"shape \[3, 5\] for 4 rows"),
        (torch.zeros(4, 2, 2), {}, 4, r"shape \[4, 2, 2\]"),
        (torch.zeros(4, 5), {"classes": ("a", "b", "c")}, 4, r"shape \[4, 5\].*\[N, 3\]"),
        (torch.zeros(4, 5, dtype=torch.int64), {}, 4, r"returned torch\.int64"),
        (torch.full((4, 2), 2.5), {"output": "probabilities"}, 4, r"from 2\.5 to 2\.5, outside of \[0, 1\]"),
        (torch.full((4,), -0.1), {"task": "binary", "output": "probabilities"}, 4, r"outside of \[0, 1\]"),
    ],
)
def test_an_output_that_does_not_fit_says_what_came_and_what_was_wanted(
    output: torch.Tensor, changes: dict[str, Any], rows: int, message: str
) -> None:
    """A shape, dtype or range that doesn't fit the task is a ModelError with the shape got and the shape wanted."""
    with pytest.raises(ModelError, match=message):
        decode(output, settings(**changes), rows)


def test_class_names_default_to_positions() -> None:
    """Names are the settings', else 0, 1, 2, …"""
    assert class_names(settings(), 3) == (0, 1, 2)
    assert class_names(settings(classes=("x", "y")), 2) == ("x", "y")
