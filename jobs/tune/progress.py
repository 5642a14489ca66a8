"""Saying on stderr what is measured now: a line that changes on a terminal, a line for each step elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


@contextmanager
def watching(job: str, console: Console) -> Iterator[Callable[[str, str], None]]:
    """What is to be told each step, and what it is done with."""
    if console.is_terminal:
        with console.status(Text(f"{job}: starting")) as status:
            yield lambda step, detail: status.update(Text(f"{job}: {step}{': ' if detail else ''}{detail}"))
        return
    told: list[str] = []

    def tell(step: str, _detail: str) -> None:
        if step not in told:
            told.append(step)
            print(f"{job}: {step}", file=console.file, flush=True)

    yield tell
