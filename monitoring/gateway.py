"""Talking to a Pushgateway: one overall deadline, retries inside it, and no success that wasn't read whole."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import httpx

from monitoring import event_loop, grouping, names
from monitoring.credentials import Credentials
from monitoring.exposition import CONTENT_TYPE
from pipelines.errors import PushError, printable

__all__ = ["Credentials", "Gateway", "Group", "checked_url"]

_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.25, 5.0
_ATTEMPT_SECONDS = 1.0  # what an attempt gets at least, if there is so much left

_ANSWER_BYTES, _LISTING_BYTES, _QUOTED_CHARACTERS = 65_536, 256 * 2**20, 300
_TAKEN = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED})
_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Group:
    """A group on the gateway. `pushed_at` is the Unix time, by its clock, of its last accepted push (0: none was).

    `sequence` is the revision of a job's state that it shows, `sent_at` when that was sent by its sender's clock (Unix time);
    None when it shows none, or isn't ours. `families` are the names of all that it shows, the gateway's own included.
    """

    labels: Mapping[str, str]
    pushed_at: float
    last_push_successful: bool
    sequence: float | None = None
    sent_at: float | None = None
    families: frozenset[str] = frozenset()


class _Answer(NamedTuple):
    status: int
    location: str
    body: bytes


class Gateway:
    """One Pushgateway. Every method may raise `PushError`, permanent when trying again can't help.

    `url` is the base URL; `ca_file` (PEM) replaces the system's certificate authorities; `timeout_seconds` bounds
    one call with all its retries. Nothing is taken from the environment (proxies, netrc), redirects are not followed.
    An attempt may take half the time that is left (but a second), so that one lost connection doesn't cost it all; the one
    after it may take the rest, since a gateway that is behind works also on what its client gave up. Between attempts it
    waits a random time below an exponentially growing bound ("full jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        ca_file: str | Path | None = None,
        timeout_seconds: float = 10.0,
        sleep: Sleep = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.url = checked_url(url)
        self._credentials = credentials or Credentials()
        self._tls = _tls(ca_file) if self.url.startswith("https:") else False
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._uniform = uniform

    def __repr__(self) -> str:
        return f"Gateway({self.url!r})"

    def put(self, group: Mapping[str, str], body: bytes, *, deadline_seconds: float | None = None) -> None:
        """Replace the group with `body` (text format). Returns only when the gateway's whole answer was read."""
        headers = {"Content-Type": CONTENT_TYPE, "Content-Encoding": "gzip"}
        content = gzip.compress(body, 3)
        answer = self._call("PUT", grouping.path(group), content=content, headers=headers, deadline_seconds=deadline_seconds)
        self._check_taken(answer, "push")

    def delete(self, group: Mapping[str, str], *, deadline_seconds: float | None = None) -> None:
        """Delete the group. One that isn't there is deleted too."""
        self._check_taken(self._call("DELETE", grouping.path(group), deadline_seconds=deadline_seconds), "deletion")

    def groups(self) -> tuple[Group, ...]:
        """All groups on the gateway."""
        answer = self._call("GET", "/api/v1/metrics", limit_bytes=_LISTING_BYTES)
        try:
            return tuple(_group(item) for item in json.loads(answer.body)["data"])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise PushError(f"{self.url}: its list of groups isn't a Pushgateway's; check the URL", permanent=True) from error

    def ready(self) -> None:
        """Return when the gateway says that it is ready to serve; raise otherwise."""
        answer = self._call("GET", "/-/ready")
        if answer.body.strip() != b"OK":
            raise PushError(f"{self.url}: it doesn't say OK as a Pushgateway does; check the URL", permanent=True)

    def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = _ANSWER_BYTES,
        deadline_seconds: float | None = None,
    ) -> _Answer:
        seconds = self._timeout_seconds if deadline_seconds is None else deadline_seconds
        sent = {**(headers or {}), "Accept-Encoding": "identity", **self._credentials.header()}
        request = httpx.Request(method, f"{self.url}{path}", content=content, headers=sent)
        return event_loop.run(lambda: self._insist(request, seconds, limit_bytes))

    async def _insist(self, request: httpx.Request, seconds: float, limit_bytes: int) -> _Answer:
        """Try until a final answer or until the next attempt would come too late."""
        clock = asyncio.get_running_loop().time
        end, attempts, unanswered = clock() + seconds, 0, False
        cause: Exception | None = None
        failure = "no time was left for a first attempt"
        while (left := end - clock()) > 0:
            attempts += 1
            limit = left if unanswered else max(left / 2, min(_ATTEMPT_SECONDS, left))
            try:
                async with asyncio.timeout(limit):
                    answer = await self._exchange(request, limit_bytes)
                if self._final(answer):
                    return answer
                failure, cause = self._refusal(answer), None
            except TimeoutError as error:
                if attempts > 1 and limit < _ATTEMPT_SECONDS:
                    break  # the deadline cut it short: what was seen before says more
                failure, cause, unanswered = f"no whole answer within {limit:.1f} s", error, True
            except httpx.TransportError as error:
                failure, cause = self._broken(error), error
            delay = self._uniform(0.0, min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2 ** (attempts - 1)))
            if delay >= end - clock():
                break
            await self._sleep(delay)
        tried = f"{attempts} attempt{'s' * (attempts != 1)} within {seconds:.2g} s"
        message = f"{self.url}: {failure} ({tried}); is the gateway up?"
        raise PushError(message, permanent=False, unavailable=True) from cause

    async def _exchange(self, request: httpx.Request, limit_bytes: int) -> _Answer:
        """One request and its whole answer, on a connection of its own."""
        body = bytearray()
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=None) as client:  # noqa: S113  see `_insist`
            response = await client.send(request, stream=True)
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit_bytes:
                    raise PushError(f"{self.url}: its answer has no end; is it a Pushgateway's URL?", permanent=True)
        return _Answer(response.status_code, response.headers.get("Location", ""), bytes(body))

    def _final(self, answer: _Answer) -> bool:
        """Whether it's done; False when trying again may help. Raises a permanent `PushError` when it can't."""
        status = answer.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return True
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _AGAIN:
            return False
        if status < HTTPStatus.BAD_REQUEST:
            message = f"{self.url}: it redirects to {answer.location!r}; give the gateway's own address"
        else:
            message = f"{self.url}: {self._refusal(answer)}{_HINTS.get(status, '')}"
        raise PushError(self._credentials.hidden_in(message), permanent=True)

    def _refusal(self, answer: _Answer) -> str:
        """The gateway's own words, which are in the body only."""
        words = printable(" ".join(answer.body.decode(errors="replace").split())[:_QUOTED_CHARACTERS])
        return self._credentials.hidden_in(f"HTTP {answer.status}" + (f": {words}" if words else ""))

    def _check_taken(self, answer: _Answer, what: str) -> None:
        """Any web server answers 200 with a page; a Pushgateway says 200 or 202 and nothing more."""
        if answer.status not in _TAKEN or answer.body.strip():
            message = f"{self.url}: answered the {what} as no Pushgateway does ({self._refusal(answer)}); check the URL"
            raise PushError(message, permanent=True)

    def _broken(self, error: httpx.TransportError) -> str:
        """Why there was no answer. Raises a permanent `PushError` when TLS can't work."""
        causes = _causes(error)
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                message = (
                    f"{self.url}: its certificate is not trusted ({cause.verify_message}); set push.ca_file to its authority"
                )
                raise PushError(message, permanent=True) from error
            if isinstance(cause, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(cause):
                raise PushError(f"{self.url}: it doesn't speak TLS; write http://", permanent=True) from error
        words = next((_words(cause) for cause in reversed(causes) if str(cause)), type(error).__name__)
        return f"no answer: {words}"


_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "; check the user name and password, or the token",
    HTTPStatus.FORBIDDEN: "; check the user name and password, or the token",
    HTTPStatus.NOT_FOUND: "; check the URL's path",
}


