"""A real PostgreSQL for tests: in a temporary folder, on a free loopback port, as another user where we are root."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

import psutil
import psycopg

from monitoring import dying, servers
from monitoring.server import free_port
from tests.polling import poll

USER, PASSWORD = "batch", "hunter2-of-the-ledger"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # no power is cut here, and what a killed server had written the kernel still has
    "max_connections": "60",
}


class Postgres:
    """A cluster, from `with` to the end of the block. `restart` and `kill` are what happens to servers."""

    def __init__(self, **settings: str) -> None:
        self._settings = _SETTINGS | settings
        self._folder = _folder()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.port = free_port()

    def __enter__(self) -> Self:
        _run("cp", "-a", _empty_cluster(), self._data, folder=self._folder)
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop("immediate")  # nothing is kept, so nothing need be written out
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def log(self) -> str:
        """What the server has said."""
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(servers.find("postgres")), "-D", str(self._data), "-p", str(self.port), *options],
                cwd=self._folder,
                env=_environment(),
                user=_user(),
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=dying.with_parent(),  # noqa: PLW1509  it makes one system call
            )
        poll(self._is_up)

    def stop(self, how: str = "fast") -> None:
        """As its administrator does: `fast` ends sessions, `immediate` is as good as a crash."""
        if self._process is not None:
            self._process.send_signal({"fast": 2, "immediate": 3}[how])
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """Stop all its processes, in the middle of whatever they do; the kernel still answers for them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def url(self, database: str = "postgres", *, user: str = USER, password: str = PASSWORD) -> str:
        """Of a database, with the password in it."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"ledger_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """As the owner, in a connection of its own."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        for process in (postmaster, *postmaster.children()):
            process.send_signal(number)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@cache
def _empty_cluster() -> Path:
    """What every cluster of this process begins as: a copy is made in a tenth of the time."""
    folder = _folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    password = folder / "password"
    password.write_text(PASSWORD)
    shutil.chown(password, _owner())
    data, program = folder / "data", servers.find("postgres").with_name("initdb")
    options = ("-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C", "--no-sync")
    _run(program, "-D", data, *options, folder=folder)
    return data


def _run(*command: object, folder: Path) -> None:
    subprocess.run(list(map(str, command)), cwd=folder, env=_environment(), user=_user(), check=True, capture_output=True)


def _folder() -> Path:
    """A new one, of the user that PostgreSQL runs as."""
    folder = Path(mkdtemp(prefix="batchgauge-postgres-"))
    shutil.chown(folder, _owner())
    return folder


def _owner() -> str:
    return "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _user() -> str | None:
    return _owner() if os.geteuid() == 0 else None


def _environment() -> dict[str, str]:
    """With the libraries that were unpacked beside it, where it is not installed."""
    found = sorted(servers.find("postgres").parents[3].glob("*-linux-gnu*"))
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, found))}
