"""What holds for every request: whom we answer, what a browser may do with the answer, and what becomes of a defect."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What a page needs beyond this it says itself.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Stands before an application. `loopback_only`: it serves this machine, and answers to no other name.

    That is for a page in a browser here whose own name was made to lead to us (DNS rebinding): it could read what we say.
    `defect` is told the traceback of what goes wrong inside; the client is told only that it did (see `HANDLERS`).
    """

    def __init__(self, application: ASGIApp, *, loopback_only: bool, defect: Callable[[str], None]) -> None:
        self._application = application
        self._loopback_only = loopback_only
        self._defect = defect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: https://asgi.readthedocs.io/en/latest/specs/www.html."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers["Connection"] = "close"  # one request for each connection, which then can be bounded as a whole
            await send(message)

        if self._loopback_only and not _is_loopback_name(Headers(scope=scope).get("host", "")):
            refused = JSONResponse({"error": "this server is for its own machine: ask it by a loopback name"}, status_code=421)
            await refused(scope, receive, guarded)
            return
        try:
            await self._application(scope, receive, guarded)
        except Exception:  # noqa: BLE001  a defect may cost one answer, and never the scheduler
            self._defect(traceback.format_exc())


def _refused(_request: Request, error: Exception) -> Response:
    """No such page, or no such method for it."""
    refusal = cast(HTTPException, error)  # it is called for these only
    return JSONResponse({"error": refusal.detail}, status_code=refusal.status_code, headers=refusal.headers)


def _failed(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "unexpected error: the scheduler's log says more"}, status_code=500)


HANDLERS: dict[Any, Any] = {HTTPException: _refused, Exception: _failed}
"""How an application answers what it refuses, and what fails. (Starlette raises a failure again once it was answered.)"""


def _is_loopback_name(host: str) -> bool:
    """Whether the header `Host` is such a name, with or without a port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
