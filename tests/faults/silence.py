"""A network that goes silent: what is sent is on its way, nothing arrives, and no connection is closed."""

from __future__ import annotations

import select
import socket
import threading
from types import TracebackType
from typing import Self

from monitoring.server import HOST, free_port


class SilentProxy:
    """Passes on what is sent to a port of this machine, both ways. The kernel takes connections also while it is silent."""

    def __init__(self, port: int) -> None:
        self._there = port
        self._listener = socket.create_server((HOST, free_port()))
        self._peers: dict[socket.socket, socket.socket] = {}
        self._wakes, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._silent = False
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._wake.close()
        self._thread.join()
        for one in (self._wakes, self._listener, *self._peers):
            one.close()

    def fall_silent(self) -> None:
        """Let nothing arrive any more."""
        self._silent = True
        self._wake.send(b"!")

    def heal(self) -> None:
        """Let everything arrive, also what was sent meanwhile."""
        self._silent = False
        self._wake.send(b"!")

    def _serve(self) -> None:
        while True:
            watched = [self._wakes] if self._silent else [self._wakes, self._listener, *self._peers]
            for one in select.select(watched, [], [])[0]:
                if one is self._wakes:
                    if not one.recv(1):
                        return
                elif one is self._listener:
                    self._accept()
                elif one in self._peers:
                    self._pass_on(one)

    def _accept(self) -> None:
        here, _ = self._listener.accept()
        there = socket.create_connection((HOST, self._there))
        self._peers |= {here: there, there: here}

    def _pass_on(self, one: socket.socket) -> None:
        try:
            data = one.recv(65536)
            self._peers[one].sendall(data)
        except OSError:
            data = b""
        if not data:
            other = self._peers.pop(one)
            del self._peers[other]
            one.close()
            other.close()
