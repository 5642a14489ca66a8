"""Putting reports on stdout, whatever stdout is: a terminal, a log, a pipe that broke, nothing at all."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

import typer

from jobs.foreign import harmless
from pipelines.errors import BatchgaugeError

if TYPE_CHECKING:
    from rich.console import RenderableType


class PrintingError(BatchgaugeError):
    """Stdout can't be written, for example because its disk is full."""


_NO_WRAPPING = 1000  # columns: wrapped lines cut a log into pieces


def replace_unprintable() -> None:
    """A terminal or log that knows ASCII only gets `?` for the rest, and never ends a good run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(words: str, *, err: bool = True) -> None:
    """A message for a person. Other people's words in it can't steer the terminal."""
    typer.echo(harmless(words), err=err)


def show(table: RenderableType, document: object, *, as_json: bool) -> None:
    """Print a report: the table for a person, or the document as JSON. Raises `PrintingError`."""
    if as_json:
        show_json(document)
    elif sys.stdout is not None:  # None: closed by whoever started us
        _write(_rendered(table))


def show_json(document: object) -> None:
    """Print a document as JSON. NaN and infinity can't be in it: they are not JSON. Raises `PrintingError`."""
    if sys.stdout is not None:
        _write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def kept_for_the_report() -> Iterator[None]:
    """While inside, what anybody prints goes to stderr, from Python, C or a process of theirs: stdout is for the report."""
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):
        if not (_leads_to(stdout, 1) and _leads_to(sys.stderr, 2)):  # closed, or put elsewhere: there is nothing to keep
            yield
            return
        stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        try:
            yield
        finally:
            _flush(stdout)
            os.dup2(kept, 1)
            os.close(kept)


def _leads_to(stream: TextIO | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (OSError, ValueError):  # it is no file, or closed
        return False


def _flush(stdout: TextIO) -> None:
    """What Python's and C's buffers still hold belongs to where the descriptor leads now."""
    with suppress(OSError, ValueError):
        stdout.flush()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)


def _rendered(table: RenderableType) -> str:
    from jobs.console import Console  # noqa: PLC0415  --help must be quick

    terminal, text = sys.stdout.isatty(), StringIO()
    width = shutil.get_terminal_size().columns if terminal else _NO_WRAPPING
    # A job's words are no markup.
    Console(file=text, force_terminal=terminal, width=width, highlight=False, markup=False, emoji=False).print(table)
    return text.getvalue()


def show_bytes(body: bytes) -> None:
    """Print what has an encoding of its own, whatever the terminal's. Raises `PrintingError`."""
    if sys.stdout is not None:
        with _pipes_may_break():
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()


def _write(text: str) -> None:
    with _pipes_may_break():
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def _pipes_may_break() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter fails on it again at its end
        if not isinstance(error, BrokenPipeError):  # a reader that has seen enough is no error
            raise PrintingError(f"the report could not be printed: {error.strerror}") from error
