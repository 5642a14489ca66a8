"""Real Prometheus servers on loopback, for the demo, the tests and a local stack: finding, installing, starting them.

`python -m monitoring.servers install FOLDER` unpacks Debian's packages there; no root is needed, nothing is
started and nothing outside the folder changes. Standard library only: it may run before anything is installed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from types import TracebackType
from typing import IO, Self

from monitoring import dying, packages
from monitoring.packages import MissingServer, install
from pipelines.errors import BatchgaugeError

__all__ = [
    "MissingServer",
    "Server",
    "ServerFailed",
    "alertmanager",
    "find",
    "install",
    "node_exporter",
    "prometheus",
    "pushgateway",
]

_READY_SECONDS, _TERM_SECONDS, _ATTEMPTS = 30.0, 5.0, 5
_TOOLS = Path(__file__).resolve().parent.parent / ".batchgauge" / "tools"
_LISTEN = "0A"  # the state in /proc/net/tcp
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def find(name: str, *, tools: Path | None = None) -> Path:
    """A server's binary, by upstream's or Debian's name: on PATH, else in `tools`.

    `tools` is by default what the variable `BATCHGAUGE_TOOLS` names, else `.batchgauge/tools` beside the code.
    Raises `MissingServer` with the command that installs it.
    """
    return packages.find(name, tools or Path(os.environ.get("BATCHGAUGE_TOOLS") or _TOOLS))


class ServerFailed(BatchgaugeError):  # noqa: N818  it says what happened
    """A server did not come up; the message has its own output."""


class Server:
    """A server on a free loopback port, from `with` to the end of the block: ready when entered, gone when left.

    `arguments` makes its command line for a port. It is killed with us should we be killed. `folder` is a
    temporary one that goes with it, for its data.
    """

    def __init__(
        self,
        name: str,
        arguments: Callable[[int, Path], Sequence[str]],
        *,
        ready: Callable[[int], bool] | None = None,
        tools: Path | None = None,
    ) -> None:
        self._binary = find(name, tools=tools)
        self._ready = ready or _says_ready
        self._arguments = arguments
        self._output: IO[bytes] | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.name = name
        self.port = 0

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """What it has written so far."""
        if self._output is None:
            return ""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is ready. Raises `ServerFailed` with its output when it isn't in time."""
        output = ""
        for _ in range(_ATTEMPTS):
            self._launch()
            if self._becomes_ready():
                return
            output = self.output
            self.stop()
            if "address already in use" not in output:
                break
        raise ServerFailed(f"{self.name} did not become ready within {_READY_SECONDS:g} s; it said:\n{output[-4000:]}")

    def stop(self) -> None:
        """Ask it to end, then make it end. Does nothing when it isn't running."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_TERM_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._output is not None:
            self._output.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._process = self._output = self._folder = None

    def _launch(self) -> None:
        self.port = _free_port()
        self._folder = TemporaryDirectory(prefix=f"batchgauge-{self.name}-")
        self._output = TemporaryFile()  # noqa: SIM115  closed by `stop`
        command = [str(self._binary), *self._arguments(self.port, Path(self._folder.name))]
        self._process = subprocess.Popen(
            command,
            cwd=self._binary.parent.parent,  # where an unpacked one has its pages
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt at the terminal is ours to handle
            preexec_fn=dying.with_parent(),  # noqa: PLW1509  it makes one system call, no Python that could deadlock
        )

    def _becomes_ready(self) -> bool:
        assert self._process is not None  # `_launch` came first
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._ready(self.port) and _owns(self._process.pid, self.port):
                return True
            time.sleep(0.02)
        return False


def _says_ready(port: int) -> bool:
    try:
        with _DIRECT.open(f"http://127.0.0.1:{port}/-/ready", timeout=1.0):
            return True
    except OSError:  # urllib's errors are such too
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
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


def pushgateway(*, persistence: Path | None = None, web_config: Path | None = None, tools: Path | None = None) -> Server:
    """A Pushgateway. It keeps what it holds in the file `persistence`, or in memory only."""

    def arguments(port: int, _folder: Path) -> list[str]:
        # Debian's package persists to a file of its own unless told otherwise.
        listed = [f"--web.listen-address=127.0.0.1:{port}", f"--persistence.file={persistence or ''}"]
        return [*listed, *([f"--web.config.file={web_config}"] if web_config else [])]

    # With TLS or a password it can't be asked whether it is ready.
    return Server("pushgateway", arguments, ready=_listens if web_config else None, tools=tools)


def prometheus(
    *,
    scrape: Mapping[str, str],
    interval: str = "1s",
    rules: Sequence[Path] = (),
    alertmanager: str | None = None,
    tools: Path | None = None,
) -> Server:
    """A Prometheus that scrapes each job's target (`host:port`), with `honor_labels` as a Pushgateway needs.

    Alerts go to the Alertmanager at `alertmanager` (`host:port`), if there is one.
    """
    configuration = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [target]}]} for job, target in scrape.items()
        ],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []},
    }

    def arguments(port: int, folder: Path) -> list[str]:
        file = folder / "prometheus.yml"
        file.write_text(json.dumps(configuration))  # JSON is YAML
        return [f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]

    return Server("prometheus", arguments, tools=tools)


def alertmanager(*, config: Path, tools: Path | None = None) -> Server:
    """An Alertmanager of its own, in no cluster, with the configuration file `config`."""

    def arguments(port: int, folder: Path) -> list[str]:
        address = f"--web.listen-address=127.0.0.1:{port}"
        return [f"--config.file={config}", f"--storage.path={folder / 'data'}", address, "--cluster.listen-address="]

    return Server("alertmanager", arguments, tools=tools)


def node_exporter(*, tools: Path | None = None) -> Server:
    """A node_exporter: this machine's own metrics."""

    def arguments(port: int, _folder: Path) -> list[str]:
        return [f"--web.listen-address=127.0.0.1:{port}"]

    return Server("node_exporter", arguments, ready=_listens, tools=tools)


def _free_port() -> int:
    """A port that was free a moment ago; should somebody take it first, `Server.start` tries another."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit code: 0 installed, 1 not (and why, in plain words), 2 usage."""
    if len(arguments) != len(("install", "FOLDER")) or arguments[0] != "install":
        sys.stderr.write("usage: python -m monitoring.servers install FOLDER\n")
        return 2
    try:
        install(Path(arguments[1]), say=lambda line: print(line, flush=True))  # noqa: T201  it is a command
    except MissingServer as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
