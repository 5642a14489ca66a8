"""Putting a page where it is wanted: whole, or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path

from jobs import printing
from monitoring.filenames import of_job
from pipelines.durable import flush
from pipelines.errors import BatchgaugeError

STDOUT = Path("-")


class ReportError(BatchgaugeError):
    """The page can't be written where it is wanted."""


def default_file(job: str) -> Path:
    """`<job>.html` in the current folder, percent-encoded where a name may hold what a file name may not."""
    return Path(f"{of_job(job)}.html")


def write(page: str, file: Path) -> None:
    """Replace `file` in one step: a reader sees the old page or the new one. `-` is stdout.

    Raises `ReportError` naming the file; what was there before is still there then. `PrintingError` for stdout.
    """
    if file == STDOUT:
        printing.show_bytes(page.encode())
        return
    try:
        target = file.resolve()  # through a link: it is the file that is meant
        if target.exists() and not target.is_file():
            raise ReportError(f"report {file}: is no regular file; name a file, or '-' for stdout")
        _replace(target, page.encode())
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ReportError(f"report {file}: {cause}; the folder must exist, be writable and have room: see --output") from error


def _replace(target: Path, body: bytes) -> None:
    unfinished = target.with_name(f".batchgauge-{secrets.token_hex(8)}.tmp")
    try:
        with unfinished.open("xb") as stream:
            if target.exists():
                unfinished.chmod(target.stat().st_mode)  # a page that was kept from others still is
            stream.write(body)
            flush(stream)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
