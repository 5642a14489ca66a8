"""From what a model returns to what it says: classes, scores and probabilities. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipelines.errors import ModelError
from pipelines.settings import ModelSettings
from pipelines.values import ClassName

Array = np.ndarray[Any, Any]

_SHORT = 16
"""Classes up to which softmax is faster column by column: measured, 5 to 8 times for 2 to 10, 0.5 times for 100."""

_ROUNDING = 4
"""A probability may be outside of [0, 1] by this many units of rounding of its dtype."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of N rows, on the host, in memory of their own.

    `index` int64 [N]: position of the predicted class; `score` float [N]:
    binary, probability of the positive class; multiclass, of the predicted one; `probabilities` float [N, C], or None
    where nobody asked; `finite` bool [N]: False where the model returned NaN or infinity (the other figures of such a
    row mean nothing), or None when that is nowhere. float is float64 if the model returned that, else float32.
    """

    index: Array
    score: Array
    probabilities: Array | None
    finite: Array | None


def matrix(output: torch.Tensor, settings: ModelSettings, rows: int) -> torch.Tensor:
    """The model's output for `rows` rows, of shape `[N]`, `[N, 1]`, `[N, 2]` or `[N, C]`, as `[N, C]`, float32 or float64.

    No rows in, no rows out. An output whose batch dimension was squeezed away (N = 1) is accepted.

    Raises:
        ModelError: the shape or dtype doesn't fit the task, or a probability is not one.

    """
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
    if settings.output == "probabilities":
        _check_probabilities(values, torch.finfo(output.dtype).eps)
    return values


def width(values: torch.Tensor, settings: ModelSettings) -> int:
    """How many classes the model tells apart, by its outputs."""
    return 2 if settings.task == "binary" else values.shape[1]


def decode(values: torch.Tensor, settings: ModelSettings, *, probabilities: bool) -> Predictions:
    """Predictions from outputs `[N, C]` (see `matrix`), of one batch or of several."""
    finite = _finite(values)
    say = _binary if settings.task == "binary" else _multiclass
    index, score, known = say(values, settings, probabilities=probabilities)
    return Predictions(index, score, known, None if finite is None else finite.numpy())


def class_names(settings: ModelSettings, width: int) -> tuple[ClassName, ...]:
    """The settings' class names, else 0, 1, 2, … for `width` classes."""
    return settings.classes or tuple(range(width))


def _width_fits(settings: ModelSettings, width: int) -> bool:
    if settings.task == "binary":
        return width in (1, 2)
    return width == len(settings.classes) if settings.classes else width > 1


def _finite(values: torch.Tensor) -> torch.Tensor | None:
    """Which rows are, bool [N]; None when all are: a finite sum has finite terms only."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.numpy().sum()):  # a torch sum and a look at it take as long as all that follows
            return None
    finite = values.isfinite().all(dim=1)
    return None if finite.all() else finite


def _check_probabilities(values: torch.Tensor, rounding: float) -> None:
    finite = _finite(values)
    values = values if finite is None else values[finite]
    if values.numel() == 0:
        return
    low, high = values.min().item(), values.max().item()
    if low < -_ROUNDING * rounding or high > 1 + _ROUNDING * rounding:
        raise ModelError(
            f"the model returned probabilities from {low:.6g} to {high:.6g}, outside of [0, 1]; "
            'if it returns logits, set output = "logits"'
        )


Said = tuple[Array, Array, Array | None]
"""Index, score and probabilities. None shares memory with the model's output, which may share it with the next input."""


def _binary(values: torch.Tensor, settings: ModelSettings, *, probabilities: bool) -> Said:
    # The softmax of two logits is the sigmoid of their difference, at a tenth of the cost.
    logits = settings.output == "logits"
    if values.shape[1] == 1:
        column = values[:, 0]
    elif logits:
        column = values[:, 1] - values[:, 0]
    else:
        column = values[:, 1]
    positive = torch.sigmoid(column) if logits else column.clamp(0, 1)
    score = positive.numpy()
    index = (score >= settings.decision_threshold).astype(np.int64)
    if not probabilities:
        return index, score, None
    negative = torch.sigmoid(-column) if logits else values[:, 0].clamp(0, 1) if values.shape[1] > 1 else 1 - positive
    return index, score, torch.stack((negative, positive), dim=1).numpy()


def _multiclass(values: torch.Tensor, settings: ModelSettings, *, probabilities: bool) -> Said:
    index = values.numpy().argmax(axis=1)
    known = (_softmax(values) if settings.output == "logits" else values.clamp(0, 1)).numpy()
    score = np.take_along_axis(known, index[:, None], axis=1)[:, 0]
    return index, score, known if probabilities else None


def _softmax(values: torch.Tensor) -> torch.Tensor:
    """`[N, C]`. Along a short last dimension softmax is not vectorised; along the first one it is."""
    if values.shape[1] > _SHORT:
        return torch.softmax(values, dim=1)
    return torch.softmax(values.T.contiguous(), dim=0).T
