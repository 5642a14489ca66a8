"""One server of another project as our child on loopback: started, ready, watched, ended. Standard library only."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from monitoring import dying
from pipelines.errors import BatchgaugeError

HOST = "127.0.0.1"

_READY_SECONDS, _END_SECONDS, _ATTEMPTS = 30.0, 10.0, 5
_TAKEN = "address already in use"  # in the words of every server that is written in Go
_LAST_WORDS = 4000  # characters
_LISTEN = "0A"  # the state in /proc/net/tcp
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerFailed(BatchgaugeError):  # noqa: N818  it says what happened
    """A server did not come up, or has ended; the message has its own output."""


class PortTaken(ServerFailed):
    """A server did not come up because another process listens on its port."""


class Server:
    """A server from `with` to the end of the block: ready when entered, gone when left, killed with us should we be killed.

    `arguments` makes its command line from a port and a folder. Without a `port` it takes a free one, each time it is
    started; without a `folder` it has a temporary one, which goes with it. Its output is in `<name>.log` there, from its
    last start on. `ready` is the page that answers when it is, or None where no page can be asked for.
    """

    def __init__(
        self,
        name: str,
        binary: Path,
        arguments: Callable[[int, Path], Sequence[str]],
        *,
        ready: str | None = "/-/ready",
        port: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self._binary = binary
        self._arguments = arguments
        self._ready = ready
        self._asked_port = port
        self._kept_folder = folder.absolute() if folder else None
        self._temporary: TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self.name = name
        self.port = port or 0
        self.command: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.address}"

    @property
    def ready_url(self) -> str | None:
        """The page that answers when it is ready, if there is one to ask for."""
        return None if self._ready is None else self.url + self._ready

    @property
    def pid(self) -> int | None:
        """Its process; None when it was not started, or was ended by us."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """What it ended with by itself, negative for a signal; None while it runs, or when it was not started."""
        return self._process.poll() if self._process else None

    @property
    def how_it_ended(self) -> str:
        """The same in words; empty while it runs."""
        if self.exit_code is None:
            return ""
        return f"exit code {self.exit_code}" if self.exit_code >= 0 else f"signal {-self.exit_code}"

    @property
    def output(self) -> str:
        """What it has written so far."""
        try:
            return self._log.read_text(errors="replace") if self._log else ""
        except OSError:  # its folder was taken away
            return ""

    @property
    def last_words(self) -> str:
        """The end of what it has written."""
        return self.output[-_LAST_WORDS:].strip() or "(nothing)"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is ready. Raises `ServerFailed` with its output when it isn't in time.

        That is `PortTaken` when it was given a port that another process has.
        """
        failure = self._attempt()
        for _ in range(_ATTEMPTS - 1):
            if self._asked_port or not isinstance(failure, PortTaken):
                break
            failure = self._attempt()
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Ask it to end, then make it end. Does nothing when it isn't running."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._temporary is not None:
            self._temporary.cleanup()
        self._process = self._temporary = None

    def _attempt(self) -> ServerFailed | None:
        with ExitStack() as unless_ready:
            unless_ready.callback(self.stop)
            self._launch()
            if self._becomes_ready():
                unless_ready.pop_all()
                return None
            kind = PortTaken if _TAKEN in self.output else ServerFailed
            why = self.how_it_ended or f"not within {_READY_SECONDS:g} s"
            return kind(f"{self.name} did not become ready on {self.address} ({why}); it said:\n{self.last_words}")

    def _launch(self) -> None:
        self.port = self._asked_port or free_port()
        try:
            folder = self._folder()
            self._log = folder / f"{self.name}.log"
            self.command = (str(self._binary), *self._arguments(self.port, folder))
            self._process = self._started(self._log)
        except OSError as error:
            raise ServerFailed(f"{self.name} can't be started: {error}") from error

    def _started(self, output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as log:
            return subprocess.Popen(
                self.command,
                cwd=self._binary.parent.parent,  # where an unpacked one has its pages
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt at the terminal is ours to handle
                preexec_fn=dying.with_parent(),  # noqa: PLW1509  it makes one system call, no Python that could deadlock
            )

    def _folder(self) -> Path:
        if self._kept_folder is not None:
            self._kept_folder.mkdir(parents=True, exist_ok=True)
            return self._kept_folder
        self._temporary = TemporaryDirectory(prefix=f"batchgauge-{self.name}-")
        return Path(self._temporary.name)

    def _becomes_ready(self) -> bool:
        assert self._process is not None  # `_launch` came first
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if is_up(self.port, self.ready_url) and _owns(self._process.pid, self.port):
                return True
            time.sleep(0.02)
        return False


def free_port(preferred: int = 0) -> int:
    """A loopback port that was free a moment ago: the preferred one if it can be had."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what just closed is no listener
        try:
            listener.bind((HOST, preferred))
            if preferred:
                listener.listen()
        except OSError:
            if not preferred:
                raise
            return free_port()
        port: int = listener.getsockname()[1]
        return port


def is_up(port: int, url: str | None) -> bool:
    """Whether a server answers at `url`, or at least listens on the port where there is no URL to ask."""
    try:
        if url is None:
            socket.create_connection((HOST, port), timeout=1.0).close()
        else:
            _DIRECT.open(url, timeout=1.0).close()
    except (OSError, HTTPException):  # nobody, an error page, or a server of something else than HTTP
        return False
    return True


def _owns(pid: int, port: int) -> bool:
    """Whether it is this process that listens, and not another's server that was quicker to take the port."""
    table = Path(f"/proc/{pid}/net/tcp")
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
        held = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return not Path("/proc/self/net/tcp").exists()  # it has ended; elsewhere than on Linux we take its word
    listening = (row for row in rows if row[3] == _LISTEN and int(row[1].split(":")[1], 16) == port)
    return any(f"socket:[{row[9]}]" in held for row in listening)
