"""The example job `digits`: which digit is on an 8×8 scan. How its nights are made is in README.md.

`build` and `train` are all that a job needs; the rest makes the first model and the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from jobs.examples.nights import dates, deliver, ids, random_for, save
from jobs.retrain import Training

SEED = 7
EPOCHS = 30
BATCH_ROWS = 32
RETRAIN_EPOCHS = 12
RETRAIN_BATCH_ROWS = 64
NIGHTS_LEARNED_FROM = 7
"""The noise grows, so what was long ago says little."""

ROWS = 1_500
LABELLED_ROWS = 600
SCANNERS = ("a", "b", "c")
NOISY_SCANNER = "c"
NOISE_FROM = 18
"""The night, counted from 1, on which the noisy scanner begins to fail."""
NOISE_TO = 24
"""The night from which on it gets no worse."""
NOISE_FIRST = 4.0
NOISE_STEP = 0.5
"""Standard deviation of its noise in grey levels (a scan has 0 to 16): on the first night, and what each further one adds."""


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


def train(training: Training) -> None:
    """What `retrain.entrypoint` names: go on from the champion, with the original images and the labelled nights of late."""
    torch.set_num_threads(1)  # of a process of its own; a second one gains nothing with batches this small
    nights = [_night(file) for file in training.labelled["labelled"][-NIGHTS_LEARNED_FROM:]]
    champion = load_file(training.champion)
    model = fit(
        joined([seen(), *nights]), epochs=RETRAIN_EPOCHS, batch_rows=RETRAIN_BATCH_ROWS, seed=training.seed, start=champion
    )
    save(model, training.candidate)


def train_first(root: Path) -> float:
    """By hand, before the first night: train on one half of the images, write `models/digits.safetensors`.

    Returns the accuracy on the other half.
    """
    model = fit(seen(), epochs=EPOCHS, batch_rows=BATCH_ROWS, seed=SEED)
    save(model, root / "models" / "digits.safetensors")
    return accuracy(model)


def fit(
    images: Images, *, epochs: int, batch_rows: int, seed: int, start: Mapping[str, torch.Tensor] | None = None
) -> nn.Module:
    """A model trained on the images, from the weights `start` on if there are any, and ready to predict.

    The caller's own random state is left alone.
    """
    pixels, digits = (torch.from_numpy(array) for array in images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().train()
        if start is not None:
            model.load_state_dict(start)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(pixels)), batch_rows):
                optimizer.zero_grad()
                torch.autograd.backward(cross_entropy(model(pixels[rows]), digits[rows]))
                optimizer.step()
    return model.eval()


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


def joined(images: Sequence[Images]) -> Images:
    """All of them, in order."""
    return Images(np.concatenate([one.pixels for one in images]), np.concatenate([one.digits for one in images]))


def _night(file: Path) -> Images:
    """A labelled sample."""
    table = pq.read_table(file, partitioning=None)
    pixels = np.stack([table[f"px_{pixel}"].to_numpy() for pixel in range(64)], axis=1)
    return Images(pixels.astype(np.float32), table["digit"].to_numpy().astype(np.int64))


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
        write_night(root, day, night)


def write_night(root: Path, day: date, night: int) -> None:
    """Write one drop and its labelled sample. `night`, counted from 1, says how noisy it is."""
    random = random_for(day)
    scans = make_night(day, random, noise=noise_of(night))
    deliver(root, "digits", day, scans, label="digit", labelled=random.choice(ROWS, LABELLED_ROWS, replace=False))


def noise_of(night: int) -> float:
    """Standard deviation of the noisy scanner's noise on a night counted from 1, in grey levels."""
    return NOISE_FIRST + NOISE_STEP * (min(night, NOISE_TO) - NOISE_FROM) if night >= NOISE_FROM else 0.0


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
