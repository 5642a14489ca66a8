"""An application on a port, in a thread of its own: uvicorn, with bounds on what a client may hold."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.errors import BatchgaugeError, SpecError

HEAD_SECONDS = 5.0
"""How long a request's head may take to come."""
CONNECTION_SECONDS = 60.0
"""How long a connection may last, from first to last: whoever is slower, in sending or in reading, is cut off."""
MOST_CONNECTIONS = 200
"""More at once are closed at once: files that are open are needed to start runs, too."""

_LARGEST_HEAD_BYTES = 16 * 1024
_END_SECONDS = 5
_MAX_PORT = 65_535

logging.getLogger("uvicorn").addHandler(logging.NullHandler())  # the scheduler has a log of its own


class ServerError(BatchgaugeError):
    """The pages can't be served."""


class _Connection(H11Protocol):
    """A connection that ends, whatever the other side does. It is for one request: see `guard`."""

    _ends: tuple[asyncio.TimerHandle, ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its base
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._ends = (
                self.loop.call_later(HEAD_SECONDS, self._end_without_a_request),
                self.loop.call_later(CONNECTION_SECONDS, transport.abort),
            )

    def connection_lost(self, exc: Exception | None) -> None:
        for end in self._ends:
            end.cancel()
        super().connection_lost(exc)

    def _end_without_a_request(self) -> None:
        if self.cycle is None:
            self.transport.abort()


@contextmanager
def serving(application: ASGIApp, listener: socket.socket) -> Iterator[str]:
    """Serve there while inside; the base URL is given. Requests in progress at the end have a few seconds to be answered.

    Raises `ServerError` when it doesn't come up.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_LARGEST_HEAD_BYTES,
            timeout_graceful_shutdown=_END_SECONDS,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    if not server.started:
        raise ServerError(f"the server for {_name(listener)} did not come up")
    try:
        yield f"http://{_name(listener)}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A socket that listens on `host:port` (port 0: any that is free). Raises `SpecError` when it can't."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(_bare(host), _checked(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, target = found[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, ValueError) as error:
        raise _cannot(address, error) from error
    with closing(listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a restart the old connections are no obstacle
        try:
            listener.bind(target)
            listener.listen(MOST_CONNECTIONS)
        except OSError as error:
            raise _cannot(address, error) from error
        yield listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ip_address(_host(listener)).is_loopback


def _cannot(address: str, error: Exception) -> SpecError:
    return SpecError(f"can't listen on {address!r} ({error}); give --listen HOST:PORT, or '' to serve nowhere")


def _bare(host: str) -> str:
    """`[::1]` without its brackets. No host would mean every interface, which must be asked for by its name."""
    if not host:
        raise ValueError("there is no host in it")
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _checked(port: str) -> int:
    if not port.isdecimal() or int(port) > _MAX_PORT:  # the resolver would take it modulo 65,536
        raise ValueError(f"{port!r} is no port")
    return int(port)


def _host(listener: socket.socket) -> str:
    address: Any = listener.getsockname()
    return str(address[0])


def _name(listener: socket.socket) -> str:
    host, port = _host(listener), listener.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
