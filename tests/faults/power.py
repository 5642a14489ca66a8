"""Power that is cut at a named moment of a process's life: what was not flushed by then is lost.

A SIGKILL alone loses nothing that was written: the kernel still has it, and a flush that was forgotten would never be
missed. So the process that dies here first takes away what a disk need not have kept: half of every file whose content
was not flushed, and (with `lose_names`) every entry made, renamed or removed in a folder that was not flushed since.
SQLite flushes by itself: what it said was committed stays.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Connection

from monitoring.ledger.sqlite import SQLiteStore

_WRITING = os.O_WRONLY | os.O_RDWR


class _Entry(NamedTuple):
    """A change of a folder that was not flushed yet, and how to take it back."""

    folder: Path
    undo: Callable[[], object]


class PowerCut:
    """Cuts this process's power at the point that is `number` (from 1), counted over the files in `folder` and the ledger.

    Points lie before every file is made, flushed, renamed or removed, before every folder is made or flushed, and before,
    in and after every transaction. Content that a removed or replaced file had is kept aside in `spare`. The name of the
    point at which it dies, and how many unflushed entries are at stake there, go to the descriptor `said`.
    """

    def __init__(self, folder: Path, spare: Path, number: int, *, said: int, lose_names: bool) -> None:
        self._folder = folder
        self._said = said
        self._spare = spare
        self._left = number
        self._lose_names = lose_names
        self._unflushed: set[Path] = set()
        self._entries: list[_Entry] = []
        self._lock = threading.RLock()  # who dies keeps it, so that no other thread does anything more

    def install(self) -> None:
        """Watch this process from now on. There is no way back: it is a child that ends soon."""
        patch = pytest.MonkeyPatch()
        flush, write = os.fsync, SQLiteStore.write

        def fsync(descriptor: int) -> None:
            with self._lock:
                path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115  it may be gone: no Path.readlink
                self.point(f"flush {path.name}")
                flush(descriptor)
                self._flushed(path)

        @contextmanager
        def transaction(store: SQLiteStore, job: str) -> Iterator[Connection]:
            self.point("begin a transaction")
            with write(store, job) as connection:
                yield connection
                self.point("commit")
            self.point("go on after a commit")

        patch.setattr(os, "fsync", fsync)
        patch.setattr(SQLiteStore, "write", transaction)
        sys.addaudithook(self._hook)

    def point(self, name: str) -> None:
        """Be about to do what `name` says, or die instead."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.write(self._said, f"{name}|{len(self._entries) or ''}".encode())
                self._lose()
                os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait()  # the signal needs a moment

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        handlers: dict[str, Callable[..., None]] = {
            "open": self._open,
            "os.rename": self._rename,
            "os.remove": self._remove,
            "os.mkdir": self._mkdir,
        }
        handler = handlers.get(event)
        if handler is None or self._left <= 0 or not isinstance(arguments[0], str | os.PathLike):
            return
        path = Path(arguments[0])
        if path.is_relative_to(self._folder):
            with self._lock:
                handler(path, *arguments[1:])

    def _open(self, path: Path, _mode: object, flags: object) -> None:
        if isinstance(flags, int) and flags & _WRITING:
            self.point(f"make {path.name}")
            self._unflushed.add(path)
            if not path.exists():
                self._enter(path, lambda: path.unlink(missing_ok=True))

    def _rename(self, path: Path, target: object, *_: object) -> None:
        new = Path(str(target))
        self.point(f"rename to {new.name}")
        if path in self._unflushed:
            self._unflushed.remove(path)
            self._unflushed.add(new)
        kept = self._kept(new)

        def undo() -> None:
            new.replace(path)
            if kept is not None:
                os.link(kept, new)

        self._enter(new, undo)

    def _remove(self, path: Path, *_: object) -> None:
        self.point(f"remove {path.name}")
        kept = self._kept(path)
        if kept is not None:
            self._enter(path, lambda: os.link(kept, path))

    def _mkdir(self, path: Path, *_: object) -> None:
        self.point(f"make folder {path.name}")
        if not path.exists():
            self._enter(path, path.rmdir)

    def _kept(self, path: Path) -> Path | None:
        """The file's content under another name, since its own is about to be another's; None when it has none."""
        if not path.exists():
            return None
        kept = self._spare / str(len(list(self._spare.iterdir())))
        os.link(path, kept)
        return kept

    def _enter(self, path: Path, undo: Callable[[], object]) -> None:
        self._entries.append(_Entry(path.parent, undo))

    def _flushed(self, path: Path) -> None:
        self._unflushed.discard(path)
        self._entries = [entry for entry in self._entries if entry.folder != path]

    def _lose(self) -> None:
        for path in filter(Path.exists, self._unflushed):
            os.truncate(path, path.stat().st_size // 2)
        for entry in reversed(self._entries if self._lose_names else []):
            entry.undo()
