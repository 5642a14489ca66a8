"""A control group of the kernel's in which memory is short, where this machine lets one be made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_FIRST = Path("/sys/fs/cgroup/memory")
_SECOND = Path("/sys/fs/cgroup")


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path | None]:
    """Its folder: a process that writes its number into `cgroup.procs` there gets so much more memory, and no swap.

    None where none can be made: it needs root, and a kernel or a container that passes control groups on.
    """
    parent, limits = (
        (_FIRST, ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")) if _FIRST.is_dir() else (_SECOND, ("memory.max",))
    )
    folder = parent / f"batchgauge-{uuid4().hex}"
    try:
        folder.mkdir()
    except OSError:
        yield None
        return
    try:
        yield folder if _limited(folder, limits, limit_bytes) else None
    finally:
        folder.rmdir()


def kills(folder: Path) -> int:
    """How many of its processes the kernel has ended for want of memory."""
    file = folder / ("memory.oom_control" if (folder / "memory.oom_control").exists() else "memory.events")
    return int(dict(line.split() for line in file.read_text().splitlines())["oom_kill"])


def _limited(folder: Path, limits: tuple[str, ...], limit_bytes: int) -> bool:
    try:
        (folder / limits[0]).write_text(str(limit_bytes))
        for other in limits[1:]:
            if (folder / other).exists():
                (folder / other).write_text(str(limit_bytes))
    except OSError:  # there is no controller of memory here
        return False
    return True
