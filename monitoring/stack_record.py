"""A stack as it is written down in its folder, for those who look at it, or end it, from outside.

The lock says whether the stack runs, the record says what it consists of. A stack that was killed leaves its record:
the kernel has freed its lock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

import psutil
from filelock import FileLock, Timeout

from monitoring.server import Server, is_up
from pipelines.errors import BatchgaugeError

_FILE, _LOCK = "stack.json", "stack.lock"
_END_SECONDS = 60.0  # each server is given its time, one after the other


class StackError(BatchgaugeError):
    """The stack can't be started, is there already, or has ended by itself."""


class StackRuns(StackError):  # noqa: N818  it reports a state, not a failure
    """A stack runs in this folder already."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One server: where it listens, which page says that it is ready, and its process."""

    name: str
    port: int
    url: str
    ready_url: str | None
    pid: int
    command: tuple[str, ...]

    def is_up(self) -> bool:
        """Whether it answers now."""
        return is_up(self.port, self.ready_url)


@dataclass(frozen=True, slots=True)
class Record:
    """A stack: the process that watches over it and its command line, its servers, and whether all of them were ready."""

    pid: int
    ready: bool = False
    servers: tuple[ServerRecord, ...] = ()
    command: tuple[str, ...] = ()

    def server(self, name: str) -> ServerRecord:
        """The server of that name. Raises `StackError` when there is none (yet)."""
        for server in self.servers:
            if server.name == name:
                return server
        raise StackError(f"the stack of process {self.pid} has no {name} yet: wait until it is ready")


def ours(servers: Iterable[Server] = (), *, ready: bool = False) -> Record:
    """The stack that this process watches over, as it is written down."""
    return Record(os.getpid(), ready, tuple(map(recorded, servers)), tuple(psutil.Process().cmdline()))


def recorded(server: Server) -> ServerRecord:
    """A server that was started, as it is written down."""
    return ServerRecord(server.name, server.port, server.url, server.ready_url, server.pid or 0, server.command)


def write(folder: Path, record: Record) -> None:
    """Replace the record in one step."""
    aside = folder / f".{_FILE}.tmp"
    aside.write_text(json.dumps(asdict(record)), encoding="utf-8")
    aside.replace(folder / _FILE)


def read(folder: Path) -> Record | None:
    """The record; None when there is none, or none that can be understood (then it is of no use to anyone)."""
    try:
        said = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        servers = tuple(ServerRecord(**{**server, "command": tuple(server["command"])}) for server in said["servers"])
        return Record(said["pid"], said["ready"], servers, tuple(said["command"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remove(folder: Path) -> None:
    """Delete the record, if there is one."""
    (folder / _FILE).unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the folder's lock, which says that its stack runs. Raises `StackRuns` when it isn't free in time."""
    lock = FileLock(folder / _LOCK, fallback_to_soft=False)  # a soft lock outlives a holder that dies
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait_seconds, poll_interval=0.05)
    except Timeout as error:
        raise StackRuns(f"a stack runs in {folder} already ({_whose(folder)}); '{command('down', folder)}' ends it") from error
    except OSError as error:
        raise unusable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def command(verb: str, folder: Path) -> str:
    """What to type to have that done with the stack of this folder."""
    return f"batchgauge stack {verb} --folder {quote(str(folder))}"


def unusable(folder: Path, error: OSError) -> StackError:
    """The error for a folder that can't be used, and what to do."""
    at = f" at {error.filename}" if error.filename and error.filename != str(folder) else ""
    return StackError(f"folder {folder} can't be used ({error.strerror}{at}): name another, or mend that")


def is_running(folder: Path) -> bool:
    """Whether somebody holds the folder's lock."""
    if not (folder / _LOCK).exists():
        return False
    try:
        with locked(folder):
            return False
    except StackRuns:
        return True


def _whose(folder: Path) -> str:
    record = read(folder)
    return f"process {record.pid}" if record else "it is just starting or ending"


def end(folder: Path) -> None:
    """Ask the folder's stack to end, and wait until it has. Raises `StackError` when it doesn't."""
    record = read(folder)
    process = _process(record) if record else None
    if record is None or process is None:  # the record may be that of a stack that was killed
        raise StackError(f"a stack is just starting or ending in {folder}: try again in a moment")
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        pass  # it is ending
    except psutil.AccessDenied as error:
        raise StackError(f"process {record.pid} of the stack in {folder} is another user's: end it as that user") from error
    try:
        with locked(folder, wait_seconds=_END_SECONDS):
            pass
    except StackRuns as error:
        raise StackError(f"process {record.pid} has not ended the stack within {_END_SECONDS:g} s: look at it") from error


def end_leftovers(folder: Path) -> Record | None:
    """End the servers of a stack that was killed; for the holder of the lock. Returns that stack, if there was one."""
    record = read(folder)
    if record is None:
        return None
    left = [process for server in record.servers if (process := _process(server))]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=_END_SECONDS / 4)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=_END_SECONDS / 4)
    remove(folder)
    return record


def _process(written: Record | ServerRecord) -> psutil.Process | None:
    """The process that was written down, unless that number is another's by now."""
    try:
        process = psutil.Process(written.pid)
        return process if tuple(process.cmdline()) == written.command else None
    except psutil.Error:
        return None
