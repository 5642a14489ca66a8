"""File names for jobs: a job may be called anything, a file may not."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import quote

_LONGEST = 180


def of_job(job: str) -> str:
    """The job's name, percent-encoded. Different jobs get different names; a very long one is cut and hashed."""
    encoded = quote(job, safe="", errors="surrogatepass")
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"  # neither hidden nor `..`
    if len(encoded) <= _LONGEST:
        return encoded
    digest = sha256(job.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"{encoded[: _LONGEST - 34]}%~{digest}"  # a `%~` is in no encoded name
