"""Where what can be looked at lies: the page of all jobs, a page for each job, and the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anyio import CapacityLimiter, to_thread
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from jobs.web.api import Api, Endpoint, answered
from jobs.web.board import Board
from jobs.web.page import BoardPage
from jobs.web.reports import ReportPages
from monitoring.ledger import Ledger

_AT_ONCE = 2
"""Answers that are made at once. They have threads of their own, so that health checks never wait behind them."""


class _AnyName(Convertor[str]):
    """A job's name: slashes and line breaks may be in it. The convertor `path` of Starlette's takes no line break."""

    regex = r"(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("job_name", _AnyName())


def looking_routes(board: Board, ledger: Ledger) -> list[BaseRoute]:
    """All that only looks. Nothing of it writes to the ledger."""
    api, page, reports = Api(board, ledger), BoardPage(board), ReportPages(board, ledger)
    shared = _Turns(_AT_ONCE)
    one_report = _Turns(1)
    return [
        Route("/", shared.of(page.answer)),
        Route("/jobs/{job:job_name}", one_report.of(reports.answer)),
        Route("/api/jobs", shared.of(answered(api.jobs))),
        Route("/api/jobs/{job:job_name}", shared.of(answered(api.job))),
        Route("/api/runs", shared.of(answered(api.runs))),
        Route("/api/scheduler", shared.of(answered(api.scheduler))),
        Route("/openapi.json", shared.of(api.description)),
    ]


class _Turns:
    """Runs endpoints in threads, so many at once; the others wait without one."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._limiter: CapacityLimiter | None = None  # it belongs to an event loop, so the first request makes it

    def of(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self._limiter = self._limiter or CapacityLimiter(self._at_once)
            return await to_thread.run_sync(endpoint, request, limiter=self._limiter)

        return answer
