"""A real server that speaks S3, on loopback, in a process of its own; and a job whose data and model are in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem, FileType

from monitoring import dying
from monitoring.server import HOST, free_port
from tests.faults.proxy import FaultProxy
from tests.polling import poll
from tests.tiny_job import TinyJob

BUCKET = "lake"
ACCESS, SECRET = "AKIATESTING", "hunter2-of-the/store"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


class ObjectStore:
    """moto's server, from `with` to the end of the block. It keeps everything in memory."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=dying.with_parent(),  # noqa: PLW1509  it makes one system call
        )
