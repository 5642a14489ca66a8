"""The token of a local stack: Alertmanager shows it to the scheduler, which takes alerts from nobody else."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_BYTES = 32


def file(folder: Path) -> Path:
    """Where the stack in that folder has it: among Alertmanager's secrets."""
    return folder / "secrets" / "retrain_token"


def ensure(token_file: Path) -> None:
    """Make one up where there is none; it is for its owner's eyes. Raises `OSError`."""
    token_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as target:
        target.write(secrets.token_hex(_BYTES))
