"""An application on a real loopback port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from jobs.web.server import listening, serving


@contextmanager
def served(application: ASGIApp) -> Iterator[str]:
    """Serve it; the base URL is given."""
    with listening("127.0.0.1:0") as listener, serving(application, listener) as url:
        yield url
