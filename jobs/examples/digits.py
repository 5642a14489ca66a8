"""The example job `digits`: which digit is on an 8×8 scan. How its nights are made is in README.md.

`build` and `train` are all that a job needs; the rest makes the data.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

from jobs.examples.nights import dates, deliver, ids, random_for

SEED = 7
EPOCHS = 30
BATCH_ROWS = 32

ROWS = 1_500
LABELLED_ROWS = 600
SCANNERS = ("a", "b", "c")
NOISY_SCANNER = "c"
NOISE_FROM = 22
"""The night, counted from 1, on which the noisy scanner begins to fail."""
NOISE_FIRST = 4.0
NOISE_STEP = 0.75
"""Standard deviation of its noise in grey levels (a scan has 0 to 16): on that night, and what each further one adds."""


def build() -> nn.Module:
    """Features `[N, 64]`, grey levels from 0 to 16, to logits `[N, 10]`."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.BatchNorm2d(1),
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 4 * 4, 10),
    )


def train(root: Path) -> float:
    """Train on one half of the images, write `models/digits.safetensors`, return the accuracy on the other half."""
    images, digits = (torch.from_numpy(array) for array in seen())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = build().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(images)), BATCH_ROWS):
                optimizer.zero_grad()
                torch.autograd.backward(cross_entropy(model(images[rows]), digits[rows]))
                optimizer.step()
    path = root / "models" / "digits.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    save_file(model.state_dict(), aside)
    aside.replace(path)  # whoever loads the model meanwhile gets the old one or the new one
    return accuracy(model.eval())


def accuracy(model: nn.Module) -> float:
    """Share of the images it was not trained on that the model reads right."""
    images, digits = (torch.from_numpy(array) for array in unseen())
    with torch.inference_mode():
        right = model(images).argmax(dim=1) == digits
    return float(right.float().mean())


class Images(NamedTuple):
    """Grey levels, float32 `[N, 64]`, and digits, int64 `[N]`."""

    pixels: npt.NDArray[np.float32]
    digits: npt.NDArray[np.int64]


def seen() -> Images:
    """The images with an even number: for training."""
    pixels, digits = _images()
    return Images(pixels[0::2], digits[0::2])


def unseen() -> Images:
    """The images with an odd number: nights are drawn from these only."""
    pixels, digits = _images()
    return Images(pixels[1::2], digits[1::2])


@cache
def _images() -> Images:
    from sklearn.datasets import load_digits  # noqa: PLC0415  scoring builds the model, and needs no scikit-learn

    data = load_digits()
    return Images(data.data.astype(np.float32), data.target.astype(np.int64))


def write_nights(root: Path, last: date, nights: int) -> None:
    """Write the drops and labelled samples of that many nights, up to `last`, under `root`/digits."""
    for night, day in dates(last, nights):
        random = random_for(day)
        scans = make_night(day, random, noise=noise_of(night))
        deliver(root, "digits", day, scans, label="digit", labelled=random.choice(ROWS, LABELLED_ROWS, replace=False))


def noise_of(night: int) -> float:
    """Standard deviation of the noisy scanner's noise on a night counted from 1, in grey levels."""
    return NOISE_FIRST + NOISE_STEP * (night - NOISE_FROM) if night >= NOISE_FROM else 0.0


def make_night(day: date, random: np.random.Generator, *, noise: float) -> pa.Table:
    """One night's scans: columns id, px_0 … px_63 (uint8), scanner, ink (mean grey level) and digit.

    `noise` is the standard deviation, in grey levels, of what the noisy scanner adds to every pixel.
    """
    images = unseen()
    drawn = random.integers(0, len(images.digits), ROWS)
    scanner = random.integers(0, len(SCANNERS), ROWS)
    exposure = random.uniform(0.9, 1.1, (ROWS, 1))
    sensor = noise * random.standard_normal((ROWS, 64)) * (scanner == SCANNERS.index(NOISY_SCANNER))[:, np.newaxis]
    pixels = np.clip(np.rint(images.pixels[drawn] * exposure + sensor), 0, 16).astype(np.uint8)
    return pa.table(
        {
            "id": ids(day, ROWS),
            **{f"px_{pixel}": pixels[:, pixel] for pixel in range(64)},
            "scanner": np.array(SCANNERS)[scanner],
            "ink": pixels.mean(axis=1),
            "digit": images.digits[drawn],
        }
    )
