"""Pages that cost something to make: one is made at a time, and the last few are kept for a moment."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Page = TypeVar("Page")


class Shelf(Generic[Page]):
    """Keeps at most `room` pages, each for at most `seconds` by `now` (Unix seconds). Safe from several threads.

    Whoever asks for a page that is being made waits, and gets that one: a crowd costs no more than its first.
    """

    def __init__(self, *, room: int, seconds: float, now: Callable[[], float]) -> None:
        self._room = room
        self._seconds = seconds
        self._now = now
        self._lock = threading.Lock()
        self._pages: OrderedDict[Hashable, tuple[float, Page]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Page]) -> Page:
        """The page of that key, as it is kept, or made now. What `make` raises is raised, and nothing is kept."""
        with self._lock:
            kept = self._pages.get(key)
            if kept is not None and 0 <= self._now() - kept[0] <= self._seconds:
                return kept[1]
            page = make()
            self._pages[key] = (self._now(), page)
            self._pages.move_to_end(key)
            while len(self._pages) > self._room:
                self._pages.popitem(last=False)
            return page
