"""The scheduler's server: whom it answers, what it bounds, how it ends. Over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from time import monotonic
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from jobs.web import server
from jobs.web.guard import HANDLERS, Guard
from jobs.web.server import is_loopback, listening, serving
from pipelines.errors import SpecError
from tests.conftest import poll


def hello(_request: Request) -> Response:
    return PlainTextResponse("hello", headers={"Content-Security-Policy": "default-src 'self'"})


def broken(_request: Request) -> Response:
    raise RuntimeError("what nobody outside need know")


EVERYWHERE = "0.0.0.0"  # noqa: S104  of this machine's interfaces


@contextmanager
def guarded(address: str = "127.0.0.1:0", defects: list[str] | None = None) -> Iterator[str]:
    """A small application behind the guard."""
    pages = Starlette(routes=[Route("/", hello), Route("/broken", broken)], exception_handlers=HANDLERS)
    with listening(address) as listener:
        noted = [] if defects is None else defects
        with serving(Guard(pages, loopback_only=is_loopback(listener), defect=noted.append), listener) as url:
            yield url


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, timeout=20)


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def test_every_answer_says_what_a_browser_may_do_with_it() -> None:
    """Also one that isn't ours; a page that says more keeps its own word; no version is told."""
    with guarded() as url:
        for path, status in (("/", 200), ("/absent", 404)):
            answer = get(f"{url}{path}")
            assert answer.status_code == status
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers
            assert answer.headers["connection"] == "close"
        assert get(url).headers["content-security-policy"] == "default-src 'self'"
        assert "default-src 'none'" in get(f"{url}/absent").headers["content-security-policy"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9195", "127.0.0.1", "127.9.9.9:80", "[::1]:9195", "[::1]"])
def test_a_server_of_this_machine_answers_to_its_names(host: str) -> None:
    """With any port: it may be forwarded."""
    with guarded() as url:
        assert get(url, Host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:9195", "localhost.evil.example", "10.0.0.7", "::ffff", "[::1"]
)
def test_and_to_no_other(host: str) -> None:
    """A page in a browser here, whose own name was made to lead to us, may not read what we say."""
    with guarded() as url:
        answer = get(url, Host=host)
        assert answer.status_code == 421
        assert "loopback name" in answer.json()["error"]


def test_a_server_of_a_network_answers_to_any_name() -> None:
    """Nobody but its administrator knows what it is called there."""
    with guarded(f"{EVERYWHERE}:0") as url:
        answer = get(url.replace(EVERYWHERE, "127.0.0.1"), Host="batch.example.org")
        assert answer.status_code == 200


def test_a_defect_costs_one_answer_and_is_told_to_the_log_only() -> None:
    """Whoever asked learns that there was one."""
    defects: list[str] = []
    with guarded(defects=defects) as url:
        answer = get(f"{url}/broken")
        assert (answer.status_code, answer.json()) == (500, {"error": "unexpected error: the scheduler's log says more"})
        assert get(url).text == "hello"
    (trace,) = defects
    assert "what nobody outside need know" in trace


@pytest.mark.parametrize("bound", ["CONNECTION_SECONDS", "HEAD_SECONDS"])
def test_a_connection_ends_whatever_the_other_side_does(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """One that sends nothing, and one whose head never ends; what has a request lasts longer."""
    monkeypatch.setattr(server, bound, 0.5)
    with guarded() as url:
        for said in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "):
            with closing(connected(url)) as client:
                client.sendall(said)
                assert client.recv(1) == b""
        assert get(url).text == "hello"


def test_more_connections_than_it_holds_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And when there is room again it serves again."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    with guarded() as url:
        held = [connected(url) for _ in range(3)]
        poll(lambda: refused(url))
        for client in held:
            client.close()
        poll(lambda: not refused(url))


def refused(url: str) -> bool:
    try:
        return get(url).status_code != 200
    except httpx.HTTPError:
        return True


def test_a_head_that_is_too_large_is_refused() -> None:
    """Memory for heads is bounded."""
    with guarded() as url, closing(connected(url)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_the_end_waits_for_an_answer_in_progress_and_for_nothing_else() -> None:
    """A connection that says nothing doesn't keep it."""
    entered, released = threading.Event(), threading.Event()

    def slow(_request: Request) -> Response:
        entered.set()
        released.wait(20)
        return PlainTextResponse("done")

    answers: list[str] = []
    with listening("127.0.0.1:0") as listener, closing(socket.create_connection(listener.getsockname())):
        with serving(Starlette(routes=[Route("/", slow)]), listener) as url:
            asking = threading.Thread(target=lambda: answers.append(get(url).text))
            asking.start()
            assert entered.wait(20)
            threading.Timer(0.2, released.set).start()
            began = monotonic()
        assert monotonic() - began < 60
        asking.join()
    assert answers == ["done"]


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:x", "127.0.0.1:99999", ":9195", "127.0.0.1:", "192.0.2.1:9195"])
def test_where_it_cannot_listen_is_one_clear_error(address: str) -> None:
    """Every interface must be asked for by name: `:9195` is more likely an oversight."""
    with (
        pytest.raises(SpecError, match=r"can't listen on .*; give --listen HOST:PORT, or '' to serve nowhere"),
        listening(address),
    ):
        pass


def test_it_listens_on_the_sixth_version_too() -> None:
    """Where this machine has it."""
    if not socket.has_ipv6:
        return
    with guarded("[::1]:0") as url:
        assert url.startswith("http://[::1]:")
        assert get(url).text == "hello"
