"""Children that die with us, however we die."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """What a child calls before it becomes another program, so that the kernel ends it when the starting thread ends.

    By this signal. None where the kernel can't (it is Linux's own): the child is then ended only by those who remember to.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def call() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return call
