"""What two models are compared on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pipelines.finding import InputFile
from pipelines.settings import HoldoutSettings


@dataclass(frozen=True, slots=True)
class Exam:
    """A holdout, and the files of it that the models are asked about: a group for each day, the newest first.

    `newest` is that day; None for a holdout without dates, all of whose files are one group.
    """

    holdout: HoldoutSettings
    days: tuple[tuple[InputFile, ...], ...]
    newest: date | None = None
