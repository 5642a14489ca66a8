"""A proxy in front of a real Pushgateway. The test says when it misbehaves, and how."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext

from monitoring.servers import Server
from tests.faults.server import Behaviour, Exchange, FaultServer, answer, hang, reset, trickle


class FaultProxy(FaultServer):
    """Passes everything on to the gateway, as long as it has no `fault`."""

    def __init__(self, gateway: Server, *, tls: SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self._gateway = gateway
        self.fault: Behaviour | None = None

    def behaviour(self) -> Behaviour:
        """The fault that is set now, else none."""
        return self.fault or self.relay

    def relay(self, exchange: Exchange) -> None:
        """Ask the gateway, and answer what it answers."""
        with self._asked(exchange, exchange.body) as there:
            while chunk := there.recv(65536):
                exchange.connection.sendall(chunk)

    def cut_request(self, exchange: Exchange) -> None:
        """The connection is reset in the middle of the body: the gateway gets half of it."""
        with self._asked(exchange, exchange.body[: len(exchange.body) // 2]):
            pass
        reset(exchange)

    def lose_answer(self, exchange: Exchange) -> None:
        """The gateway takes the push, but nobody learns of it."""
        with self._asked(exchange, exchange.body) as there:
            while there.recv(65536):
                pass
        reset(exchange)

    def restart_gateway(self) -> None:
        """The gateway takes the place of one that has lost its memory."""
        self._gateway.stop()
        self._gateway.start()

    def _asked(self, exchange: Exchange, body: bytes) -> socket.socket:
        there = socket.create_connection(("127.0.0.1", self._gateway.port), timeout=10.0)
        there.sendall(exchange.head + b"\r\nConnection: close\r\n\r\n" + body)
        there.shutdown(socket.SHUT_WR)
        return there


@dataclass(frozen=True, slots=True)
class Fault:
    """How a gateway fails, and the words about it that a person must see."""

    name: str
    words: str
    begin: Callable[[FaultProxy], None]

    def __str__(self) -> str:
        return self.name


def _behaving(name: str, words: str, behaviour: Callable[[FaultProxy], Behaviour]) -> Fault:
    def begin(proxy: FaultProxy) -> None:
        proxy.fault = behaviour(proxy)

    return Fault(name, words, begin)


def heal(proxy: FaultProxy) -> None:
    """End the fault, whichever it was."""
    proxy.refuse()
    proxy.fault = None
    proxy.listen()


FAULTS = (
    Fault("refuse", "Connection refused", FaultProxy.refuse),
    _behaving("reset in the middle of the body", "no answer", lambda proxy: proxy.cut_request),
    _behaving("answer lost", "no answer", lambda proxy: proxy.lose_answer),
    _behaving("500", "HTTP 500: out of order", lambda _: answer("500 Oops", b"out of order")),
    _behaving("502", "HTTP 502: nobody behind", lambda _: answer("502 Bad Gateway", b"nobody behind")),
    _behaving("400", "HTTP 400: cannot parse", lambda _: answer("400 Bad Request", b"cannot parse")),
    _behaving("413", "HTTP 413: too much", lambda _: answer("413 Too Large", b"too much")),
    _behaving("hang", "no whole answer", lambda _: hang),
    _behaving("one byte at a time", "no whole answer", lambda _: trickle),
)
"""All but a wrong certificate, which needs a proxy that speaks TLS."""