def checked_url(url: str) -> str:
    """A gateway's base URL without a trailing slash. Raises a permanent `PushError` that says what to write."""

    def refuse(what: str) -> NoReturn:
        raise PushError(f"the gateway's URL {what}", permanent=True)

    try:
        parsed = httpx.URL(url.strip())
    except (httpx.InvalidURL, ValueError):
        refuse("can't be understood; write it like http://127.0.0.1:9091")
    if parsed.userinfo:
        refuse("has a user name or password in it; set them by environment (BATCHGAUGE_USERNAME, BATCHGAUGE_PASSWORD_FILE)")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        refuse(f"{url!r} must be http://host:port or https://host:port")
    if parsed.query or parsed.fragment:
        refuse(f"{url!r} must not have a query or a fragment; write it like http://127.0.0.1:9091")
    base = str(parsed).rstrip("/")
    if base.endswith("/metrics") or "/metrics/job" in base:
        refuse(f"{url!r} must be the base URL, without /metrics: {base.split('/metrics')[0]}")
    return base


def _tls(ca_file: str | Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or "not a PEM certificate"
        raise PushError(f"push.ca_file {ca_file}: {reason}; give the authority's certificate as PEM", permanent=True) from error


def _group(item: Any) -> Group:
    return Group(
        labels=dict(item["labels"]),
        pushed_at=_value(item, "push_time_seconds") or 0.0,
        last_push_successful=bool(item["last_push_successful"]),
        sequence=_value(item, names.SEQUENCE.name),
        sent_at=_value(item, names.PUSHED.name),
        families=frozenset(item) - {"labels", "last_push_successful"},
    )


def _value(item: Any, family: str) -> float | None:
    metrics = item.get(family, {}).get("metrics", [])
    return float(metrics[0]["value"]) if metrics else None


def _words(error: BaseException) -> str:
    """The system's own words for an error of its, such as "Connection refused"."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number is not None and number > 0 else str(error)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found
