"""A server that misbehaves in the ways that networks and servers do."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Behaviour = Callable[["FaultServer", socket.socket], None]


class FaultServer:
    """Answers the first connection with the first behaviour, and so on; the last one serves for the rest."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self._behaviours = behaviours
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.closing = threading.Event()
        self.requests: list[bytes] = []

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                connection.settimeout(10.0)
                try:
                    self.requests.append(_request(connection))
                    self._behaviours[min(len(self.requests), len(self._behaviours)) - 1](self, connection)
                except OSError:
                    continue  # the client has gone


def answer(status: str, body: bytes = b"", headers: str = "") -> Behaviour:
    """A whole answer."""

    def behave(_server: FaultServer, connection: socket.socket) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    return behave


def hang(server: FaultServer, connection: socket.socket) -> None:
    """Take the request and say nothing."""
    _until_gone(server, connection, b"")


def trickle(server: FaultServer, connection: socket.socket) -> None:
    """A byte every now and then: each one resets a time-out that is kept per read."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    _until_gone(server, connection, b"x")


def reset(_server: FaultServer, connection: socket.socket) -> None:
    """Close with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut(_server: FaultServer, connection: socket.socket) -> None:
    """A success that breaks off before its end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")


def _until_gone(server: FaultServer, connection: socket.socket, data: bytes) -> None:
    connection.settimeout(0.05)
    while not server.closing.is_set():
        if data:
            connection.sendall(data)
        try:
            if not connection.recv(1):
                return
        except TimeoutError:
            continue


def _request(connection: socket.socket) -> bytes:
    """The request's head, once its body has come too."""
    head, _, body = _received(connection).partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    while length and len(body) < int(length[1]):
        body += _received(connection, until=b"")
    return head


def _received(connection: socket.socket, until: bytes = b"\r\n\r\n") -> bytes:
    data = b""
    while not data or until not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionAbortedError("the client has gone")
        data += chunk
    return data
