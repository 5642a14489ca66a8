"""For whoever watches over the scheduler: whether it lives, whether it works, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.scheduler import Snapshot
from monitoring.scheduler_metrics import CONTENT_TYPE, SchedulerFigures, exposed

STALLED_SECONDS = 60.0
"""The scheduler's loop comes round every second; one that hasn't for so long hangs."""

STANDING_BY = "another scheduler is at work on the ledger; this one stands by to take its place"


def health_routes(
    snapshot: Callable[[], Snapshot], figures: Callable[[], SchedulerFigures], *, clock: Callable[[], float] = monotonic
) -> list[Route]:
    """`/healthz`: its loop comes round. `/readyz`: and it can do its work. `/metrics`. 200 is yes, 503 is no and says why.

    `clock` is the one of `Snapshot.turned_at`.
    """

    def ill() -> list[str]:
        stalled = clock() - snapshot().turned_at
        return [f"the loop has not come round for {stalled:.0f} s"] if stalled > STALLED_SECONDS else []

    def unready() -> list[str]:
        now = snapshot()
        reasons = [] if now.ready else [STANDING_BY if now.standing_by else "the scheduler is starting or stopping"]
        return [*ill(), *reasons, *([now.trouble] if now.trouble else [])]

    def healthz(_request: Request) -> Response:
        return _answer(ill())

    def readyz(_request: Request) -> Response:
        return _answer(unready())

    def metrics(_request: Request) -> Response:
        return Response(exposed(figures()), media_type=CONTENT_TYPE)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def _answer(reasons: list[str]) -> Response:
    return JSONResponse({"ok": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)
