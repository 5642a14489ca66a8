"""What programs look at: JSON about jobs, runs and the scheduler. Each answer is a document of `documents`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from jobs.web import openapi
from jobs.web.answers import jobs_document, one_job_document, runs_document, scheduler_document
from jobs.web.board import Board
from jobs.web.documents import RunOutcome
from jobs.web.queries import NoQuery, QueryError, RunsQuery, asked, shown
from jobs.web.shelf import Shelf
from monitoring.ledger import Ledger
from pipelines.errors import LedgerError
from pipelines.report import Outcome

Endpoint = Callable[[Request], Response]


class UnknownJobError(LookupError):
    """No job of that name is in the ledger."""

    def __init__(self, job: str) -> None:
        super().__init__(f"no job {shown(job)} is in the ledger; /api/jobs has all that are")


def answered(endpoint: Endpoint) -> Endpoint:
    """What goes wrong in a foreseen way is an `ErrorDocument` with its status."""

    @wraps(endpoint)
    def answer(request: Request) -> Response:
        try:
            return endpoint(request)
        except QueryError as error:
            return _error(error, 400)
        except UnknownJobError as error:
            return _error(error, 404)
        except LedgerError as error:
            return _error(error, 503)

    return answer


class Api:
    """The endpoints. `kept_seconds`: for how long the answer about all jobs, which costs most, is given again."""

    def __init__(self, board: Board, ledger: Ledger, *, kept_seconds: float = 1.0) -> None:
        self._board = board
        self._ledger = ledger
        self._jobs: Shelf[bytes] = Shelf(room=1, seconds=kept_seconds, now=board.now)
        self._description = openapi.description()

    def jobs(self, request: Request) -> Response:
        """`/api/jobs`."""
        asked(NoQuery, request.query_params)
        return Response(self._jobs.get("jobs", self._all_jobs), media_type="application/json")

    def _all_jobs(self) -> bytes:
        overview = self._board.look()
        if overview.trouble:
            raise LedgerError(overview.trouble)
        return _written(jobs_document(overview))

    def job(self, request: Request) -> Response:
        """`/api/jobs/{job}`."""
        asked(NoQuery, request.query_params)
        overview = self._board.look()
        name: str = request.path_params["job"]
        if overview.trouble or name in overview.unreadable:
            raise LedgerError(overview.trouble or overview.unreadable[name])
        job = overview.find(name)
        if job is None:
            raise UnknownJobError(name)
        return _answer(one_job_document(job, overview.at))

    def runs(self, request: Request) -> Response:
        """`/api/runs`."""
        query = asked(RunsQuery, request.query_params)
        if query.job is not None and query.job not in self._ledger.revisions():
            raise UnknownJobError(query.job)
        found = self._ledger.latest_runs(limit=query.limit, job=query.job, outcome=_meant(query.outcome))
        return _answer(runs_document(found))

    def scheduler(self, request: Request) -> Response:
        """`/api/scheduler`."""
        asked(NoQuery, request.query_params)
        return _answer(scheduler_document(self._board.scheduler(), self._board.now()))

    def description(self, _request: Request) -> Response:
        """`/openapi.json`."""
        return JSONResponse(self._description)


def _meant(outcome: RunOutcome | None) -> Outcome | Literal["running"] | None:
    return outcome if outcome is None or outcome == "running" else Outcome(outcome)


def _answer(document: BaseModel) -> Response:
    return Response(_written(document), media_type="application/json")


def _written(document: BaseModel) -> bytes:
    return document.model_dump_json().encode()


def _error(error: Exception, status: int) -> Response:
    return JSONResponse({"error": str(error)}, status_code=status)
