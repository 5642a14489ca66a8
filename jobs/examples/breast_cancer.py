"""The example job `breast_cancer`: is a biopsy malignant? How its nights are made is in README.md.

`build` and `train` are all that a job needs; the rest makes the first model and the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from jobs.examples.nights import dates, deliver, ids, random_for, save
from jobs.retrain import Training

SEED = 7
STEPS = 150
NIGHTS_LEARNED_FROM = 7
DECISION_THRESHOLD = 0.3
"""Malignant from this probability on, as in the job file: rather a false alarm than a miss."""

ROWS = 1_200
LABELLED_ROWS = 500
LABS = ("north", "south")
MEASUREMENT_ERROR = 0.01
"""Relative standard deviation of what a repeated measurement adds."""


class Classifier(nn.Module):
    """Features `[N, 30]` in their own units to logits `[N, 1]`, positive for malignant.

    The training data's mean and standard deviation are part of the weights, so scoring standardises alike.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(30))
        self.register_buffer("deviation", torch.ones(30))
        self.layers = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of the positive class."""
        logits: torch.Tensor = self.layers((features - self.mean) / self.deviation)
        return logits


def build() -> Classifier:
    """The model as the job file names it, without its weights."""
    return Classifier()


def train(training: Training) -> None:
    """What `retrain.entrypoint` names: learn anew, from the original biopsies and the labelled nights of late."""
    nights = [_night(file) for file in training.labelled["labelled"][-NIGHTS_LEARNED_FROM:]]
    save(fit(joined([seen(), *nights]), seed=training.seed), training.candidate)


def train_first(root: Path) -> float:
    """By hand, before the first night: train on one half of the biopsies, write `models/breast_cancer.safetensors`.

    Returns the accuracy on the other half.
    """
    model = fit(seen(), seed=SEED)
    save(model, root / "models" / "breast_cancer.safetensors")
    return accuracy(model)


def fit(biopsies: Biopsies, *, seed: int) -> Classifier:
    """A model trained on the biopsies, ready to predict. The caller's own random state is left alone."""
    features, malignant = (torch.from_numpy(array) for array in biopsies)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().train()
    model.mean, model.deviation = features.mean(dim=0), features.std(dim=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(binary_cross_entropy_with_logits(model(features).squeeze(1), malignant.float()))
        optimizer.step()
    return model.eval()


def accuracy(model: nn.Module) -> float:
    """Share of the biopsies it was not trained on that the model judges right."""
    features, malignant = (torch.from_numpy(array) for array in unseen())
    with torch.inference_mode():
        right = (model(features).squeeze(1).sigmoid() >= DECISION_THRESHOLD) == malignant
    return float(right.float().mean())


class Biopsies(NamedTuple):
    """Measurements, float32 `[N, 30]`, and whether each is malignant, bool `[N]`."""

    features: npt.NDArray[np.float32]
    malignant: npt.NDArray[np.bool_]


def seen() -> Biopsies:
    """The biopsies with an even number: for training."""
    features, malignant = _biopsies()[0]
    return Biopsies(features[0::2], malignant[0::2])


def joined(biopsies: Sequence[Biopsies]) -> Biopsies:
    """All of them, in order."""
    return Biopsies(np.concatenate([one.features for one in biopsies]), np.concatenate([one.malignant for one in biopsies]))


def _night(file: Path) -> Biopsies:
    """A labelled sample."""
    table = pq.read_table(file, partitioning=None)
    features = np.stack([table[name].to_numpy() for name in feature_names()], axis=1)
    return Biopsies(features, np.asarray(table["diagnosis"].to_pylist()) == "malignant")


def unseen() -> Biopsies:
    """The biopsies with an odd number: nights are drawn from these only."""
    features, malignant = _biopsies()[0]
    return Biopsies(features[1::2], malignant[1::2])


def feature_names() -> tuple[str, ...]:
    """The columns, in the model's order: scikit-learn's names with `_` for each space."""
    return _biopsies()[1]


@cache
def _biopsies() -> tuple[Biopsies, tuple[str, ...]]:
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  scoring builds the model, and needs no scikit-learn

    data = load_breast_cancer()
    malignant = data.target == list(data.target_names).index("malignant")
    return Biopsies(data.data.astype(np.float32), malignant), tuple(name.replace(" ", "_") for name in data.feature_names)


def write_nights(root: Path, last: date, nights: int) -> None:
    """Write the drops and labelled samples of that many nights, up to `last`, under `root`/breast_cancer."""
    for night, day in dates(last, nights):
        write_night(root, day, night)


def write_night(root: Path, day: date, night: int) -> None:
    """Write one drop and its labelled sample. No `night` differs from another."""
    del night
    random = random_for(day)
    biopsies = make_night(day, random)
    labelled = random.choice(ROWS, LABELLED_ROWS, replace=False)
    deliver(root, "breast_cancer", day, biopsies, label="diagnosis", labelled=labelled)


def make_night(day: date, random: np.random.Generator) -> pa.Table:
    """One night's biopsies: columns id, the 30 measurements (float32), lab and diagnosis."""
    biopsies = unseen()
    drawn = random.integers(0, len(biopsies.malignant), ROWS)
    repeated = 1 + MEASUREMENT_ERROR * random.standard_normal((ROWS, len(feature_names())))
    measured = (biopsies.features[drawn] * repeated).astype(np.float32)
    return pa.table(
        {
            "id": ids(day, ROWS),
            **dict(zip(feature_names(), measured.T, strict=True)),
            "lab": random.choice(LABS, ROWS),
            "diagnosis": np.where(biopsies.malignant[drawn], "malignant", "benign"),
        }
    )
