"""Putting reports on stdout, whatever stdout is: a terminal, a log, a pipe that broke, nothing at all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

_NO_WRAPPING = 1000  # columns: wrapped lines cut a log into pieces


def replace_unprintable() -> None:
    """A terminal or log that knows ASCII only gets `?` for the rest, and never ends a good run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def show(table: RenderableType, document: object, *, as_json: bool) -> None:
    """Print a report: the table for a person, or the document as JSON. Nothing, where there is no stdout."""
    if as_json:
        show_json(document)
    elif sys.stdout is not None:
        sys.stdout.write(_rendered(table))


def show_json(document: object) -> None:
    """Print a document as JSON. NaN and infinity can't be in it: they are not JSON."""
    if sys.stdout is not None:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _rendered(table: RenderableType) -> str:
    from rich.console import Console  # noqa: PLC0415  --help must be quick

    # A job's words are no markup. Captured, since rich answers a broken pipe by ending the process with 1.
    width = None if sys.stdout.isatty() else _NO_WRAPPING
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as printed:
        console.print(table)
    return printed.get()


@contextmanager
def may_fail() -> Iterator[None]:
    """A full disk, or a reader that went away, can't change what the command's exit code says."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter fails on it once more when it ends
        sys.stderr.write(f"warning: the report could not be printed: {error.strerror}; 'batchgauge history' has it\n")
