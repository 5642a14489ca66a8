"""Python's garbage collector while a command starts.

Imports make a million objects that stay: looking for garbage among them, again and again as they grow, is in vain, and takes
longer than all that batchgauge itself does in a small run.
"""

from __future__ import annotations

import gc

_USUAL = gc.get_threshold()
_SELDOM = (100_000, 50, 50)


def rest() -> None:
    """Look seldom, and hardly ever at what is old. Good for a command that is over soon."""
    gc.set_threshold(*_SELDOM)


def resume() -> None:
    """Look as Python does by itself, but never again at what is there by now. For what runs long, once all is imported."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
