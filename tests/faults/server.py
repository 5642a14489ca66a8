"""A server that misbehaves in the ways that networks and servers do."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from monitoring.server import HOST, free_port


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that was received whole, and the connection that waits for its answer until `closing` is set."""

    head: bytes
    body: bytes
    connection: socket.socket
    closing: threading.Event


Behaviour = Callable[[Exchange], None]


class FaultServer:
    """Answers the first connection with the first behaviour, and so on; the last one serves for the rest.

    With `tls` it speaks TLS. `requests` are the heads of what it was asked; `answering` while one is not answered yet.
    """

    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self._behaviours = behaviours
        # A port that is named is kept while it doesn't listen.
        self._listener = socket.create_server((HOST, free_port()))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._closing = threading.Event()
        self.tls = tls
        self.requests: list[bytes] = []
        self.answering = False

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{'https' if self.tls else 'http'}://{HOST}:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.refuse()
        self._listener.close()

    def listen(self) -> None:
        """Take connections, also again after `refuse`, on the same port."""
        self._closing.clear()
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def refuse(self) -> None:
        """Refuse connections from now on; the port stays ours."""
        self._closing.set()
        if self._thread.is_alive():
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
            self._thread.join()

    def behaviour(self) -> Behaviour:
        """How to answer the request that came last."""
        return self._behaviours[min(len(self.requests), len(self._behaviours)) - 1]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                connection.settimeout(10.0)
                try:
                    self._answer(connection)
                except OSError:
                    continue  # the client has gone, or doesn't trust our certificate

    def _answer(self, connection: socket.socket) -> None:
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection:
            connection.settimeout(10.0)
            head, body = _request(connection)
            self.requests.append(head)
            self.answering = True
            try:
                self.behaviour()(Exchange(head, body, connection, self._closing))
            finally:
                self.answering = False


def answer(status: str, body: bytes = b"", headers: str = "") -> Behaviour:
    """A whole answer."""

    def behave(exchange: Exchange) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n"
        exchange.connection.sendall(head.encode() + body)

    return behave


def hang(exchange: Exchange) -> None:
    """Take the request and say nothing."""
    _until_gone(exchange, b"")


def trickle(exchange: Exchange) -> None:
    """A byte every now and then: each one resets a time-out that is kept per read."""
    exchange.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    _until_gone(exchange, b"x")


def reset(exchange: Exchange) -> None:
    """Close with a reset."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut(exchange: Exchange) -> None:
    """A success that breaks off before its end."""
    exchange.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")


def _until_gone(exchange: Exchange, data: bytes) -> None:
    exchange.connection.settimeout(0.05)
    while not exchange.closing.is_set():
        if data:
            exchange.connection.sendall(data)
        try:
            if not exchange.connection.recv(1):
                return
        except TimeoutError:
            continue


def _request(connection: socket.socket) -> tuple[bytes, bytes]:
    """The request's head and its body, once both have come."""
    head, _, body = _received(connection).partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    while length and len(body) < int(length[1]):
        body += _received(connection, until=b"")
    return head, body


def _received(connection: socket.socket, until: bytes = b"\r\n\r\n") -> bytes:
    data = b""
    while not data or until not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionAbortedError("the client has gone")
        data += chunk
    return data
