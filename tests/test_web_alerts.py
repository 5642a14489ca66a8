"""The door for Alertmanager: who may knock, how much may be said, how long it may take, what is answered."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette

from jobs.retrain.alerts import MAX_BYTES, parse
from jobs.retrain.policy import Decision
from jobs.scheduler import NotReady
from jobs.web import alerts
from jobs.web.alerts import alerts_route
from pipelines.errors import LedgerError
from tests.test_retrain_alerts import FIRING, MESSAGE
from tests.web import served

TOKEN = "nobody guesses this, with its ä"  # noqa: S105  of this test
BODY = json.dumps(MESSAGE).encode()
BEARER = f"Bearer {TOKEN}".encode()


class Ear:
    """Hears messages, and says that each of their jobs is to be retrained."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.failure: Exception | None = None

    def __call__(self, body: bytes) -> list[Decision]:
        self.heard.append(body)
        if self.failure:
            raise self.failure
        return [Decision(alert.labels["job"], retrain=True, reason="so it is") for alert in parse(body).alerts]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@contextmanager
def door(ear: Ear, token: str | None = TOKEN) -> Iterator[str]:
    """The URL of the door."""
    with served(Starlette(routes=[alerts_route(ear, token=token)])) as url:
        yield f"{url}/alerts"


def post(url: str, body: bytes = BODY, authorization: bytes | None = BEARER) -> httpx.Response:
    headers = {} if authorization is None else {b"Authorization": authorization}
    return httpx.post(url, content=body, headers=headers, trust_env=False, timeout=20)


def test_what_is_decided_is_answered(ear: Ear) -> None:
    """Job by job, with the reason; the message is handed on as it came."""
    with door(ear) as url:
        answer = post(url)
    assert answer.status_code == 200
    assert answer.json() == {"decisions": [{"job": "tiny", "retrain": True, "reason": "so it is"}]}
    assert ear.heard == [BODY]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer wrong",
        BEARER[:-1],
        BEARER + b"x",
        b"Basic " + TOKEN.encode(),
        TOKEN.encode(),
        b"Bearer \xff\xfe",
    ],
)
def test_without_the_token_nothing_is_heard(ear: Ear, authorization: bytes | None) -> None:
    """And it isn't said what was wrong with what was shown."""
    with door(ear) as url:
        answer = post(url, authorization=authorization)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in answer.text
    assert ear.heard == []


def test_without_the_token_not_even_the_message_is_waited_for(ear: Ear) -> None:
    """Its size and its time are nobody's business but those who may knock."""
    with door(ear) as url, closing(knocking(url, "Content-Length: 1000", authorization=b"Bearer wrong")) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 401 ")


def test_where_no_token_is_configured_nobody_may_knock(ear: Ear) -> None:
    """Not with an empty one either; it is said how to make one known."""
    with door(ear, None) as url:
        for authorization in (None, b"Bearer", b"Bearer None"):
            answer = post(url, authorization=authorization)
            assert answer.status_code == 403
            assert "BATCHGAUGE_ALERTS_TOKEN_FILE" in answer.json()["error"]
    assert ear.heard == []


@pytest.mark.parametrize("body", [b"", b"garbage", b"\xff", b"[]", json.dumps({**MESSAGE, "version": "5"}).encode()])
def test_what_is_no_message_is_refused(ear: Ear, body: bytes) -> None:
    """For good: Alertmanager doesn't repeat what was answered with a 4xx."""
    with door(ear) as url:
        answer = post(url, body)
    assert answer.status_code == 400
    assert "not a webhook message" in answer.json()["error"]


def test_ten_megabytes_are_refused_before_they_are_read(ear: Ear) -> None:
    """By their declared length."""
    with door(ear) as url, closing(knocking(url, f"Content-Length: {10 * MAX_BYTES}")) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")
    assert ear.heard == []


def test_ten_megabytes_of_undeclared_length_are_refused_when_they_are_too_many(ear: Ear) -> None:
    """In pieces; what came by then is dropped."""
    pieces = (b" " * 65_536 for _ in range(160))
    with door(ear) as url:
        try:
            answer = httpx.post(url, content=pieces, headers={b"Authorization": BEARER}, trust_env=False, timeout=20)
            assert answer.status_code == 413
        except httpx.TransportError:
            pass  # it was closed while we were still sending: refused, too
    assert ear.heard == []


def test_a_message_that_dawdles_is_given_up(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it came."""
    monkeypatch.setattr(alerts, "BODY_SECONDS", 0.3)
    with door(ear) as url, closing(knocking(url, f"Content-Length: {len(BODY)}")) as client:
        client.sendall(BODY[: len(BODY) // 2])
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")
    assert ear.heard == []


def test_who_hangs_up_is_not_heard(ear: Ear) -> None:
    """Half a message is none, and the next one is taken."""
    with door(ear) as url:
        with closing(knocking(url, f"Content-Length: {len(BODY)}")) as client:
            client.sendall(BODY[: len(BODY) // 2])
        assert post(url).status_code == 200
    assert ear.heard == [BODY]


def test_what_cannot_be_taken_now_is_tried_again(ear: Ear) -> None:
    """Alertmanager repeats what was answered with a 5xx."""
    for failure in (LedgerError("ledger x: is locked"), NotReady("the scheduler is starting or stopping")):
        ear.failure = failure
        with door(ear) as url:
            answer = post(url)
        assert (answer.status_code, answer.json()) == (503, {"error": str(failure)})


def test_it_is_for_posting(ear: Ear) -> None:
    """Looking does nothing."""
    with door(ear) as url:
        assert httpx.get(url, trust_env=False).status_code == 405


def test_many_at_once_are_all_heard(ear: Ear) -> None:
    """A bad upstream makes forty alerts at once, each in a message of its own."""
    bodies = [json.dumps({**MESSAGE, "alerts": [{**FIRING, "fingerprint": f"{number:x}"}]}).encode() for number in range(40)]
    with door(ear) as url, ThreadPoolExecutor(40) as pool:
        assert {answer.status_code for answer in pool.map(lambda body: post(url, body), bodies)} == {200}
    assert sorted(ear.heard) == sorted(bodies)


def knocking(url: str, *headers: str, authorization: bytes = BEARER) -> socket.socket:
    """A connection over which the head of a request was sent, and the body is still to come."""
    parts = urlsplit(url)
    client = socket.create_connection((parts.hostname, parts.port), timeout=20)
    head = ["POST /alerts HTTP/1.1", "Host: localhost", *headers, ""]
    client.sendall("\r\n".join(head).encode() + b"Authorization: " + authorization + b"\r\n\r\n")
    return client
