"""How the C library's allocator treats what kernels free: an engine's threads allocate the same blocks again and again."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 2**30
_LARGEST_BYTES = 2**25
"""glibc's upper limit for the second."""


@cache
def keep_freed_memory() -> None:
    """Have freed memory kept by the process, for the next batch, instead of given back to the system.

    glibc gives blocks of a few hundred kB back at once, as activations are, and gets them again page by page, zeroed, under
    one lock for all threads: measured, forward of 4,096 rows by two threads took up to 2.5 times as long. What is kept
    is bounded by what was in use at once. Other C libraries have no such switch, and are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
