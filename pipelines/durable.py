"""Flushing to disk: what is on it stays, also after a power cut. Errors are the operating system's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


def flush(file: IO[bytes]) -> None:
    """Have all that was written to the file on disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Have the folder's entries on disk: files made, renamed and removed in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """The folder and those above it, each entered durably in its parent."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush_folder(folder.parent)
