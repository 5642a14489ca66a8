"""`batchgauge stack`: the servers on this machine, started and watched over, looked at, and ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs.environment import Environment
from monitoring import stack_record, stack_token
from monitoring.stack import DEFAULT_PORTS, Stack, Target, targets
from monitoring.stack_record import Record, ServerRecord, StackError

_LOOK_SECONDS = 0.5
_LOG = "stack.log"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Say = Callable[[str], None]


def default_folder(environment: Environment) -> Path:
    """The folder `stack` beside the ledger."""
    return environment.folder / "stack"


@dataclass(frozen=True, slots=True)
class Status:
    """What can be seen of a stack from outside. Without a record none runs."""

    folder: Path
    record: Record | None
    killed: bool = False
    up: tuple[bool, ...] = ()
    targets: tuple[Target, ...] = ()

    @property
    def well(self) -> bool:
        """Whether it runs, was ready once, and every server answers."""
        return self.record is not None and self.record.ready and all(self.up)

    def document(self) -> dict[str, Any]:
        """For a machine."""
        servers = zip(self.record.servers, self.up, strict=True) if self.record else ()
        return {
            "folder": str(self.folder),
            "running": self.record is not None,
            "ready": self.record is not None and self.record.ready,
            "pid": self.record.pid if self.record else None,
            "servers": [{"name": server.name, "url": server.url, "pid": server.pid, "up": up} for server, up in servers],
            "targets": [asdict(target) for target in self.targets],
        }


def up(folder: Path, *, interval: str, textfiles: Path | None, say: Say, show: Callable[[Status], None]) -> None:
    """Start the stack, show it, and watch over it until a signal comes. Raises when it can't start, or a server ends."""
    with _interruptible() as asked, Stack(folder, interval=interval, textfiles=textfiles) as stack:
        if stack.leftover:
            say(f"the stack of process {stack.leftover.pid} was killed here; what it left is cleared away")
        show(status(folder))
        while not asked.to_end:
            stack.check()
            time.sleep(_LOOK_SECONDS)
    say(f"the stack in {folder} has ended; its data is kept")


class _Asked:
    """Whether a signal has asked us to end."""

    to_end = False


@contextmanager
def _interruptible() -> Iterator[_Asked]:
    """Inside, the first signal interrupts whatever goes on, and the block ends well; later ones change nothing.

    A hangup that is ignored stays so: `nohup` means it.
    """
    asked = _Asked()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not asked.to_end:
            asked.to_end = True
            raise KeyboardInterrupt

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heard = _SIGNALS if nohup else (*_SIGNALS, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield asked
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up_detached(folder: Path, *, interval: str, textfiles: Path | None) -> Status:
    """Start the stack in a process of its own that stays, and wait until it is ready. Raises `StackError` with its words."""
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / _LOG).open("ab")
    except OSError as error:
        raise stack_record.unusable(folder, error) from error
    options = ["--folder", str(folder), "--scrape-interval", interval, *(["--textfiles", str(textfiles)] if textfiles else [])]
    with log:
        began = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "jobs.cli", "stack", "up", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with ExitStack() as unless_ready:
        unless_ready.callback(process.terminate)
        while process.poll() is None:
            record = stack_record.read(folder)
            if record is not None and record.pid == process.pid and record.ready:
                unless_ready.pop_all()
                return status(folder)
            time.sleep(0.05)
    said = (folder / _LOG).read_bytes()[began:].decode(errors="replace").strip()
    raise StackError(said.removeprefix("error: ") or f"the stack ended with exit code {process.returncode}")


def down(folder: Path) -> str:
    """End the folder's stack and wait until it has. Returns what was done."""
    if stack_record.is_running(folder):
        stack_record.end(folder)
        return f"the stack in {folder} has ended; its data is kept"
    if not folder.is_dir():
        return f"no stack runs in {folder}"
    with stack_record.locked(folder):
        left = stack_record.end_leftovers(folder)
    return f"no stack runs in {folder}" + (f"; what the killed process {left.pid} left is cleared away" if left else "")


def status(folder: Path) -> Status:
    """The folder's stack as it is now."""
    running = stack_record.is_running(folder)
    record = stack_record.read(folder)  # after the lock: a stack that ends in between takes its record with it
    if not running:
        return Status(folder, None, killed=record is not None)
    record = record or Record(pid=0)
    try:
        scraped = targets(record.server("prometheus").url)
    except StackError:  # it is not ready yet, or its Prometheus is down: the table says so
        scraped = []
    return Status(folder, record, up=tuple(server.is_up() for server in record.servers), targets=tuple(scraped))


def status_table(status: Status) -> Group:
    """A stack, for a person: servers, targets."""
    if status.record is None:
        why = " (the last one was killed)" if status.killed else ""
        log = status.folder / _LOG
        said = (Text(f"the last one in the background has ended, what it said is in {log}"),) if log.exists() else ()
        up = stack_record.command("up", status.folder)
        return Group(Text(f"no stack runs in {status.folder}{why}; '{up}' starts one"), *said)
    state = f"process {status.record.pid}" + ("" if status.record.ready else ", not ready yet")
    heading = f"stack in {status.folder}, {state if status.record.pid else 'just starting or ending'}"
    ours = {server.url.removeprefix("http://") for server in status.record.servers}
    scraped = _table("scrape job", "target", "health", "")
    for target in status.targets:
        foreign = "" if target.address in ours else "not of this stack; "
        health = Text(target.health, style="dim") if foreign else _health(target.health)
        scraped.add_row(target.job, target.address, health, Text((foreign + target.error).removesuffix("; "), style="dim"))
    servers = _table("server", "address", "", "")
    for server, is_up in zip(status.record.servers, status.up, strict=True):
        servers.add_row(server.name, server.url, _health("up" if is_up else "down"), Text(_moved(server), style="dim"))
    return Group(Text(heading), Text(), servers, *((Text(), scraped) if status.targets else ()))


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for header in headers:
        table.add_column(header)
    return table


def _health(health: str) -> Text:
    return Text(health, style={"up": "green", "down": "bold red"}.get(health, "yellow"))


def _moved(server: ServerRecord) -> str:
    usual = DEFAULT_PORTS[server.name]
    return "" if server.port == usual else f"port {usual} is taken by another process"


def next_steps(status: Status) -> str:
    """What a person does now."""
    record = status.record
    if record is None:
        return ""
    return f"""
What to do now:

  export BATCHGAUGE_GATEWAY={record.server("pushgateway").url}
  batchgauge run SPEC     or 'batchgauge push', for the jobs that the ledger knows already

  export BATCHGAUGE_ALERTS_TOKEN_FILE={stack_token.file(status.folder)}
  batchgauge schedule SPEC…     runs them when they are due, and trains a model again when an alert asks for it

  and look at {record.server("prometheus").url}

The configuration, with these addresses put in, is in {status.folder / "config"}.
"""
