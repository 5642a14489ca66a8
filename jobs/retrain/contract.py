"""What a training function is given. Imports nothing heavy: a job's model code names `Training`, and is imported to score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Training:
    """The one argument of a job's `retrain.entrypoint`. All paths are absolute.

    The function writes a model file to `candidate`: of the same kind as the champion's (its suffix says which), fitting the
    same factory, for the same classes in the same order. What it returns is ignored, what it prints is logged. To
    give up it raises an error, in words for whoever reads the log.

    It learns from `labelled`, and must not look for labels elsewhere under `root`: the newest labelled days
    (`retrain.judge_days`), and holdouts without `{date}`, are what the candidate is judged on afterwards. None of their
    files is in `labelled`.
    """

    job: str
    root: Path
    """Base of the job's relative paths."""
    logical_date: date
    """The day as of which it is trained: no labelled row is younger."""
    labelled: Mapping[str, tuple[Path, ...]]
    """Labelled Parquet files to learn from, by the name of their holdout, the oldest day first. May be empty."""
    champion: Path
    """A copy of the model in use, to start from or to learn from."""
    candidate: Path
    """Where the new model goes. Its folder is the current folder, empty at first, and removed afterwards."""
    seed: int
    """For all that is random: the same for the same job and date."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the process that trains is told: which function, the job file's folder, and its argument."""

    entrypoint: str
    folder: Path
    training: Training


TASK = TypeAdapter(Task)
