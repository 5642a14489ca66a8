"""A real server that speaks S3, on loopback, in a process of its own; what may lie between it and a run; and a job in it."""

from __future__ import annotations

import re
import select
import socket
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.server import HOST, Server
from pipelines.objects import ObjectPath
from tests.faults.server import Behaviour, Exchange, FaultServer
from tests.tiny_job import TinyJob

BUCKET = "s3://lake"
_EXPECT = re.compile(rb"\r\nexpect: 100-continue", re.IGNORECASE)
SECRET = "hunter2/of-the-store"  # noqa: S105  a planted one
CREDENTIALS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


def object_store() -> Server:
    """moto's server, which keeps everything in memory."""
    if not all(map(find_spec, ("moto", "flask", "flask_cors"))):
        raise ModuleNotFoundError("moto's server is not installed: pip install -e '.[dev]'")

    def arguments(port: int, _: Path) -> list[str]:
        return ["-m", "moto.server", "-H", HOST, "-p", str(port)]

    return Server("object-store", Path(sys.executable), arguments, ready="/moto-api/")


class StoreProxy(FaultServer):
    """Passes each request on to the store, unless `fault` has another behaviour for its first line."""

    def __init__(self, store: Server) -> None:
        super().__init__()
        self._store = store
        self.fault: Callable[[str], Behaviour | None] = lambda _: None

    def behaviour(self) -> Behaviour:
        return self.fault(self.requests[-1].decode().split("\r\n")[0]) or self.relay

    def relay(self, exchange: Exchange) -> None:
        """As if nothing lay between."""
        self._pass_on(exchange, answer=True)

    def lose_answer(self, exchange: Exchange) -> None:
        """The store takes the request, but nobody learns of it."""
        self._pass_on(exchange, answer=False)

    def _pass_on(self, exchange: Exchange, *, answer: bool) -> None:
        """Until the store has said all: what is sent in chunks has no length that could be waited for."""
        head = _EXPECT.sub(b"", exchange.head)
        if head != exchange.head:  # or the client waits a second for it
            exchange.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        with socket.create_connection((HOST, self._store.port), timeout=10.0) as there:
            there.sendall(head + b"\r\nConnection: close\r\n\r\n" + exchange.body)
            other = {exchange.connection: there, there: exchange.connection}
            while True:
                for side in select.select(list(other), [], [], 10.0)[0]:
                    data = side.recv(65536)
                    if not data and side is there:
                        return
                    if not data:
                        raise ConnectionAbortedError("the client has gone")
                    if answer or side is exchange.connection:
                        other[side].sendall(data)


class StoredJob(TinyJob):
    """The tiny job with its model, drops, holdout and predictions below `home`, a URI; the job file lies on the disk."""

    def __init__(self, folder: Path, home: ObjectPath) -> None:
        self.home = home
        super().__init__(folder)
        self.spec.write_text(
            re.sub(r'"(inbox|scored|labelled"|tiny\.safetensors)', rf'"{home}/\1', self.spec.read_text(), count=0)
        )
        text = self.spec.read_text().replace(f'name = "{home}/labelled"', 'name = "labelled"')
        self.spec.write_text(text)
        (home / "tiny.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes())
        (folder / "tiny.safetensors").unlink()

    def write(self, path: Path, table: pa.Table, *, group_rows: int = 100) -> Path:
        content = pa.BufferOutputStream()
        pq.write_table(table, content, row_group_size=group_rows)
        (self.home / path.relative_to(self.folder)).write_bytes(content.getvalue())
        return path

    def names(self, folder: str) -> list[str]:
        """What lies below a folder."""
        below = self.home / folder
        return [str(file.relative_to(below)) for file in below.files()]

    def output(self, night: str) -> pa.Table:
        folder = self.home / "scored" / f"date={night}"
        return pa.concat_tables(pq.read_table(file.open()) for file in folder.files() if "_rejects" not in str(file))
