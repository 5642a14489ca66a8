"""Everything that the scheduler serves, put together."""

from __future__ import annotations

from time import time

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from jobs.scheduler import Daemon
from jobs.scheduler.log import Log
from jobs.web.alerts import alerts_route
from jobs.web.board import Board
from jobs.web.guard import HANDLERS, Guard
from jobs.web.health import health_routes
from jobs.web.routes import looking_routes
from monitoring.ledger import Ledger


def application(daemon: Daemon, ledger: Ledger, *, token: str | None, loopback_only: bool, log: Log) -> ASGIApp:
    """The scheduler's pages. `token` is what Alertmanager must show; None: nobody's alerts are taken."""
    routes = [
        *health_routes(daemon.snapshot, daemon.figures),
        alerts_route(daemon.hear, token=token),
        *looking_routes(Board(ledger, daemon.snapshot, time), ledger),
    ]
    pages = Starlette(routes=routes, middleware=[Middleware(GZipMiddleware)], exception_handlers=HANDLERS)

    def defect(trace: str) -> None:
        log("defect", f"unexpected error while a page was made: {trace}", error=trace)

    return Guard(pages, loopback_only=loopback_only, defect=defect)
