"""The connection to a Ray cluster: found, of our version, quiet, and gone at the end."""

from __future__ import annotations

import logging
import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray._private import services, worker

from pipelines.errors import EngineError

_PROBE_SECONDS = 5.0
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How HTTP/2, and so gRPC, begins: its preface and an empty frame of settings (RFC 9113, 3.4)."""
_SETTINGS_FRAME = 4


@contextmanager
def connected(address: str) -> Iterator[None]:
    """While inside, this process is a driver of the cluster at `address` (`HOST:PORT`, or `auto`).

    One that is connected already stays so. Raises `EngineError` when there is no Ray, or another version of it.
    """
    if ray.is_initialized():
        yield
        return
    _connect(address)
    try:
        yield
    finally:
        with _own_signals(), warnings.catch_warnings(action="ignore"):
            ray.shutdown()


def capacity(cpus: float, accelerators: float) -> int:
    """How many workers that reserve so much fit on the cluster's nodes, whoever else uses them."""

    def room(resources: dict[str, float]) -> int:
        rooms = [resources.get(name, 0.0) / needed for name, needed in (("CPU", cpus), ("GPU", accelerators)) if needed]
        return int(min(rooms))

    return sum(map(room, _resources()))


def described() -> str:
    """What the cluster has, in words."""
    nodes = _resources()
    cpus, accelerators = (sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    return f"the cluster has {len(nodes)} node{'s' * (len(nodes) != 1)} with {cpus:g} CPUs and {accelerators:g} accelerators"


def _resources() -> list[dict[str, float]]:
    """Of each node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _connect(address: str) -> None:
    where = f"engine.address {address!r}"
    try:
        found = services.canonicalize_bootstrap_address(address)
        _probe(found or address)
        _be_quiet()
        with _own_signals(), warnings.catch_warnings(action="ignore"):
            ray.init(
                address=address if found is None else found,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                configure_logging=True,
            )
    except (OSError, ConnectionError) as error:
        raise EngineError(
            f"{where}: no Ray cluster answers there ({error}); start one with 'ray start --head', or correct the address"
        ) from error
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        if "Version mismatch" in reason:
            raise EngineError(f"{where}: install the same versions here and on all nodes. {reason}") from error
        raise EngineError(f"{where}: this host can't join the Ray cluster as a driver: {reason}") from error


def _probe(address: str) -> None:
    """Raise `OSError` unless gRPC answers at the address: Ray itself would wait for minutes."""
    if address == "auto":
        return  # nothing was found: Ray says so at once
    host, _, port = address.rpartition(":")
    try:
        connection = socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS)
    except OSError as error:  # Ray has put the host's own address in place of loopback's: say which
        raise ConnectionError(f"{address}: {error.strerror or error}") from error
    with connection:
        connection.sendall(_HELLO)
        with suppress(TimeoutError):
            answer = connection.recv(len(_HELLO))
            if len(answer) > 3 and answer[3] == _SETTINGS_FRAME:  # noqa: PLR2004  after three bytes of length: the frame's type
                return
    raise ConnectionError(f"what listens at {address} is no Ray")


def _be_quiet() -> None:
    """Ray prints what its nodes say, such as that one has died, to the driver's stdout, whatever `log_to_driver` says."""
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in place for SIGTERM: put back the one from before."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread: then Ray has put none
            signal.signal(signal.SIGTERM, before)
