"""`/jobs/{job}`: a job's report, as `batchgauge report` writes it, with a way back to all jobs."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from jobs.report.look import style, templates
from jobs.web.board import Board
from jobs.web.shelf import Shelf
from monitoring.ledger import Ledger
from pipelines.errors import LedgerError

ROOM = 8
KEPT_SECONDS = 30.0
"""A page says how long ago things were, so an old one is made anew, even if nothing has happened."""

FRAMES = "; frame-ancestors 'none'"
"""What a policy can say in a header only."""

_HERE = Path(__file__).parent


class ReportPages:
    """Makes them: one at a time, since it costs a second of a processor. The last few are kept."""

    def __init__(self, board: Board, ledger: Ledger) -> None:
        self._board = board
        self._ledger = ledger
        self._shelf: Shelf[tuple[str, str]] = Shelf(room=ROOM, seconds=KEPT_SECONDS, now=board.now)

    def answer(self, request: Request) -> Response:
        """The page; 404 without such a job, 503 when the ledger can't be read."""
        job: str = request.path_params["job"]
        home = _home(request)
        try:
            revision = self._ledger.revisions().get(job)
            if revision is None:
                return sorry("There is no such job", "No job of this name is in the ledger.", home=home, status=404)
            page, policy = self._shelf.get((job, revision, home), lambda: self._made(job, home))
        except LedgerError as error:
            return sorry("The ledger can't be read", str(error), home=home, status=503)
        return HTMLResponse(page, headers={"Content-Security-Policy": policy + FRAMES})

    def _made(self, job: str, home: str) -> tuple[str, str]:
        # Imported when a page is asked for: pyarrow, which reads the records of batches, takes a second and 100 MB.
        from jobs.report.facts import gather  # noqa: PLC0415
        from jobs.report.page import own_style, page  # noqa: PLC0415

        facts = gather(self._ledger, job, now=self._board.now(), settle=False)
        return page(facts, home=home), own_style().policy


def sorry(title: str, words: str, *, home: str, status: int) -> Response:
    """A page that says why there is no other."""
    look = style(_HERE / "board.css")
    made = templates(_HERE).get_template("sorry.html.j2").render(title=title, words=words, home=home, style=look)
    return HTMLResponse(made, status_code=status, headers={"Content-Security-Policy": look.policy + FRAMES})


def _home(request: Request) -> str:
    """The page of all jobs, seen from this one: relative, so that a proxy may serve all of it below a path of its own."""
    written: bytes = request.scope.get("raw_path") or b""
    return "../" * (1 + written.partition(b"/jobs/")[2].count(b"/"))
