"""From what a model returns to what it says: classes, scores and probabilities. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipelines.errors import ModelError
from pipelines.settings import ClassName, ModelSettings

_ROUNDING = 4
"""A probability may be outside of [0, 1] by this many units of rounding of its dtype."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """One batch, on the host, in memory of its own.

    `index` int64 [N]: position of the predicted class; `score` float [N]: binary, probability of the positive
    class; multiclass, of the predicted one; `probabilities` float [N, C]; `finite` bool [N]: False where the
    model returned NaN or infinity (the other figures of such a row mean nothing). float is float64 if the
    model returned that, else float32.
    """

    index: np.ndarray[Any, np.dtype[np.int64]]
    score: np.ndarray[Any, np.dtype[Any]]
    probabilities: np.ndarray[Any, np.dtype[Any]]
    finite: np.ndarray[Any, np.dtype[np.bool_]]


def decode(output: torch.Tensor, settings: ModelSettings, rows: int) -> Predictions:
    """Predictions for `rows` rows from the model's output: shape `[N]`, `[N, 1]`, `[N, 2]` or `[N, C]`.

    No rows in, no rows out. An output whose batch dimension was squeezed away (N = 1) is accepted.

    Raises:
        ModelError: the shape or dtype doesn't fit the task, or a probability is not one.

    """
    values = _matrix(output, settings, rows)
    finite = torch.isfinite(values).all(dim=1)
    if settings.output == "probabilities":
        _check_probabilities(values[finite], torch.finfo(output.dtype).eps)
    probabilities = _probabilities(values, settings)
    if settings.task == "binary":
        score = probabilities[:, 1].numpy()
        index = (score >= settings.decision_threshold).astype(np.int64)
    else:
        index = values.argmax(dim=1).numpy()
        score = np.take_along_axis(probabilities.numpy(), index[:, None], axis=1)[:, 0]
    return Predictions(index, score, probabilities.numpy(), finite.numpy())


def class_names(settings: ModelSettings, width: int) -> tuple[ClassName, ...]:
    """The settings' class names, else 0, 1, 2, … for `width` classes."""
    return settings.classes or tuple(range(width))


def _matrix(output: torch.Tensor, settings: ModelSettings, rows: int) -> torch.Tensor:
    """`[N, 1 or 2]` for binary, `[N, C]` for multiclass, float32 or float64."""
    if not output.is_floating_point():
        raise ModelError(f"the model returned {output.dtype}: it must return floating-point {settings.output}")
    values = output if output.dtype == torch.float64 else output.float()
    if rows == 1 and values.dim() <= 1:
        values = values.reshape(1, -1)
    elif settings.task == "binary" and values.dim() == 1:
        values = values.unsqueeze(1)
    widths = "[N], [N, 1] or [N, 2]" if settings.task == "binary" else f"[N, {len(settings.classes or ()) or 'classes'}]"
    if values.dim() != 2 or values.shape[0] != rows or not _width_fits(settings, values.shape[1]):  # noqa: PLR2004  a matrix
        raise ModelError(
            f"the model returned shape {list(output.shape)} for {rows} rows: {settings.task} {settings.output} must have "
            f"shape {widths} with N = {rows}; check 'task', 'classes' and the model"
        )
    return values


def _width_fits(settings: ModelSettings, width: int) -> bool:
    if settings.task == "binary":
        return width in (1, 2)
    return width == len(settings.classes) if settings.classes else width > 1


def _check_probabilities(values: torch.Tensor, rounding: float) -> None:
    if values.numel() == 0:
        return
    low, high = values.min().item(), values.max().item()
    if low < -_ROUNDING * rounding or high > 1 + _ROUNDING * rounding:
        raise ModelError(
            f"the model returned probabilities from {low:.6g} to {high:.6g}, outside of [0, 1]; "
            'if it returns logits, set output = "logits"'
        )


def _probabilities(values: torch.Tensor, settings: ModelSettings) -> torch.Tensor:
    """`[N, C]`, always a new tensor: the output may share memory with the input, which is used again."""
    if settings.output == "probabilities":
        known = values.clamp(0, 1)
    elif values.shape[1] == 1:
        known = torch.sigmoid(values)
    else:
        known = torch.softmax(values, dim=1)
    return torch.cat((1 - known, known), dim=1) if values.shape[1] == 1 else known
