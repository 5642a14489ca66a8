"""`POST /alerts`: the door for Alertmanager's webhook. Who may knock is settled before a byte of the message is read."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.retrain.alerts import MAX_BYTES, MessageError
from jobs.retrain.policy import Decision
from jobs.scheduler import NotReady
from pipelines.errors import LedgerError

Hear = Callable[[bytes], Iterable[Decision]]

BODY_SECONDS = 10.0
"""How long a message may take to arrive."""
_AT_ONCE = 2
"""Messages that are judged at once; each asks the ledger for a job's last runs."""


class _Refused(Exception):  # noqa: N818  it carries an answer
    def __init__(self, status: int, words: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(words)
        self.answer = JSONResponse({"error": words}, status_code=status, headers=headers)


def alerts_route(hear: Hear, *, token: str | None) -> Route:
    """The door. `hear` decides about a message, in a thread; without a token nobody may knock."""
    limiter: CapacityLimiter | None = None  # it belongs to an event loop, so the first request makes it

    async def answer(request: Request) -> Response:
        nonlocal limiter
        limiter = limiter or CapacityLimiter(_AT_ONCE)
        try:
            _authorize(request, token)
            body = await _body(request)
            decisions = await to_thread.run_sync(hear, body, limiter=limiter)
        except _Refused as refused:
            return refused.answer
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        except MessageError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except (LedgerError, NotReady) as error:  # Alertmanager tries again after a 5xx, and only then
            return JSONResponse({"error": str(error)}, status_code=503)
        return JSONResponse({"decisions": [_document(decision) for decision in decisions]})

    return Route("/alerts", answer, methods=["POST"])


def _authorize(request: Request, token: str | None) -> None:
    """Compare in a time that doesn't tell how much of a guess was right. Bearer tokens: RFC 6750."""
    if token is None:
        raise _Refused(403, "no token is configured: set BATCHGAUGE_ALERTS_TOKEN_FILE for the scheduler, and start it again")
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(shown.strip().encode("latin-1"), token.encode())
    if scheme.lower() != "bearer" or not right:
        words = "the token is missing or wrong: Alertmanager sends it with http_config.authorization.credentials_file"
        raise _Refused(401, words, {"WWW-Authenticate": "Bearer"})


async def _body(request: Request) -> bytes:
    """The message, of bounded size and in bounded time."""
    too_large = _Refused(413, f"the message is larger than {MAX_BYTES:,} bytes: let fewer alerts into a group")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BYTES:
                    raise too_large
    except TimeoutError:
        raise _Refused(408, f"the message did not arrive within {BODY_SECONDS:g} s") from None
    return bytes(body)


def _document(decision: Decision) -> dict[str, object]:
    return {"job": decision.job, "retrain": decision.retrain, "reason": decision.reason}
